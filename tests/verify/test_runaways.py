"""Planted voices that never end, go round in circles, and stop too early: everything that speaks says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy_voice_double import DIMS, Damage, Make, Outputs

from gsvexport.errors import InputError
from gsvexport.runtime.pipeline import LoadedVoice
from gsvexport.runtime.runaway import Tempo, findings, tempo
from gsvexport.verify import runaways
from gsvexport.verify.gates import resolve
from gsvexport.verify.heldout import Sentence, sentences, short_texts

TEMPO = Tempo(2.0, 25.0, learned=True)
EOS = DIMS.V - 1
PHONES = np.arange(30)


class Planted:
    """Logits of a voice that says what was planted, code by code, whatever it is asked; then EOS."""

    def __init__(self, *plans: list[int]) -> None:
        self.plans, self.sentence, self.place = plans, -1, 0

    def damage(self) -> Damage:
        return Damage(outputs={"prefill": self._begin, "step": self._next})

    def _begin(self, out: Outputs) -> Outputs:
        self.sentence, self.place = self.sentence + 1, 0
        return self._next(out)

    def _next(self, out: Outputs) -> Outputs:
        plan = self.plans[min(self.sentence, len(self.plans) - 1)]
        logits = np.zeros_like(out["logits"])
        logits[0, plan[self.place] if self.place < len(plan) else EOS] = 1000.0
        self.place += 1
        return {**out, "logits": logits}


SPEECH = [int(code) for code in np.random.default_rng(1).permutation(120)[:60]]  # 30 phones suggest 67 codes here
ENDLESS = [int(code) for code in np.random.default_rng(2).integers(0, 128, 2000)]
LOOP = SPEECH[:20] + [3, 5, 8] * 12 + SPEECH[20:30]
STOPS = SPEECH[:14]


def voice(make_voice: Make, *plans: list[int], context: tuple[int, int] | None = None) -> LoadedVoice:
    loaded = LoadedVoice(make_voice(Planted(*plans).damage()))
    loaded.model = replace(loaded.model, vocoder_context=context)
    return loaded


@pytest.mark.parametrize(
    ("plan", "kinds"),
    [
        (SPEECH, []),
        (ENDLESS, ["did not end by itself: the limit of 300 codes", "12.0 s, its 30 phones suggest 2.7 s"]),
        (LOOP, ["repeats itself for 1.4 s"]),
        (STOPS, ["0.6 s, its 30 phones suggest 2.7 s: words may be missing"]),
    ],
)
def test_planted_voices_are_noticed_spoken_whole_and_in_pieces(make_voice: Make, plan: list[int], kinds: list) -> None:
    with voice(make_voice, plan) as loaded:
        audio = loaded.synthesize(phones=PHONES, max_tokens=300)
        assert len(audio.notes) == len(kinds)
        for note, kind in zip(audio.notes, kinds, strict=True):
            assert kind in note
    for ahead in (None, 8):
        with voice(make_voice, plan, context=(2, 2)) as loaded:
            parts = list(loaded.stream(phones=PHONES, max_tokens=300, ahead=ahead))
            assert parts[-1].notes == audio.notes
            assert not any(part.notes for part in parts[:-1])


def test_notes_name_the_sentence_of_a_text_and_joined_sound_keeps_them(make_voice: Make) -> None:
    from gsvexport.runtime.speech import Manner, latents, whole
    from gsvexport.runtime.text import Spoken, joined

    with voice(make_voice, SPEECH, STOPS, SPEECH) as loaded:
        rows = [Spoken(PHONES[np.newaxis]) for _ in range(3)]
        audio = joined([whole(loaded, one) for one in latents(loaded, rows, Manner())])
    [note] = audio.notes
    assert note.startswith("sentence 2: it lasts 0.6 s")


def test_one_retry_takes_another_seed_and_moves_nothing_else(make_voice: Make) -> None:
    with voice(make_voice, STOPS, SPEECH) as loaded:
        audio = loaded.synthesize(phones=PHONES, retry=True)
        assert audio.samples.size == len(SPEECH) * 2 * 640
        assert audio.notes[0].endswith("so it was said again with another seed")
    with voice(make_voice, STOPS) as loaded:
        audio = loaded.synthesize(phones=PHONES, retry=True)
        assert audio.samples.size == len(STOPS) * 2 * 640
        assert audio.notes[0].endswith("another seed was no better")
    with voice(make_voice, SPEECH) as loaded:  # nothing to try again: the same bytes
        plain, again = (loaded.synthesize(phones=PHONES, seed=3, retry=retry).samples for retry in (False, True))
        np.testing.assert_array_equal(plain, again)
        loaded.model = replace(loaded.model, vocoder_context=(2, 2))
        with pytest.raises(InputError, match="cannot be said again"):
            loaded.stream(phones=PHONES, retry=True)
        assert list(loaded.stream(phones=PHONES, retry=True, ahead=None))


def test_a_retry_is_the_same_in_every_run(make_voice: Make) -> None:
    """The scripted voice never ends, so that its retry is heard only in the note; its codes are drawn, though."""
    found = []
    for _ in range(2):
        with LoadedVoice(make_voice()) as loaded:
            found.append(loaded.synthesize(phones=PHONES, seed=5, retry=True, max_tokens=40))
    assert found[0].notes == found[1].notes
    np.testing.assert_array_equal(found[0].samples, found[1].samples)


def test_the_tempo_is_the_recordings_own_at_any_rate_and_a_usual_one_where_there_is_none(make_voice: Make) -> None:
    with LoadedVoice(make_voice()) as loaded:
        assert tempo(loaded) == Tempo(20 / 9, 25.0, learned=True)
        loaded.model = replace(loaded.model, rate=22050, hop=256)  # 43 codes a second
        assert tempo(loaded).codes_per_second == pytest.approx(43.066, abs=1e-3)
        assert tempo(loaded).codes_per_phone == 20 / 9
        loaded.baked = {**loaded.baked, "prompt": np.zeros((1, 400), np.int64)}  # 1 s a phone: not of this text
        assert tempo(loaded) == Tempo(0.085 * 22050 / 512, 22050 / 512, learned=False)
    with LoadedVoice(make_voice(baked=False)) as loaded:
        assert tempo(loaded) == Tempo(0.085 * 25, 25.0, learned=False)
        for version, rate, hop in (("v3", 24000, 256), ("v4", 48000, 480)):  # a code is 3.75 and 4 frames of a mel
            loaded.model = replace(loaded.model, version=version, rate=rate, hop=hop)
            assert tempo(loaded) == Tempo(0.085 * 25, 25.0, learned=False)


@pytest.mark.parametrize(
    ("codes", "phones", "kinds"),
    [
        (range(16), range(4), []),  # silence around a word, and the 11 codes before EOS is allowed
        (range(11), range(1), []),
        (range(12), range(30), ["short"]),
        ([*range(60)] * 2, range(60), ["loop"]),  # said twice: half of it was said before
        ([*range(60)] * 2, [*range(30)] * 2, []),  # and so was the text
        ([*range(500, 520), *[7] * 10, *range(520, 560)], range(35), []),  # a pause of 0.4 s
        ([*range(500, 520), *[7] * 30, *range(520, 540)], range(35), ["loop"]),
        ([], range(5), ["short"]),
    ],
)
def test_what_counts_as_a_runaway(codes: range, phones: range, kinds: list[str]) -> None:
    found = findings(np.array([*codes], np.int64), np.array([*phones]), True, TEMPO)
    assert [one.kind for one in found] == kinds


def _written(kind: str, count: int, phones: int = 30) -> list[runaways.Written]:
    plans = {"good": SPEECH, "short": STOPS, "endless": ENDLESS[:190]}
    return [
        runaways.Written((number, *range(phones - 1)), np.array(plans[kind]), kind != "endless")
        for number in range(count)
    ]


def test_the_gate_refuses_what_runs_away_more_than_its_source_beyond_chance(make_voice: Make) -> None:
    with LoadedVoice(make_voice()) as source:
        good = _written("good", 80)
        for bad, status in ((0, "pass"), (1, "pass"), (3, "pass"), (20, "fail")):
            found = _written("short", bad) + good[bad:]
            rows = {one.metric: one for one in runaways.checks(source, good, found, resolve("int8"))}
            assert rows["runaway_rise"].status == status
            middle = rows["runaways_middle"]
            assert (middle.value, middle.baseline, middle.n, middle.status) == (bad / 80, 0.0, 80, "info")
            assert rows["runaways_long"].status == rows["runaways_short"].status == "not_run"
        endless = _written("endless", 80)  # as bad as its source: measured, and not the artifact's fault
        rows = {one.metric: one for one in runaways.checks(source, endless, endless, resolve("int8"))}
        assert (rows["runaway_rise"].status, rows["runaway_rise"].baseline) == ("pass", 1.0)
        assert rows["runaways_middle"].value == rows["runaways_middle"].baseline == 1.0


def test_many_texts_of_one_length_do_not_hide_what_another_does(make_voice: Make) -> None:
    def long(number: int, ended: bool) -> runaways.Written:
        return runaways.Written((number, *range(69)), np.arange(150), ended)

    with LoadedVoice(make_voice()) as source:
        middle, before = _written("good", 72), [long(number, number >= 1) for number in range(12)]
        said = [*_written("endless", 1), *middle[1:], *before]
        for bad, status in ((3, "pass"), (7, "fail")):
            found = [long(number, number >= bad) for number in range(12)]
            checks = runaways.checks(source, said, middle + found, resolve("int8"))
            rows = {one.metric: one for one in checks}
            assert (rows["runaways_long"].value, rows["runaways_long"].baseline) == (round(bad / 12, 4), 0.08333)
            assert rows["runaway_rise"].status == status


def test_short_and_long_texts_are_written_too(make_voice: Make) -> None:
    texts = tuple(Sentence(str(number), (number, *range(29))) for number in range(6))
    with voice(make_voice, SPEECH) as loaded:
        found = runaways.more(loaded, texts, texts[:2], (0, 1))
        assert [len(one.phones) for one in found] == 2 * [30, 30, 90, 90]
        model = replace(loaded.model, dims=replace(loaded.model.dims, phones=732, text_phones=732))
        assert all(len(one.phones) <= runaways.SHORT for one in short_texts(model))
        assert len(short_texts(model)) == 12
        assert not {one.text for one in short_texts(model)} & {one.text for one in sentences(model)}
        assert short_texts(replace(model, language="ko")) == ()


def test_a_synthetic_voice_that_never_ends(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from gsvexport.compiler.inputs import export_source
    from gsvexport.synthetic import write_voice

    export_source(write_voice(tmp_path / "voice", eos_gain=0), tmp_path / "source")
    with LoadedVoice(tmp_path / "source", threads=1) as loaded:
        [*_, first] = loaded.synthesize(phones=np.arange(1, 20), max_tokens=60).notes[:1]
    assert "did not end by itself: the limit of 60 codes" in first
