#!/usr/bin/env bash
# Makes the lock files with hashes from pyproject.toml: requirements.lock (everything), requirements-dev.lock (what the
# tests need besides), requirements-valkey9.lock (the server of --server valkey9), requirements-audit.lock (what
# scripts/audit.sh runs), requirements-haystack.lock (what scripts/bench.py --haystack compares with) and those of the
# containers' images, parts of the first and held to its versions.
# Needs pip-tools in a Python no newer than the oldest that runs this (Debian 12: 3.11.2). torch is pinned to its CPU build: its
# builds for GPUs bring gigabytes of libraries.
set -euo pipefail

[ $# = 0 ] || { echo "usage: $0 (no arguments)" >&2; exit 2; }
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH

# $1: the lock file; the rest: which extras or groups.
lock() {
    pip-compile -q --generate-hashes --strip-extras --allow-unsafe --no-header --no-emit-index-url \
        --no-emit-find-links --no-emit-trusted-host -o "$@"
    # An extra that names others of ours puts keymiss itself into the file.
    awk '/^# WARNING/ {skip = 1} /^[a-z]/ {skip = /^keymiss @/} !skip' "$1" >"$1.new"
    mv "$1.new" "$1"
}

lock requirements.lock --extra all pyproject.toml
lock requirements-dev.lock -c requirements.lock --extra dev pyproject.toml
lock requirements-api.lock -c requirements.lock --extra api pyproject.toml
lock requirements-worker.lock -c requirements.lock --extra worker --extra spelling pyproject.toml
lock requirements-valkey9.lock -c requirements.lock --extra valkey9 pyproject.toml
lock requirements-audit.lock requirements-audit.in
lock requirements-loader.lock -c requirements.lock --extra load --extra spelling pyproject.toml
lock requirements-haystack.lock requirements-haystack.in
