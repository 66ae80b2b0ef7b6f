"""What the teacher says and writes, made once."""

from dataclasses import replace

import numpy as np
import pytest

from gsvexport.compiler.source import write_source
from gsvexport.errors import InputError
from gsvexport.slim import teacher as slim_teacher
from gsvexport.slim import texts
from gsvexport.slim.recipe import T2S, Data, Sparse, Weights, read_recipe
from gsvexport.slim.teacher import Utterance
from gsvexport.voice.voice import read_voice


@pytest.fixture(scope="module")
def source(teacher, tmp_path_factory):
    return write_source(read_voice(teacher), tmp_path_factory.mktemp("source") / "source")


def test_codes_alone_are_for_t2s_and_are_made_once(source, tmp_path, monkeypatch):
    def make(**changes):
        data = replace(Data(texts=2, codes=3, held_out=1, longest=12), **changes)
        return slim_teacher.make(source.path, source.digest, data, (), tmp_path, lambda _: None)

    lesson = make()
    assert [len(part) for part in (lesson.train, lesson.written, lesson.codes, lesson.held_out)] == [2, 3, 5, 1]
    assert all(isinstance(one, Utterance) for one in (*lesson.train, *lesson.held_out))
    assert not [one for one in lesson.written if isinstance(one, Utterance)]
    assert all(len(one.codes) for one in lesson.codes)
    [first] = tmp_path.glob("*/c00000-*.npz")
    assert set(np.load(first).files) == {"phones", "prompt", "codes"}
    for name in ("script", "_speak"):
        monkeypatch.setattr(slim_teacher, name, lambda *_: pytest.fail("made again"))
    again = make()
    assert (again.voiced, again.whole) == (lesson.voiced, lesson.whole)
    monkeypatch.undo()
    without = make(codes=0)
    assert without.voiced == without.whole == lesson.voiced != lesson.whole  # the vocoder's training is shared


def test_only_who_teaches_t2s_writes_codes():
    plain = read_recipe("vocoder-30")
    assert not plain.teaches_t2s
    for changes in ({"t2s": T2S(layers=0.5)}, {"sparse": Sparse(0.5)}, {"weights": Weights(4)}):
        assert replace(plain, **changes).teaches_t2s
    assert not replace(plain, weights=Weights(vocoder=4)).teaches_t2s
    assert plain.scaled(0.1).data.codes == plain.data.codes / 10


def test_texts_that_are_all_too_long_are_told(source, monkeypatch):
    for name in ("_english", "_clauses"):
        monkeypatch.setattr(texts, name, lambda _: lambda random: ("AA1",) * 99)
    monkeypatch.setattr(texts, "_TRIES", 3)
    with pytest.raises(InputError, match="none of 3 generated texts") as error:
        texts.script(source.model, Data(texts=1, codes=1, held_out=1, longest=50))
    assert "raise data.longest" in str(error.value)
