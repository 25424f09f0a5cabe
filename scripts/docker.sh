#!/usr/bin/env bash
# From a clone to an answer in containers: builds the images, starts docker-compose.yml, loads, asks. The system is
# left running. Quick when it is run again. ./bootstrap_benchmark.sh --docker runs this.
# Usage: scripts/docker.sh (no arguments)
# Needs a container engine, its command `docker`, docker-compose (1.29 or 2), and curl. Settings: docs/containers.md
#
#   KEYMISS_DOCKER_TIMEOUT_S  how long to wait for the start, and again for the loader
set -euo pipefail

QUESTION="Who performs viral transmission among adults?"
TIMEOUT_S=${KEYMISS_DOCKER_TIMEOUT_S:-900}
BUILT=(init shard-1 api worker loader nginx prometheus redis-exporter) # one service of each image

[ $# = 0 ] || { sed -n 's/^# Usage: /usage: /p' "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
# What compose reads from .env, this script must know too.
setting() {
    local value=${!1:-}
    [ -n "$value" ] || value=$(sed -n "s/^$1=//p" .env 2>/dev/null | tail -n 1)
    echo "${value:-$2}"
}
URL=https://localhost:$(setting KEYMISS_HTTPS_PORT 8080)

give_up() {
    echo "$*" >&2
    exit 2
}

find_compose() {
    command -v curl >/dev/null || give_up "curl is not installed: install it with your package manager."
    command -v docker >/dev/null ||
        give_up "The command docker is not installed: install Docker (Debian: docker.io docker-compose) or Podman's docker command."
    docker version >/dev/null 2>&1 ||
        give_up "docker finds no engine: start it, or say where it is with DOCKER_HOST (docker version says more)."
    if docker compose version >/dev/null 2>&1; then
        compose=(docker compose)
    elif command -v docker-compose >/dev/null; then
        compose=(docker-compose)
    else
        give_up "docker-compose is not installed: install it (Debian: docker-compose), or Docker's compose plugin."
    fi
}

# docker-compose 1.29 with Podman's engine needs a word more about the networks.
suit_podman() {
    [ -z "${COMPOSE_FILE:-}" ] && [ "${compose[*]}" = docker-compose ] || return 0
    docker-compose version --short 2>/dev/null | grep -q '^1\.' || return 0
    docker version 2>/dev/null | grep -qi podman || return 0
    COMPOSE_FILE=docker-compose.yml:compose.podman.yml
    [ ! -e docker-compose.override.yml ] || COMPOSE_FILE=$COMPOSE_FILE:docker-compose.override.yml
    export COMPOSE_FILE
    echo "Podman: for the lines below, first  export COMPOSE_FILE=$COMPOSE_FILE"
}

# Of each container of this project: service, state, health, exit code.
states() {
    local ids
    ids=$("${compose[@]}" ps -a -q 2>/dev/null) || return 0
    [ -n "$ids" ] || return 0
    # shellcheck disable=SC2086
    docker inspect --format '{{index .Config.Labels "com.docker.compose.service"}} {{.State.Status}} {{if .State.Health}}{{or .State.Health.Status "-"}}{{else}}-{{end}} {{.State.ExitCode}}' $ids 2>/dev/null || true
}

# What is not as it should be yet, one service a line.
waiting_for() {
    states | while read -r service state health code; do
        case $service:$state:$code in
            init:exited:0 | cluster:exited:0 | loader:exited:0) ;;
            init:* | cluster:* | loader:*) echo "$service" ;;
            *:running:*) case $health in healthy | -) ;; *) echo "$service" ;; esac ;;
            *) echo "$service" ;;
        esac
    done | sort -V | tr '\n' ' '
}

# The end of the logs of what failed, or of all when nothing did by itself.
show_logs() {
    local bad
    bad=$(states | awk '$3 == "unhealthy" || ($2 == "exited" && $4 != 0) || $2 == "restarting" {print $1}' | sort -u)
    echo "-- the end of the logs of: ${bad:-every service}" >&2
    # shellcheck disable=SC2086
    "${compose[@]}" logs --no-color --tail 20 $bad >&2 || true
}

failed() {
    echo "$*" >&2
    show_logs
    exit 1
}

# $1: a process of ours; $2: what it does. Waits for it, and says now and then what else that waits for.
watch_over() {
    local deadline=$((SECONDS + TIMEOUT_S)) said="" now
    while kill -0 "$1" 2>/dev/null; do
        if [ $SECONDS -ge $deadline ]; then
            kill "$1" 2>/dev/null || true
            failed "$2: not within $TIMEOUT_S s; still not ready: $(waiting_for)"
        fi
        now=$(waiting_for)
        if [ -n "$now" ] && [ "$now" != "$said" ]; then
            echo "   waiting for: $now"
            said=$now
        fi
        sleep 2
    done
    wait "$1" || failed "$2: failed"
}

find_compose
suit_podman
log=$(mktemp)
trap 'rm -f "$log"' EXIT

echo "== 1/5 images"
"${compose[@]}" build "${BUILT[@]}" >"$log" 2>&1 || {
    tail -n 30 "$log" >&2
    give_up "The images could not be built: see the words above."
}
services=()
grafana=no
for service in $("${compose[@]}" config --services); do
    case $service in
        grafana) grafana=yes ;;
        cli) ;;
        *) services+=("$service") ;;
    esac
done
if [ $grafana = yes ]; then
    image=grafana/grafana:$(setting KEYMISS_GRAFANA_VERSION "$(sed -n 's/.*KEYMISS_GRAFANA_VERSION:-\([^}]*\)}.*/\1/p' docker-compose.yml)")
    if docker image inspect "$image" >/dev/null 2>&1 || docker pull -q "$image" >/dev/null 2>&1; then
        services+=(grafana)
    else
        echo "grafana is left out: its image $image cannot be pulled here. $URL/watch shows the same dashboards."
    fi
fi

echo "== 2/5 start"
"${compose[@]}" up -d "${services[@]}" >"$log" 2>&1 &
watch_over $! "docker-compose up"

echo "== 3/5 models, functions, articles"
loader=$("${compose[@]}" ps -a -q loader | head -n 1)
docker wait "$loader" >"$log" &
watch_over $! "the loader"
[ "$(tail -n 1 "$log")" = 0 ] || failed "The loader failed."
"${compose[@]}" logs --no-color --tail 200 loader |
    sed -n -E 's/^[^|]*\| ?([0-9]+ (masters|articles|concepts|sentences).*)/\1/p' | tail -n 5

echo "== 4/5 a question"
deadline=$((SECONDS + TIMEOUT_S))
until curl -sk -o /dev/null --fail "$URL/readyz"; do
    [ $SECONDS -lt $deadline ] || failed "Not ready after $TIMEOUT_S s: $(curl -sk "$URL/readyz")"
    sleep 1
done
body="{\"search\":\"$QUESTION\"}"
echo "curl -k -H \"Content-Type: application/json\" -X POST -d '$body' $URL/qasearch"
answer=$(curl -sS -k -H "Content-Type: application/json" -X POST -d "$body" "$URL/qasearch")
echo "$answer" | cut -c 1-2000
case $answer in
    *'"results":[{'*) ;;
    *) failed "There is no answer." ;;
esac

echo "== 5/5 images"
"${compose[@]}" config | sed -n 's/^ *image: *//p' | tr -d "\"'" | sort -u | while read -r image; do
    docker image inspect --format "{{.Size}} $image" "$image" 2>/dev/null || true
done | awk 'NF == 2 {printf "%8.0f MB  %s\n", $1 / 1e6, $2}'
echo "total time: $SECONDS s"

cat <<HINTS

Keymiss runs in containers and stays running. Go on (in this folder):
  the page         $URL/
  one question     ${compose[*]} logs --no-color nginx api worker | grep <X-Request-ID of its reply>
  how it is        ${compose[*]} ps
  logs             ${compose[*]} logs -f --tail 20 worker
  redis-cli        ${compose[*]} run --rm cli cluster nodes
  the pipeline     ${compose[*]} run --rm loader python -m keymiss.cli pipeline
  stop, start      ${compose[*]} stop; ${compose[*]} start   (down removes the containers, down -v the data too)
HINTS
