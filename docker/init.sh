#!/bin/sh
# Makes what is secret, each thing into the volume of the services that need it, and only where it is not there:
# passwords of the ACL users, the servers' ACL file, a TLS certificate. Runs before everything else.
#
# Given ones are taken instead of random ones, every time: files in /given, named as the users (admin, worker,
# api, replica, monitor), cert.pem and key.pem; or the variables KEYMISS_ADMIN_PASSWORD, KEYMISS_WORKER_PASSWORD, ...
set -eu
umask 077

SECRETS=${KEYMISS_SECRETS:-/secrets}
GIVEN=${KEYMISS_GIVEN:-/given}
TEMPLATE=${KEYMISS_ACL_TEMPLATE:-$(dirname "$0")/users.acl.template} # acl/users.acl.template

# user:volume; the replicas log in to their masters, so theirs is the servers'.
USERS="admin:admin worker:worker api:api replica:shard monitor:monitor"

# $1: a user. What was given for it, or nothing.
given_for() {
    if [ -s "$GIVEN/$1" ]; then
        head -n 1 "$GIVEN/$1"
    else
        printenv "KEYMISS_$(echo "$1" | tr '[:lower:]' '[:upper:]')_PASSWORD" || true
    fi
}

# $1: a file; its text comes on stdin. In one step, and only when it is another text.
replace() {
    cat >"$1.new"
    if [ -e "$1" ] && cmp -s "$1.new" "$1"; then rm "$1.new"; else mv "$1.new" "$1"; fi
}

rules=$(grep -v '^ *$' "$TEMPLATE")
for pair in $USERS; do
    user=${pair%%:*}
    file=$SECRETS/${pair#*:}/password
    given=$(given_for "$user")
    if [ -n "$given" ]; then
        printf '%s\n' "$given" | replace "$file"
    elif [ ! -s "$file" ]; then
        openssl rand -hex 32 | replace "$file"
    fi
    digest=$(head -n 1 "$file" | tr -d '\r\n' | sha256sum | cut -d ' ' -f 1)
    rules=$(printf '%s\n' "$rules" | sed "s/{$user}/$digest/")
done
case $rules in
    *'{'*) echo "init: $TEMPLATE has a user without a password" >&2; exit 1 ;;
esac
printf '%s\n' "$rules" | replace "$SECRETS/shard/users.acl"

certificate=$SECRETS/tls/cert.pem key=$SECRETS/tls/key.pem
if [ -s "$GIVEN/cert.pem" ] && [ -s "$GIVEN/key.pem" ]; then
    replace "$key" <"$GIVEN/key.pem"
    replace "$certificate" <"$GIVEN/cert.pem"
elif [ ! -s "$certificate" ] || [ ! -s "$key" ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$key" -out "$certificate" 2>/dev/null
fi
echo '{"level":"info","event":"secrets_ready"}'
