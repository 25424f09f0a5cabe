#!/usr/bin/env bash
# redis-cli as the administrator of the local system, on its first node unless -p says another.
# Usage: scripts/redis-cli.sh [redis-cli's arguments]
# Settings (ports, folders): keymiss/settings.py
set -euo pipefail

cd "$(dirname "$0")/.."
file=${KEYMISS_VAR:-var}/secrets/admin
[ -r "$file" ] || {
    echo "You may not read $file, or it is not there yet: run this as root or as who started the system." >&2
    exit 2
}
REDISCLI_AUTH=$(cat "$file")
export REDISCLI_AUTH
authority=${KEYMISS_VAR:-var}/tls/ca.pem # there while the nodes speak TLS
tls=()
[ ! -e "$authority" ] || tls=(--tls --cacert "$authority")
exec redis-cli "${tls[@]}" --user admin --no-auth-warning -h "${KEYMISS_HOST:-127.0.0.1}" -p "${KEYMISS_BASE_PORT:-30001}" "$@"
