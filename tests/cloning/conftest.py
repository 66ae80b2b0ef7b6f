"""Small pretrained networks in their own formats, written once in a run."""

from __future__ import annotations

import pytest

from gsvexport.synthetic.pretrained import write_pretrained


@pytest.fixture(scope="session")
def networks(tmp_path_factory):
    """A folder with all three, and their names in it."""
    folder = tmp_path_factory.mktemp("pretrained")
    return folder, write_pretrained(folder, ("hubert", "bert", "speaker"))
