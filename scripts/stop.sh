#!/usr/bin/env bash
# Stops what scripts/start.sh or bootstrap_benchmark.sh started from this folder, and nothing else. Data is kept.
# Usage: scripts/stop.sh
# Settings (ports, folders): keymiss/settings.py
set -euo pipefail

exec "$(dirname "$0")/keymiss" down "$@"
