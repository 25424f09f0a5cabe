#!/usr/bin/env bash
# Starts the cluster, the worker, the API and nginx; sets up what is missing first. Data is kept.
# --observe: Prometheus, the Redis exporter and (if it is installed) Grafana too, also beside a system that runs.
# Usage: scripts/start.sh [--masters N] [--replicas N] [--server redis|valkey] [--observe]
# Settings (ports, folders): keymiss/settings.py
set -euo pipefail

usage() {
    echo "usage: $0 [--masters N] [--replicas N (of each master)] [--server redis|valkey] [--observe]" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    if [ "$1" = --observe ]; then
        export KEYMISS_OBSERVE=yes
        shift
        continue
    fi
    [ $# -ge 2 ] || usage
    case $1 in
        --masters) export KEYMISS_MASTERS=$2 ;;
        --replicas) export KEYMISS_REPLICAS=$2 ;;
        --server) export KEYMISS_SERVER=$2 ;;
        *) usage ;;
    esac
    shift 2
done

cd "$(dirname "$0")/.."
# shellcheck source=scripts/setup.sh
source scripts/setup.sh
set_up
keymiss start
