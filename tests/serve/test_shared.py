"""Voices that have their graphs in common open them once."""

import shutil

import numpy as np
import pytest
from shelved import make

from gsvexport.errors import ArtifactError
from gsvexport.serve.catalogue import judged
from gsvexport.serve.pool import open_offer
from gsvexport.serve.settings import Settings
from gsvexport.serve.shared import Graphs

SETTINGS = Settings(threads=1)


def test_graphs_are_open_as_long_as_a_voice_uses_them(shelf, home):
    graphs = Graphs()
    voices = [open_offer(judged(shelf[0] / f"{name}.gsv", SETTINGS), SETTINGS, graphs) for name in ("alice", "bob")]
    assert len(graphs) == 4
    first, second = voices[0].voice, voices[1].voice
    alone = open_offer(judged(shelf[0] / "bob.gsv", SETTINGS), SETTINGS)
    expected = alone.voice.synthesize("Hello.", seed=3, max_tokens=12).samples
    alone.close()
    assert {*map(id, first._sessions.values())} == {*map(id, second._sessions.values())}
    np.testing.assert_array_equal(second.synthesize("Hello.", seed=3, max_tokens=12).samples, expected)
    voices[0].close()
    assert len(graphs) == 4
    np.testing.assert_array_equal(second.synthesize("Hello.", seed=3, max_tokens=12).samples, expected)
    voices[1].close()
    assert len(graphs) == 0


def test_another_graph_or_weight_is_not_shared(shelf, parts, home, tmp_path):
    files, model = parts
    shutil.copytree(files, tmp_path / "files")
    (tmp_path / "files" / "weights-of-another").write_bytes(b"1")  # for all that is known, a graph reads it
    graphs = Graphs()
    one = open_offer(judged(shelf[0] / "alice.gsv", SETTINGS), SETTINGS, graphs)
    other = open_offer(judged(make((tmp_path / "files", model), tmp_path, "other"), SETTINGS), SETTINGS, graphs)
    assert len(graphs) == 8
    other.close()
    assert len(graphs) == 4
    with pytest.raises(ArtifactError):  # what fails leaves nothing behind
        open_offer(judged(shelf[0] / "bob.gsv", SETTINGS), SETTINGS, _Failing(graphs))
    assert len(graphs) == 4
    one.close()


class _Failing(Graphs):
    """Opens the first graph, and fails at the second one."""

    def __init__(self, graphs):
        super().__init__()
        self._held, self._count = graphs._held, 0

    def take(self, key, open_it):
        self._count += 1
        if self._count == 2:
            raise ArtifactError("it is damaged")
        return super().take(key, open_it)
