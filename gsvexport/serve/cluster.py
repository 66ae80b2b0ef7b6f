"""The application over replicas of Ray Serve, each with a pool of its own.

`gsvexport serve --ray` is a server as ever, with all of its limits, whose voices are spoken by replicas. KubeRay has
the same application behind Ray's proxies, as `application`.

A caller's voice is Ray's multiplexed model, so a request goes where that voice is open. When all who have it are
speaking to as many as they may, it goes to another replica, and Ray adds replicas where that lasts.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig

from gsvexport.errors import EnvironmentProblem
from gsvexport.serve.gather import Gatherer
from gsvexport.serve.logs import Log
from gsvexport.serve.replica import Front, Speaker, desk_of
from gsvexport.serve.run import serve as answer
from gsvexport.serve.settings import Settings, read_settings

NAME = "gsvexport"
_deployment: Any = serve.deployment  # its own types know only the decorator


def speakers(settings: Settings) -> Any:
    """The replicas that speak, `threads` (or one) cores each, as Ray Serve deploys them."""
    cores = settings.threads or 1
    return (
        _deployment(Speaker)
        .options(
            ray_actor_options={"num_cpus": cores},
            max_ongoing_requests=settings.rows,
            max_queued_requests=settings.queue,
            graceful_shutdown_timeout_s=settings.grace,
            autoscaling_config=AutoscalingConfig(
                min_replicas=settings.replicas,
                max_replicas=max(settings.replicas, settings.most_replicas),
                target_ongoing_requests=max(1.0, settings.rows / 2),
            ),
        )
        .bind(replace(settings, threads=cores, key=""))
    )


def application(args: dict[str, Any]) -> Any:
    """For `serveConfigV2` of KubeRay, or `serve run gsvexport.serve.cluster:application`: `args` are settings, over
    those of GSVEXPORT_SERVE_….

    Raises:
        InputError: settings that cannot be.
    """
    settings = read_settings(args, None, os.environ)
    front = _deployment(serve.ingress()(Front)).options(
        name="Front",
        ray_actor_options={"num_cpus": 0},
        num_replicas=settings.fronts,
        max_ongoing_requests=settings.connections,
        graceful_shutdown_timeout_s=settings.grace,
    )
    return front.bind(settings, speakers(settings))


def run(settings: Settings, log: Log, listening: Callable[[str, int], None]) -> None:
    """Answer until SIGTERM or SIGINT, by replicas on the cluster that this process has joined; they end with it.

    Where no machine has room for a replica, it waits for one.

    Raises: as `gsvexport.serve.run.serve`, and
        EnvironmentProblem: the replicas do not come up; their own logs say why.
    """
    gatherer = Gatherer(settings, lambda what: log("gathering", what=what))
    gatherer.look()  # what is wrong with voices or names is told here, and not by replicas that do not come up
    serve.start(proxy_location="Disabled")
    try:
        try:
            handle = serve.run(speakers(settings), name=NAME, route_prefix=None)
        except RuntimeError as error:
            what = "the replicas did not come up"
            raise EnvironmentProblem(
                what, found=str(error), fix="read what `ray status` and `serve status` say"
            ) from error
        answer(settings, gatherer, log, listening, desk_of(handle))
    finally:
        serve.delete(NAME)
