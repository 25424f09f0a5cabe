#!/bin/sh
# The exporter's entrypoint: Prometheus says which node it asks; the user is KEYMISS_REDIS_USERNAME.
set -eu

REDIS_USER=$KEYMISS_REDIS_USERNAME
REDIS_PASSWORD=$(head -n 1 /secrets/password)
export REDIS_USER REDIS_PASSWORD
exec prometheus-redis-exporter -redis.addr= -web.listen-address 0.0.0.0:9121 -log-format json "$@"
