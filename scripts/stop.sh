#!/usr/bin/env bash
# Stops what scripts/start.sh or bootstrap_benchmark.sh started from this folder, and nothing else. Data is kept.
# Usage: scripts/stop.sh
# Settings (ports, folders): keymiss/settings.py
set -euo pipefail

[ $# = 0 ] || { echo "usage: $0 (no arguments)" >&2; exit 2; }
cd "$(dirname "$0")/.."
# shellcheck source=scripts/setup.sh
source scripts/setup.sh
[ -x "$VENV/bin/python" ] || { echo "Nothing was set up in this folder yet: scripts/start.sh does it." >&2; exit 2; }
keymiss stop
