#!/usr/bin/env bash
# From a clone to an answer: sets up, starts, loads, registers, asks, benchmarks. The system is left running.
# Usage: ./bootstrap_benchmark.sh [--masters N] [--replicas N (of each master)] [--server redis|valkey|valkey9] [--tls] [--observe]
# Usage: ./bootstrap_benchmark.sh --docker   (the same in containers, without a benchmark: scripts/docker.sh)
# Quick when it is run again. Settings (ports, folders, model): keymiss/settings.py and README.md
set -euo pipefail

if [ "${1:-}" = --docker ] && [ $# = 1 ]; then
    exec "$(dirname "$0")/scripts/docker.sh"
fi
# shellcheck source=scripts/setup.sh
source "$(dirname "$0")/scripts/setup.sh"
read_options "$@"
BASE_PORT=${KEYMISS_BASE_PORT:-30001}
URL=https://localhost:${KEYMISS_HTTPS_PORT:-8080}
cd "$KEYMISS_HOME"

echo "== 1/3 set up"
set_up

echo "== 2/3 start, load, ask"
keymiss up --sample

echo "== 3/3 a short benchmark"
PYTHONPATH=$KEYMISS_HOME "$VENV/bin/python" scripts/benchmark.py

TLS=$([ ! -e "${KEYMISS_VAR:-var}/tls/ca.pem" ] || echo "--tls --cacert ${KEYMISS_VAR:-var}/tls/ca.pem ")
WATCH=$URL/watch
[ "$KEYMISS_OBSERVE" = yes ] || WATCH="scripts/start.sh --observe, then $WATCH"
cat <<HINTS

Keymiss runs and stays running. Go on:
  ask            scripts/keymiss ask "How long does influenza virus survive on surfaces"
  the API        $URL/docs
  a GET that     redis-cli -c $TLS-p $BASE_PORT get "bertqa{tag}_<sentencekey>_<question>"
  misses         (sentencekey as in an answer above, {tag} the same as in it)
  the page       $URL/
  watch it       $WATCH
  load articles  scripts/keymiss load <folder with CORD-19 JSON files>
  the pipeline   scripts/keymiss pipeline
  benchmark      redis-benchmark $TLS-p <port of the key's shard> -c 50 get "bertqa..."
  administer     scripts/redis-cli.sh (redis-cli as admin: who says nothing may read and ask)
  status, logs   scripts/status.sh; var/log/
  stop, start    scripts/stop.sh; scripts/start.sh (the data stays)
HINTS
