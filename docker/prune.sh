#!/bin/sh
# Removes from installed Python packages what nothing reads when they run: their tests, torch's headers and tools.
# Usage: prune.sh <folder>
set -eu

[ $# = 1 ] || { sed -n 's/^# Usage: /usage: /p' "$0" >&2; exit 2; }
packages=$1/lib/python3.11/site-packages

rm -rf "$packages/torch/test" "$packages/torch/include" "$packages/torch/share"
find "$packages/torch/bin" -type f ! -name torch_shm_manager -delete 2>/dev/null || true # torch looks for that one
find "$packages" -depth -type d \( -name tests -o -name __pycache__ \) -exec rm -rf {} +
find "$packages" -type f \( -name '*.a' -o -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' \) -delete
