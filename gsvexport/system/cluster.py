"""Joining a Ray cluster that runs. Nothing else here imports Ray, unless it was asked for."""

from __future__ import annotations

import logging
import os
from typing import Any

from gsvexport.errors import EnvironmentProblem, missing_package


def join() -> Any:
    """The package `ray`, connected to the cluster of RAY_ADDRESS, or else the one that runs on this machine.

    Raises:
        EnvironmentProblem: Ray is not installed, or no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell its makers of the cluster
    try:
        import ray
    except ImportError as error:
        raise missing_package("ray", "working on several machines", "ray") from error
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS", "auto")
        try:
            ray.init(address=address, logging_level=logging.WARNING)
        except (ConnectionError, TimeoutError, ValueError, RuntimeError) as error:
            what = f"no Ray cluster answers at {address}" if address != "auto" else "no Ray cluster runs here"
            raise EnvironmentProblem(what, fix="ray start --head, or RAY_ADDRESS=HOST:PORT") from error
    return ray
