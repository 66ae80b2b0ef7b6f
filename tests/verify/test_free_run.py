"""Level 3: codes, scores and paired checks, on real speech and on scripted voices."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy_voice_double import Make
from test_speech import RATE, recording

from gsvexport.demo import demo_voice
from gsvexport.errors import InputError
from gsvexport.runtime.pipeline import LoadedVoice
from gsvexport.verify import damage, freerun, verify_artifact
from gsvexport.verify.depth import Depth, insist
from gsvexport.verify.freerun import PAIRED, Ears, Utterance
from gsvexport.verify.gates import Gates, resolve
from gsvexport.verify.heldout import Sentence, sentences
from gsvexport.verify.report import Check, Report

DEAF = Ears(None, None, None, {"dnsmos": "absent", "recogniser": "absent", "speaker": "absent"})


def _reference_text() -> str:
    return str(json.loads((demo_voice() / "reference.json").read_text())["text"])


TEXTS = (Sentence(_reference_text(), (1, 2, 3)), Sentence(_reference_text(), (4, 5, 6)))


def _say(text: str) -> None:
    pass


def _utterances() -> list[Utterance]:
    sound, random = recording(), np.random.default_rng(0)
    codes = random.integers(500, size=(2, round(len(sound) / RATE * 25)))
    return [Utterance(index, codes[index], True, sound, RATE) for index in range(2)]


def _by_metric(found: list[Check]) -> dict[str, Check]:
    return {check.metric: check for check in found}


def _compare(bad: list[Utterance], ears: Ears = DEAF, gates: Gates | None = None) -> dict[str, Check]:
    good = freerun.scores(_utterances(), TEXTS, ears, _say)
    found = freerun.checks(good, freerun.scores(bad, TEXTS, ears, _say), ears, gates or resolve("int8"))
    assert all(check.level == 3 for check in found)
    return _by_metric(found)


@pytest.mark.parametrize(
    ("codes", "share"),
    [
        ([], 0.0),
        (list(range(50)), 0.0),
        ([7] * 10, 0.0),  # a silence of 0.4 s
        ([7] * 15, 1.0),
        ([1, 2, 3] * 5, 1.0),
        ([1, 2, 3] * 4, 0.0),  # three times, but short
        (list(range(20)) * 2, 0.0),  # a word said twice
        (list(range(20)) * 3, 1.0),
        ([*range(100, 115), *[7] * 15], 0.5),
    ],
)
def test_a_loop_is_a_block_said_three_times_and_long_enough(codes: list[int], share: float) -> None:
    assert freerun.loop_share(np.array(codes, np.int64)) == pytest.approx(share)


def test_a_voice_beside_itself_differs_in_nothing() -> None:
    found = _compare(_utterances())
    assert found.keys() == PAIRED.keys()
    for metric, check in found.items():
        absent = metric in ("p808_drop", "ovr_drop", "wer_rise", "cer_rise", "speaker_drop")
        assert check.status == ("not_run" if absent else "pass")
        if not absent:
            assert check.value == check.low == check.high == (1.0 if metric == "duration_ratio" else 0.0)
            assert check.n == 2


@pytest.mark.parametrize(
    ("change", "metrics"),
    [
        (lambda one: damage.looped(one), {"repeat_rise", "duration_ratio"}),
        (lambda one: damage.cut(one, 0.6), {"duration_ratio"}),
        (lambda one: damage.endless(one), {"eos_drop"}),
        (lambda one: damage.of_sound(one, damage.half_silent), {"silence_rise"}),
        (lambda one: damage.of_sound(one, lambda x: damage.gain(x, 30)), {"clipping_rise"}),
    ],
)
def test_what_codes_and_sound_alone_show(change: object, metrics: set[str]) -> None:
    found = _compare([change(one) for one in _utterances()])  # type: ignore[operator]
    assert metrics <= {metric for metric, check in found.items() if check.status == "fail"}


def test_the_bound_of_the_interval_fails_though_the_mean_is_within_the_limit() -> None:
    good = [replace(freerun.scores(_utterances(), TEXTS, DEAF, _say)[0], p808=4.0, sentence=n) for n in range(10)]
    bad = [replace(one, p808=4.0 - (0.0, 0.35)[index % 2]) for index, one in enumerate(good)]
    ears = replace(DEAF, missing={})
    check = _by_metric(freerun.checks(good, bad, ears, resolve("fp32", {"p808_drop": 0.25})))["p808_drop"]
    assert check.value == pytest.approx(0.175)
    assert check.status == "fail"
    assert check.high is not None
    assert check.high > 0.25


def test_a_recogniser_that_understands_too_little_is_no_gate() -> None:
    one = replace(freerun.scores(_utterances(), TEXTS, DEAF, _say)[0], errors=9.0, words=10)
    check = _by_metric(freerun.checks([one] * 4, [one] * 4, replace(DEAF, missing={}), resolve()))["wer_rise"]
    assert check.status == "not_run"
    assert "90% of the source's words wrong" in check.reason


def test_a_lost_voice_is_heard_by_each_listener() -> None:
    ears = freerun.listeners("en")
    if ears.missing:
        pytest.skip(f"not installed: {', '.join(ears.missing)}")
    found = _compare([damage.of_sound(one, lambda x: damage.noise(x, 0)) for one in _utterances()], ears)
    assert {"p808_drop", "wer_rise", "cer_rise"} <= {
        metric for metric, check in found.items() if check.status == "fail"
    }
    only = replace(ears, dnsmos=None, recogniser=None, missing=DEAF.missing | {"speaker": ""})
    found = _compare([damage.of_sound(one, lambda x: damage.faster(x, 1.25)) for one in _utterances()], only)
    assert {"speaker_drop", "duration_ratio"} <= {metric for metric, check in found.items() if check.status == "fail"}


def test_letters_are_counted_where_a_language_has_no_spaces() -> None:
    one = replace(freerun.scores(_utterances(), TEXTS, DEAF, _say)[0], errors=0.0, words=1, misheard=1.0, letters=10)
    ears = replace(DEAF, missing={}, language="zh")
    found = _by_metric(freerun.checks([one] * 4, [replace(one, misheard=2.0)] * 4, ears, resolve("fp32")))
    assert found["wer_rise"].status == "not_run"
    assert "cer_rise" in found["wer_rise"].reason
    assert (found["cer_rise"].status, found["cer_rise"].value, found["cer_rise"].baseline) == ("fail", 0.1, 0.1)


def test_a_sentence_is_at_most_all_wrong() -> None:
    class Babble:
        def __call__(self, samples: object) -> str:
            return "and so on " * 60

    ears = replace(DEAF, recogniser=Babble(), missing={})  # type: ignore[arg-type]
    for row in freerun.scores(_utterances(), TEXTS, ears, _say):
        assert (row.errors, row.misheard) == (row.words, row.letters)
        assert row.heard.startswith("and so on")


def test_one_word_in_a_hundred_is_seen_on_equal_codes() -> None:
    """80 sentences of ten words: a point more is 8 words, and its bound is over the limit; a single one is not."""
    base = replace(freerun.scores(_utterances(), TEXTS, DEAF, _say)[0], errors=0.0, words=10, misheard=0.0, letters=40)
    good = [replace(base, sentence=n) for n in range(80)]
    for wrong, status in ((0, "pass"), (1, "pass"), (10, "fail")):
        bad = [replace(one, errors=float(n < wrong)) for n, one in enumerate(good)]
        check = _by_metric(freerun.checks(good, bad, replace(DEAF, missing={}), resolve("fp32"), freerun.SOUND))[
            "wer_rise"
        ]
        assert (check.stage, check.status) == ("pipeline", status)


def test_quality_is_rated_on_the_first_utterances_alone_and_only_those_are_compared() -> None:
    class Falling:
        count = 0

        def __call__(self, samples: object) -> tuple[float, float]:
            self.count += 1
            return 4.0, 3.0

    falling = Falling()
    ears = replace(DEAF, dnsmos=falling, missing={"recogniser": "absent", "speaker": "absent"})  # type: ignore[arg-type]
    many = [one for _ in range(freerun.RATED) for one in _utterances()]
    many = [replace(one, samples=one.samples[: RATE // 2]) for one in many]
    rows = freerun.scores(many, TEXTS, ears, _say)
    assert falling.count == freerun.RATED == sum(row.rated for row in rows) < len(rows)
    found = _by_metric(freerun.checks(rows, rows, ears, resolve("int8")))
    assert (found["p808_drop"].n, found["p808_drop"].value, found["p808_drop"].status) == (freerun.RATED, 0.0, "pass")
    assert found["silence_rise"].n == len(rows)


@pytest.mark.parametrize(
    ("wrong", "rounds", "status"),
    [
        ((0,), 1, "pass"),
        ((1, 0), 2, "pass"),
        ((1, 1, 1), 3, "fail"),  # still not shown
        ((9,), 1, "fail"),  # no sentence more could help
    ],
)
def test_where_sentences_are_too_few_to_tell_they_are_said_again_with_other_seeds(
    loaded: LoadedVoice, monkeypatch: pytest.MonkeyPatch, wrong: tuple[int, ...], rounds: int, status: str
) -> None:
    base = replace(freerun.scores(_utterances(), TEXTS, DEAF, _say)[0], errors=0.0, words=10, misheard=0.0, letters=40)
    good, asked = [replace(base, sentence=n) for n in range(200)], []

    def said(*given: object) -> object:
        asked.append(given[4])
        bad = [replace(one, errors=float(n < 9 * wrong[len(asked) - 1])) for n, one in enumerate(good)]
        return freerun._Round(good, good, bad, [], [])

    monkeypatch.setattr(freerun, "_round", said)
    monkeypatch.setattr(freerun, "_silent", lambda *_: "")
    monkeypatch.setattr(
        freerun, "listeners", lambda *_: replace(DEAF, missing={"dnsmos": "absent", "speaker": "absent"})
    )
    monkeypatch.setattr(freerun.runaways, "checks", lambda *_: [])
    gates = resolve("fp32", {"wer_rise": 0.006})
    found = freerun.compare(loaded, loaded, TEXTS, 2, gates, _say)
    assert asked == [range(first, first + 2) for first in range(0, 2 * rounds, 2)]
    (words,) = [one for one in found if (one.stage, one.metric) == ("pipeline", "wer_rise")]
    assert (words.status, words.n) == (status, 200 * rounds)


def test_the_sources_codes_are_said_again_and_only_what_sounds_otherwise_is_heard_again(loaded: LoadedVoice) -> None:
    said = freerun.utterances(loaded, TEXTS, (0, 1), _say)
    for free in (said, [replace(one, codes=one.codes[::-1]) for one in said]):  # with its own codes, or other ones
        again = freerun.repeated(loaded, TEXTS, said, free, (0, 1), _say)
        assert all(one is other for one, other in zip(said, again, strict=True))
    rows = freerun.scores(said, TEXTS, DEAF, _say)
    known = {id(one): row for one, row in zip(said, rows, strict=True)}
    assert all(a is b for a, b in zip(rows, freerun.scores(said, TEXTS, DEAF, _say, known), strict=True))


def test_equal_seeds_say_the_same_and_other_seeds_do_not(loaded: LoadedVoice) -> None:
    once, again = (freerun.utterances(loaded, TEXTS, (0, 1), _say) for _ in range(2))
    assert [one.sentence for one in once] == [0, 1, 0, 1]
    for one, other in zip(once, again, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)
    assert not np.array_equal(once[0].codes, once[2].codes)
    assert not once[0].ended  # the scripted voice never ends by itself


def test_level_three_is_reported_and_tells_why_it_cannot_run(make_voice: Make) -> None:
    source = make_voice()
    report = verify_artifact(source, source=source, depth=Depth(3))
    found = {check.metric: check for check in report.checks if check.metric in PAIRED and check.level == 3}
    assert "no held-out sentences" in found["p808_drop"].reason  # the double has few phones
    report = verify_artifact(source, depth=Depth(3))
    assert any("no source was given" in check.reason for check in report.checks if check.metric == "p808_drop")
    assert not any(check.metric == "p808_drop" for check in verify_artifact(source).checks)


def test_required_checks_that_do_not_run_fail_with_their_reason() -> None:
    gates = resolve()
    report = Report((freerun.not_run(gates, "vocoder", "pesq", "source", "the package 'pesq' is not installed"),))
    assert not insist(report, ("snr_db",)).passed
    for name in ("pesq", "L2"):
        [failure] = insist(report, (name,)).failures
        assert "required, but not run: the package 'pesq'" in failure.reason
    [failure] = insist(report, ("L3",)).failures
    assert "there is no check of L3" in failure.reason
    assert insist(report, ()) == report


def test_wrong_depths_are_refused_all_at_once() -> None:
    with pytest.raises(InputError) as caught:
        Depth(1, 0, None, ("pesk", "L9"))
    assert len(caught.value.problems) == 4
    assert "did you mean" in str(caught.value)
    assert Depth(required=("L3",)).deep
    assert Depth(required=("wer_rise",)).deep
    assert not Depth().deep


def test_sentences_come_from_a_file_one_a_line(loaded: LoadedVoice, tmp_path: object) -> None:
    file = tmp_path / "own.txt"  # type: ignore[operator]
    file.write_text("Good morning.\n\nHow are you?\n")
    model = replace(loaded.model, dims=replace(loaded.model.dims, phones=732, text_phones=732))
    assert [one.text for one in sentences(model, file)] == ["Good morning.", "How are you?"]
    file.write_text("Good morning.\n你好\n")
    with pytest.raises(InputError, match="line 2"):
        sentences(model, file)
    assert sentences(replace(model, language="xx")) == ()
