#!/usr/bin/env bash
# Says how the processes and the nodes are; exit code 1 when something does not run.
# Usage: scripts/status.sh [--watch [--interval-s 2]] [--json] [--nodes host:port,...]
# Settings (ports, folders): keymiss/settings.py
set -euo pipefail

exec "$(dirname "$0")/keymiss" status "$@"
