#!/bin/sh
# Prometheus's entrypoint. KEYMISS_NODES: host:port,... of the nodes that the exporter is asked for; without it
# those of prometheus/targets/redis.json. KEYMISS_WORKERS: host:port,... of the workers' metrics, in the same way.
# KEYMISS_PROMETHEUS_RETENTION: how long samples are kept.
set -eu

mkdir -p /tmp/prometheus
cp -R /etc/prometheus/. /tmp/prometheus
if [ -n "${KEYMISS_NODES:-}" ]; then
    separator='['
    for node in $(echo "$KEYMISS_NODES" | tr ',' ' '); do
        printf '%s{"targets":["redis-exporter:9121"],"labels":{"__param_target":"redis://%s","instance":"%s"}}' \
            "$separator" "$node" "$node"
        separator=','
    done >/tmp/prometheus/targets/redis.json
    echo ']' >>/tmp/prometheus/targets/redis.json
fi
if [ -n "${KEYMISS_WORKERS:-}" ]; then
    printf '[{"targets":["%s"]}]\n' "$(echo "$KEYMISS_WORKERS" | sed 's/,/","/g')" \
        >/tmp/prometheus/targets/keymiss-worker.json
fi
exec prometheus --config.file=/tmp/prometheus/prometheus.yml --storage.tsdb.path=/data \
    --storage.tsdb.retention.time="${KEYMISS_PROMETHEUS_RETENTION:-15d}" --web.listen-address=0.0.0.0:9090 \
    --log.format=json "$@"
