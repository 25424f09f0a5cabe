"""``python -m keymiss.api --host 127.0.0.1 --port 8081 --nodes 127.0.0.1:30001,...``

Exit codes: 0 stopped by SIGTERM or SIGINT, 1 the port cannot be used, 2 a bad setting or argument.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, Literal

import typer

from keymiss.environment import BadSetting
from keymiss.for_good import for_good
from keymiss.logs import log_as_json
from keymiss.typer_app import typer_app

app = typer_app()
KEEP_ALIVE_S = 75  # over nginx's 60, so that nginx is the one that closes an idle connection
STOP_WITHIN_S = 10


@app.command()
def api(
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="KEYMISS_API_PORT", min=0, max=65535)] = 8081,
    nodes: Annotated[str, typer.Option(help="host:port,... of the cluster; default: KEYMISS_NODES")] = "",
    log_level: Annotated[Literal["debug", "info", "warning", "error"], typer.Option()] = "info",
) -> None:
    """The HTTP service of Keymiss; runs until it is told to stop."""
    log_as_json(log_level)
    with for_good():
        import uvicorn

        from keymiss.api.app import create_app
        from keymiss.api.settings import ApiSettings
        from keymiss.graph.graph_url import BadGraphUrl, graph_url
    try:
        named = {"KEYMISS_NODES": nodes} if nodes else {}
        settings = ApiSettings.from_env({**os.environ, **named})
        graph_url()  # so that a bad one is said before anything starts
    except (BadSetting, BadGraphUrl) as error:
        print(f"keymiss.api: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again after a clean stop
    uvicorn.run(
        create_app(settings),
        host=host,
        port=port,
        http="h11",  # httptools answers a method that it does not know itself, without our body
        log_config=None,
        access_log=False,  # nginx writes one; of a question there is a line of its own
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_WITHIN_S,
        forwarded_allow_ips="127.0.0.1",
    )


if __name__ == "__main__":
    app(prog_name="python -m keymiss.api")
