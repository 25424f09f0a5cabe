#!/bin/sh
# nginx's entrypoint: fills in nginx.conf.template. KEYMISS_API_ADDRESS: host:port of the API.
set -eu

mkdir -p /tmp/nginx
export LISTEN=8443 API="${KEYMISS_API_ADDRESS:-api:8081}" TLS_CERT=/secrets/cert.pem TLS_KEY=/secrets/key.pem
export PAGE=/usr/local/share/keymiss/page VAR=/tmp/nginx ACCESS_LOG=/dev/stdout ERROR_LOG=stderr USER=""
# shellcheck disable=SC2016
envsubst '$LISTEN $API $TLS_CERT $TLS_KEY $PAGE $VAR $ACCESS_LOG $ERROR_LOG $USER' \
    <"$(dirname "$0")/nginx.conf.template" >/tmp/nginx/nginx.conf
exec nginx -p /tmp/nginx -e stderr -c /tmp/nginx/nginx.conf
