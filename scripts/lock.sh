#!/usr/bin/env bash
# Makes the lock files from requirements.in and requirements-dev.in (needs pip-tools in .venv).
# torch is pinned to its CPU build: its builds for GPUs bring gigabytes of libraries.
set -euo pipefail

[ $# = 0 ] || { echo "usage: $0 (no arguments)" >&2; exit 2; }
cd "$(dirname "$0")/.."
for name in requirements requirements-dev; do
    .venv/bin/pip-compile -q --generate-hashes --strip-extras --allow-unsafe --no-header --no-emit-index-url \
        --no-emit-find-links --no-emit-trusted-host -o "$name.lock" "$name.in"
done
