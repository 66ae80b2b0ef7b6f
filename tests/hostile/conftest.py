"""A small voice, its source and its artifacts, made once; and changes to them that no honest writer makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from artifacts import Subject, prepare


@pytest.fixture(scope="session")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return prepare(tmp_path_factory.mktemp("subject"))


@pytest.fixture
def edit():
    """Change a JSON file with a function of its value."""

    def change(path: Path, how) -> None:
        value = json.loads(path.read_text(encoding="utf-8"))
        how(value)
        path.write_text(json.dumps(value), encoding="utf-8")

    return change
