"""What all tests share. `conformance.py` beside this file is importable from every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Shared machines are slow now and then, and a test that finds a bug must find it again.
settings.register_profile(
    "gsvexport", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("gsvexport")


def pytest_addoption(parser):
    parser.addoption("--golden", action="store_true", help="record golden files anew")
