#!/bin/bash
# A health check without curl: 0 when a GET of http://127.0.0.1:<port><path> is answered with 200, else 1.
# Usage: http-ok <port> <path>
set -euo pipefail

[ $# = 2 ] || { sed -n 's/^# Usage: /usage: /p' "$0" >&2; exit 2; }
exec 3<>"/dev/tcp/127.0.0.1/$1"
printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$2" >&3
read -r -t 4 _ status _ <&3
[ "$status" = 200 ]
