#!/bin/sh
# redis-cli as the user KEYMISS_REDIS_USERNAME, whose password is in the file /secrets/password.
set -eu

REDISCLI_AUTH=$(head -n 1 /secrets/password)
export REDISCLI_AUTH
exec redis-cli --user "$KEYMISS_REDIS_USERNAME" --no-auth-warning "$@"
