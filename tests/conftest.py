"""What all tests share. `conformance.py` beside this file is importable from every test."""

from __future__ import annotations

import gc
import os

from hypothesis import HealthCheck, settings

# What a forked test inherits is not collected there: some of it would wait for threads that the child does not have.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=gc.disable)

# Shared machines are slow now and then, and a test that finds a bug must find it again.
settings.register_profile(
    "gsvexport", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("gsvexport")


def pytest_addoption(parser):
    parser.addoption("--golden", action="store_true", help="record golden files anew")
