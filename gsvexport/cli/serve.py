"""`gsvexport serve`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from gsvexport.cli.echo import echo
from gsvexport.cli.numbers import Finite
from gsvexport.errors import missing_package

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("voices", nargs=-1, metavar="[REPOSITORY|FOLDER|ARTIFACT]…")
@click.option("--config", type=_PATH, metavar="FILE", help="Settings as TOML; the command line goes before it.")
@click.option("--host", help="Address to listen at; another than loopback needs an API key. [default: 127.0.0.1]")
@click.option("--port", type=int, help="0 takes a free one. [default: 8000]")
@click.option("--api-key-file", type=_PATH, metavar="FILE", help="Holds the key that callers have to send.")
@click.option("--memory", metavar="SIZE", help="That the process may grow by for open voices. [default: 2G]")
@click.option("--pin", multiple=True, metavar="VOICE", help="Open it at the start, and never close it.")
@click.option("--alias", "aliases", multiple=True, metavar="NAME=VOICE", help="Another name for a voice: alloy=alice.")
@click.option("--allow-unsigned", is_flag=True, default=None, help="Also what no trusted key signed.")
@click.option("--allow-unverified", is_flag=True, default=None, help="Also what has not passed its verification.")
@click.option("--any-machine", is_flag=True, default=None, help="Also what was made for another processor.")
@click.option("--allow-older", is_flag=True, default=None, help="Also a version older than one pulled before.")
@click.option("--watch", type=Finite(), metavar="SECONDS", help="Between looks for new voices; 0: none. [default: 10]")
@click.option("--threads", type=int, help="Processor cores a graph may use.")
@click.option("--rows", type=int, help="Callers of a voice who are spoken to at once. [default: 8]")
@click.option("--queue", type=int, help="Callers of a voice who wait beyond those. [default: 32]")
@click.option("--deadline", type=Finite(), metavar="SECONDS", help="For a request, to its end. [default: 120]")
@click.option("--longest-text", type=int, metavar="CHARACTERS", help="Of one request. [default: 4096]")
@click.option("--ray", is_flag=True, help="On the Ray cluster of RAY_ADDRESS, or of this machine.")
@click.option("--most-replicas", type=int, help="On Ray: at most so many processes that speak. [default: 4]")
@click.option("--log-text", is_flag=True, default=None, help="Write into the log what callers let it say.")
def serve(voices: tuple[str, ...], config: Path | None, aliases: tuple[str, ...], ray: bool, **given: Any) -> None:
    """Speak for others: a server with OpenAI's speech API, for many voices within one memory.

    Serves artifacts that a trusted key signed and whose verification passed: files, all in a folder, or the latest
    versions for this machine in a repository, which are pulled first. What is published or taken back later is seen
    without a restart. Needs the extra serve. SIGTERM finishes what is being spoken, refuses the rest and ends with exit
    code 0.

    \b
    Examples:
      gsvexport serve dist/alice-x86-64-int8.gsv --allow-unsigned
      gsvexport serve https://voices.example.com --memory 4G --pin alice
      curl localhost:8000/v1/audio/speech -H 'Content-Type: application/json' -o hello.wav \\
        -d '{"model": "gsvexport", "voice": "alice", "input": "Hello there!", "response_format": "wav"}'

    Settings come from --config (port = 8000), then GSVEXPORT_SERVE_… (GSVEXPORT_SERVE_PORT), then the options. The API
    key comes from --api-key-file or GSVEXPORT_SERVE_API_KEY alone.
    """
    try:
        import prometheus_client
        import starlette
        import uvicorn
        import websockets
    except ImportError as error:
        raise missing_package(str(error.name), "serving voices", "serve") from error
    del prometheus_client, starlette, uvicorn, websockets
    from gsvexport.serve.gather import Gatherer
    from gsvexport.serve.logs import Log
    from gsvexport.serve.run import serve as run
    from gsvexport.serve.settings import PREFIX, read_settings

    given |= {"voices": voices or None, "pin": given["pin"] or None, "aliases": _pairs(aliases)}
    named = os.environ.get(f"{PREFIX}CONFIG")
    settings = read_settings(given, config or (Path(named) if named else None), os.environ)
    log = Log()

    def listening(host: str, port: int) -> None:
        echo(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    if ray:
        from gsvexport.system.cluster import join

        join()
        from gsvexport.serve.cluster import run as run_on_ray

        run_on_ray(settings, log, listening)
        return
    gatherer = Gatherer(settings, lambda what: log("gathering", what=what))
    run(settings, gatherer, log, listening)


def _pairs(aliases: tuple[str, ...]) -> dict[str, str] | None:
    """NAME=VOICE as a table."""
    found = {}
    for one in aliases:
        name, sign, voice = one.partition("=")
        if not sign:
            raise click.UsageError(f"--alias takes NAME=VOICE, not {one}")
        found[name] = voice
    return found or None
