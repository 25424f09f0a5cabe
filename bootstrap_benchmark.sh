#!/usr/bin/env bash
# From a clone to an answer: sets up, starts, loads, registers, asks, benchmarks. The system is left running.
# Usage: ./bootstrap_benchmark.sh [--masters N] [--replicas N (of each master)] [--server redis|valkey] [--observe]
# Usage: ./bootstrap_benchmark.sh --docker   (the same in containers, without a benchmark: scripts/docker.sh)
# Quick when it is run again. Settings (ports, folders, model): keymiss/settings.py and README.md
set -euo pipefail

QUESTION="Who performs viral transmission among adults"
CORPUS=data/sample
PROCESS_TIMEOUT_S=600
READY_TIMEOUT_S=120

usage() {
    sed -n 's/^# Usage: /usage: /p' "$0" >&2
    exit 2
}

if [ "${1:-}" = --docker ]; then
    [ $# = 1 ] || usage
    exec "$(dirname "$0")/scripts/docker.sh"
fi

while [ $# -gt 0 ]; do
    if [ "$1" = --observe ]; then # Prometheus, the Redis exporter, and Grafana if it is installed
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

cd "$(dirname "$0")"
# shellcheck source=scripts/setup.sh
source scripts/setup.sh
MODEL=${KEYMISS_MODEL:-models/reader}
HTTPS_PORT=${KEYMISS_HTTPS_PORT:-8080}
BASE_PORT=${KEYMISS_BASE_PORT:-30001}
URL=https://localhost:$HTTPS_PORT
export PYTHONPATH=$KEYMISS_HOME

echo "== 1/7 set up"
set_up
keymiss preflight

echo "== 2/7 start"
keymiss start

echo "== 3/7 model: $MODEL"
"$VENV/bin/python" -m keymiss.models.load --model "$MODEL"
"$VENV/bin/python" -m keymiss.models.load_encoder

echo "== 4/7 functions"
keymiss gears upload gears/*.py

echo "== 5/7 articles: $CORPUS"
keymiss concepts load "$CORPUS/concepts.csv"
keymiss load --timeout-s "$PROCESS_TIMEOUT_S" "$CORPUS"
keymiss pipeline

echo "== 6/7 a question"
deadline=$((SECONDS + READY_TIMEOUT_S))
until curl -sk -o /dev/null --fail "$URL/readyz"; do
    [ $SECONDS -lt $deadline ] || {
        curl -sk "$URL/readyz" >&2 || true
        echo "The system is not ready after $READY_TIMEOUT_S s; see var/log." >&2
        exit 1
    }
    sleep 1
done
body="{\"search\":\"$QUESTION\"}"
echo "curl -k -H \"Content-Type: application/json\" -X POST -d '$body' $URL/qasearch"
answer=$(curl -sS -k -H "Content-Type: application/json" -X POST -d "$body" "$URL/qasearch")
echo "$answer" | "$VENV/bin/python" -m json.tool --no-ensure-ascii
echo "$answer" | "$VENV/bin/python" -c '
import json, sys
results = json.load(sys.stdin).get("results")
sys.exit(0 if results else "There is no answer; see var/log/api.log and var/log/worker.log.")'

echo "== 7/7 a short benchmark"
"$VENV/bin/python" scripts/benchmark.py --question "$QUESTION" --url "$URL" --model "$MODEL"

WATCH=$URL/watch
[ "$KEYMISS_OBSERVE" = yes ] || WATCH="scripts/start.sh --observe, then $WATCH"
cat <<HINTS

Keymiss runs and stays running. Go on:
  ask            curl -k -H "Content-Type: application/json" -X POST -d '{"search":"How long does influenza virus survive on surfaces"}' $URL/qasearch
  the API        $URL/docs
  a GET that     redis-cli -c -p $BASE_PORT get "bertqa{tag}_<sentencekey>_<question>"
  misses         (sentencekey as in an answer above, {tag} the same as in it)
  the page       $URL/
  watch it       $WATCH
  load articles  .venv/bin/python -m keymiss.cli load <folder with CORD-19 JSON files>
  the pipeline   .venv/bin/python -m keymiss.cli pipeline
  benchmark      redis-benchmark -p <port of the key's shard> -c 50 get "bertqa..."
  administer     scripts/redis-cli.sh (redis-cli as admin: who says nothing may read and ask)
  status, logs   scripts/status.sh; var/log/
  stop, start    scripts/stop.sh; scripts/start.sh (the data stays)
HINTS
