"""A small voice, its source and its artifacts, made once; and changes to them that no honest writer makes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from artifacts import Subject, prepare


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders of one's own for what is kept and for keys."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GSVEXPORT_CACHE", str(folder / "cache"))
        patch.setenv("GSVEXPORT_CONFIG", str(folder / "config"))
        yield folder


@pytest.fixture(scope="session")
def subject(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return prepare(tmp_path_factory.mktemp("subject"))


@pytest.fixture
def edit():
    """Change a JSON file with a function of its value."""

    def change(path: Path, how) -> None:
        value = json.loads(path.read_text(encoding="utf-8"))
        how(value)
        path.write_text(json.dumps(value), encoding="utf-8")

    return change
