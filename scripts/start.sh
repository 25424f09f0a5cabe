#!/usr/bin/env bash
# Starts the cluster, the worker, the API and nginx; sets up what is missing first. Data is kept.
# --observe: Prometheus, the Redis exporter and (if it is installed) Grafana too, also beside a system that runs.
# --tls: the nodes speak TLS only, from this start on; --no-tls ends that.
# Usage: scripts/start.sh [--masters N] [--replicas N] [--server redis|valkey|valkey9] [--tls|--no-tls] [--observe]
# Settings (ports, folders): keymiss/settings.py
set -euo pipefail

# shellcheck source=scripts/setup.sh
source "$(dirname "$0")/setup.sh"
read_options "$@"
set_up
keymiss up --no-load
