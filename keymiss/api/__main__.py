"""``python -m keymiss.api --host 127.0.0.1 --port 8081 --nodes 127.0.0.1:30001,...``

Exit codes: 0 stopped by SIGTERM or SIGINT, 1 the port cannot be used, 2 a bad setting or argument.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

import uvicorn

from keymiss.api.app import create_app
from keymiss.api.settings import ApiSettings
from keymiss.environment import BadSetting
from keymiss.graph.graph_url import BadGraphUrl, graph_url
from keymiss.logs import log_as_json

KEEP_ALIVE_S = 75  # over nginx's 60, so that nginx is the one that closes an idle connection
STOP_WITHIN_S = 10


def main(arguments: list[str] | None = None) -> int:
    """Runs the service until it is told to stop."""
    parser = argparse.ArgumentParser(prog="python -m keymiss.api", description="The HTTP service of Keymiss.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=os.environ.get("KEYMISS_API_PORT", "8081"))
    parser.add_argument("--nodes", help="host:port,... of the cluster (default KEYMISS_NODES)")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    given = parser.parse_args(arguments)
    log_as_json(given.log_level)
    try:
        named = {"KEYMISS_NODES": given.nodes} if given.nodes else {}
        settings = ApiSettings.from_env({**os.environ, **named})
        graph_url()  # so that a bad one is said before anything starts
    except (BadSetting, BadGraphUrl) as error:
        print(f"keymiss.api: {error}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again after a clean stop
    uvicorn.run(
        create_app(settings),
        host=given.host,
        port=given.port,
        log_config=None,
        access_log=False,  # nginx writes one; of a question there is a line of its own
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_WITHIN_S,
        forwarded_allow_ips="127.0.0.1",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
