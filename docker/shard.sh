#!/bin/sh
# A shard's entrypoint. KEYMISS_ADDRESS: the container's fixed address, which the other nodes know it by.
# KEYMISS_NODE_TIMEOUT_MS: silent for so long, a master is replaced by its replica. Longer than in the local system:
# with a CPU limit and a slow disk, a master that takes in a model of 100 MB is silent for seconds.
# More settings of the server may follow as arguments (--keymiss.queue-limit 1000).
set -eu
umask 077

: "${KEYMISS_ADDRESS:?the address of this shard}"
{
    cat "$(dirname "$0")/shard.conf"
    echo "cluster-announce-ip $KEYMISS_ADDRESS"
    echo "cluster-node-timeout ${KEYMISS_NODE_TIMEOUT_MS:-10000}"
    echo "masterauth \"$(head -n 1 /secrets/password | sed 's/[\\"]/\\&/g')\""
} >/tmp/redis.conf
exec redis-server /tmp/redis.conf "$@"
