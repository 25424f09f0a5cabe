"""`python -m keymiss.local.exporter <host:port>`: becomes the Redis exporter that listens there.

It logs in to the nodes as this process would (keymiss/cluster/credentials.py): the password goes by the
environment, so that neither a command line nor a file of the supervisor has it. Prometheus says which node it
wants.
"""

from __future__ import annotations

import os
import sys

from keymiss.cluster.credentials import Credentials
from keymiss.environment import BadSetting
from keymiss.local.observe import find_exporter


def main() -> None:
    """Does not return. Exit code 2 for a bad setting, or when there is no exporter."""
    exporter = find_exporter()
    if len(sys.argv) != 2 or not exporter:
        print(
            "usage: python -m keymiss.local.exporter <host:port>; needs prometheus-redis-exporter",
            file=sys.stderr,
        )
        sys.exit(2)
    try:
        credentials = Credentials.from_env()
    except BadSetting as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    environment = dict(os.environ)
    if credentials.username:
        environment["REDIS_USER"] = credentials.username
    if credentials.password:
        environment["REDIS_PASSWORD"] = credentials.password
    if tls := credentials.tls:
        environment["REDIS_EXPORTER_TLS_CA_CERT_FILE"] = tls.ca
        environment["REDIS_EXPORTER_TLS_CLIENT_CERT_FILE"] = tls.certificate
        environment["REDIS_EXPORTER_TLS_CLIENT_KEY_FILE"] = tls.key
    command = [exporter, "-redis.addr=", "-web.listen-address", sys.argv[1], "-log-format", "json"]
    os.execve(exporter, command, environment)


if __name__ == "__main__":
    main()
