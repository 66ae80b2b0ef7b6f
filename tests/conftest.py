"""What all tests share. `conformance.py` beside this file is importable from every test."""

from __future__ import annotations

import gc
import os

import pytest
from hypothesis import HealthCheck, settings
from quick import is_quick

# Two workers share the processors, and threads of OpenMP wait for each other by spinning: up to 3/4 of a test.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Nothing that is imported or collected is garbage; looking for it there takes longer than collecting does.
gc.disable()

# What a forked test inherits is not collected there: some of it would wait for threads that the child does not have.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=gc.disable)

# The demo voice of tests is the small one, whatever is installed: it is quicker, and golden files are of it.
os.environ["GSVEXPORT_DEMO"] = "small"

# A third of what a build of a tiny voice takes is compressing it; tests about that say so.
os.environ["GSVEXPORT_COMPRESS"] = "none"

# Shared machines are slow now and then, and a test that finds a bug must find it again.
settings.register_profile(
    "gsvexport", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("gsvexport")


def pytest_addoption(parser):
    parser.addoption("--golden", action="store_true", help="record golden files anew")
    parser.addoption("--quick", action="store_true", help="leave out what builds or emulates (see tests/quick.py)")
    parser.addoption("--thorough", action="store_true", help="run what is marked thorough, too")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: --quick leaves it out, although it builds nothing")
    config.addinivalue_line("markers", "thorough: runs with --thorough; CI has no time for it")


def pytest_ignore_collect(collection_path, config):
    """A module that is left out is not imported, either."""
    if config.getoption("--quick") and collection_path.match("test_*.py") and not is_quick(collection_path):
        return True
    return None


# What takes longest, first: the last one to run would keep one processor waiting for the other.
LONG = ("verify/test_real_voice.py", "windows/test_like_windows.py", "compiler/test_build.py", "cli/test_cli.py")


@pytest.fixture(scope="session")
def thorough(pytestconfig):
    """Whether every case is asked for, however long it takes."""
    return pytestconfig.getoption("--thorough")


def pytest_collection_finish(session):
    gc.enable()
    gc.freeze()


def pytest_report_header(config):
    return None if config.getoption("--thorough") else "tests marked thorough are left out: make thorough runs them"


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--thorough"):
        left_out = [item for item in items if "thorough" in item.keywords]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if "thorough" not in item.keywords]
    items.sort(key=lambda item: not str(item.path).endswith(LONG))
    if config.getoption("--quick"):
        slow = pytest.mark.skip(reason="slow, and --quick was asked for")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(slow)
