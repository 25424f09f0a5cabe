# The images of docker-compose.yml, one target each: init shard api worker loader nginx prometheus redis-exporter.
#     docker build --target shard -t keymiss-shard .
# Debian's packages as the release gives them, Python's by lock files with hashes. Nothing runs as root, and no
# image has a password, a key or a certificate in it: docker/init.sh makes them into volumes.
#
# KEYMISS_PIP_ARGS and KEYMISS_TORCH_INDEX: as scripts/setup.sh has them.

FROM debian:bookworm-slim AS base
# One user in all images, so that a volume is its owner's whichever of them made it.
RUN groupadd --gid 10001 keymiss \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin keymiss \
    && mkdir /secrets \
    && chown keymiss:keymiss /secrets
COPY docker/apt-install.sh /usr/local/bin/apt-install
COPY docker/http-ok.sh /usr/local/bin/http-ok


FROM base AS module
RUN apt-install gcc libc6-dev make
COPY module /src/module
RUN make -C /src/module && strip --strip-unneeded /src/module/keymiss.so


FROM base AS init
RUN apt-install openssl
COPY docker/init.sh acl/users.acl.template /usr/local/lib/keymiss/
RUN mkdir -p /secrets/shard /secrets/admin /secrets/worker /secrets/api /secrets/monitor /secrets/tls /given \
    && chown -R keymiss:keymiss /secrets
USER 10001:10001
ENTRYPOINT ["/usr/local/lib/keymiss/init.sh"]


FROM base AS shard
RUN apt-install redis-server redis-tools \
    && mkdir -p /data && mkdir -m 700 /blobs \
    && chown keymiss:keymiss /data /blobs
COPY --from=module /src/module/keymiss.so /usr/local/lib/keymiss/keymiss.so
COPY docker/shard.sh docker/shard.conf docker/redis-cli.sh /usr/local/lib/keymiss/
WORKDIR /data
USER 10001:10001
ENTRYPOINT ["/usr/local/lib/keymiss/shard.sh"]


FROM base AS nginx
RUN apt-install gettext-base nginx-light openssl
COPY nginx/page /usr/local/share/keymiss/page
COPY nginx/nginx.conf.template docker/nginx.sh /usr/local/lib/keymiss/
USER 10001:10001
STOPSIGNAL SIGQUIT
ENTRYPOINT ["/usr/local/lib/keymiss/nginx.sh"]


# Debian's prometheus brings 220 MB of scripts for its own pages, which nobody sees here: only the programs are taken.
FROM base AS watching
RUN apt-install prometheus prometheus-redis-exporter


FROM base AS prometheus
COPY --from=watching /usr/bin/prometheus /usr/bin/promtool /usr/bin/
COPY prometheus /etc/prometheus
COPY docker/prometheus.sh /usr/local/lib/keymiss/
RUN mkdir -p /data && chown keymiss:keymiss /data
USER 10001:10001
ENTRYPOINT ["/usr/local/lib/keymiss/prometheus.sh"]


FROM base AS redis-exporter
COPY --from=watching /usr/bin/prometheus-redis-exporter /usr/bin/
COPY docker/redis-exporter.sh /usr/local/lib/keymiss/
USER 10001:10001
ENTRYPOINT ["/usr/local/lib/keymiss/redis-exporter.sh"]


FROM base AS python
RUN apt-install python3.11
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1


# Has pip, and an environment without pip that the packages go into.
FROM python AS packages
ARG KEYMISS_PIP_ARGS=""
ARG KEYMISS_TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN apt-install ca-certificates python3.11-venv \
    && python3.11 -m venv /opt/pip \
    && python3.11 -m venv --without-pip /opt/keymiss/venv
COPY docker/install.sh docker/prune.sh /usr/local/lib/keymiss/

FROM packages AS api-packages
COPY requirements-api.lock /tmp/
RUN /usr/local/lib/keymiss/install.sh /opt/keymiss/venv /tmp/requirements-api.lock

FROM packages AS worker-packages
COPY requirements-worker.lock /tmp/
RUN /usr/local/lib/keymiss/install.sh /opt/keymiss/venv /tmp/requirements-worker.lock

# What the loader has more than the worker lies beside it, so that their images share the rest.
FROM worker-packages AS loader-packages
COPY requirements-loader.lock /tmp/
RUN /usr/local/lib/keymiss/install.sh /opt/keymiss/more /tmp/requirements-loader.lock


FROM python AS api
COPY --from=api-packages /opt/keymiss/venv /opt/keymiss/venv
COPY keymiss /opt/keymiss/app/keymiss
COPY grafana/dashboards /opt/keymiss/app/grafana/dashboards
ENV PATH=/opt/keymiss/venv/bin:$PATH PYTHONPATH=/opt/keymiss/app
WORKDIR /opt/keymiss/app
USER 10001:10001
ENTRYPOINT ["python", "-m", "keymiss.api"]
CMD ["--host", "0.0.0.0"]


FROM python AS torch
COPY --from=worker-packages /opt/keymiss/venv /opt/keymiss/venv
ENV PATH=/opt/keymiss/venv/bin:$PATH PYTHONPATH=/opt/keymiss/app
WORKDIR /opt/keymiss/app


FROM torch AS worker
COPY keymiss /opt/keymiss/app/keymiss
USER 10001:10001
ENTRYPOINT ["python", "-m", "keymiss.worker"]


# Stores models, functions and articles, and creates the cluster.
FROM torch AS loader
COPY --from=loader-packages /opt/keymiss/more /opt/keymiss/more
COPY keymiss /opt/keymiss/app/keymiss
COPY models /opt/keymiss/app/models
COPY gears /opt/keymiss/app/gears
COPY data/sample /opt/keymiss/app/data/sample
COPY docker/loader.sh /usr/local/lib/keymiss/
RUN mkdir -p /opt/keymiss/app/var/models && chown keymiss:keymiss /opt/keymiss/app/var/models
ENV PYTHONPATH=/opt/keymiss/app:/opt/keymiss/more/lib/python3.11/site-packages HOME=/tmp
USER 10001:10001
ENTRYPOINT ["/usr/local/lib/keymiss/loader.sh"]
