#!/usr/bin/env bash
# Says how the processes and the nodes are; exit code 1 when something does not run.
# Usage: scripts/status.sh [--watch [--interval-s 2]] [--json] [--nodes host:port,...]
# Settings (ports, folders): keymiss/settings.py
set -euo pipefail

cd "$(dirname "$0")/.."
# shellcheck source=scripts/setup.sh
source scripts/setup.sh
[ -x "$VENV/bin/python" ] || { echo "Nothing was set up in this folder yet: scripts/start.sh does it." >&2; exit 2; }
keymiss status "$@"
