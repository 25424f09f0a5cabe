#!/usr/bin/env bash
# Makes the lock files from requirements.in, requirements-dev.in and, for the images of the containers, parts of the
# first (requirements-api.in, -worker.in, -loader.in), each held to its versions. Needs pip-tools in .venv.
# torch is pinned to its CPU build: its builds for GPUs bring gigabytes of libraries.
set -euo pipefail

[ $# = 0 ] || { echo "usage: $0 (no arguments)" >&2; exit 2; }
cd "$(dirname "$0")/.."
for name in requirements requirements-dev requirements-api requirements-worker requirements-loader; do
    .venv/bin/pip-compile -q --generate-hashes --strip-extras --allow-unsafe --no-header --no-emit-index-url \
        --no-emit-find-links --no-emit-trusted-host -o "$name.lock" "$name.in"
done
