"""Damages in growing strength: PESQ is the witness, and gates that see nothing or refuse what is fine are failures."""

from __future__ import annotations

from pathlib import Path

import pytest
from verify.test_ruler import demo

from gsvexport.runtime.pipeline import load
from gsvexport.verify import golden, ladder, said, selftest
from gsvexport.verify.gates import resolve
from gsvexport.verify.ladder import Kind, Trial, climb
from gsvexport.verify.ruler import measure

__all__ = ["demo"]
KIND = Kind("white noise", "dB", (60.0,), lambda array, _: array)


@pytest.mark.parametrize(
    ("pesq", "fired", "problem"),
    [
        (4.6, (), ""),
        (4.6, ("sound_share",), "sound_share refuses it, and PESQ is 4.60"),
        (4.6, ("pesq",), ""),
        (4.2, (), ""),
        (4.2, ("sound_share",), ""),
        (3.0, ("sound_share",), ""),
        (3.0, ("pesq", "pesq_mean"), "only PESQ, 3.00, notices it"),
    ],
)
def test_a_gate_that_sees_nothing_or_refuses_what_is_fine_is_a_problem(
    pesq: float, fired: tuple[str, ...], problem: str
) -> None:
    assert Trial(KIND, 60.0, {"pesq_mean": pesq}, fired).problem == problem


def test_without_pesq_nothing_is_said() -> None:
    assert Trial(KIND, 60.0, {}, ("sound_share",)).problem == ""
    unheard = Kind("louder", "dB", (1.0,), lambda array, _: array, judged=False)
    assert Trial(unheard, 1.0, {"pesq_mean": 4.6}, ("rms_change_db",)).problem == ""


def test_a_problem_fails_the_self_test() -> None:
    row = selftest.Row("white noise", (), (), problems=("white noise, 60 dB: sound_share refuses it",))
    assert not row.passed
    assert "sound_share refuses it" in selftest.table([row])


def test_a_voice_that_speaks_is_damaged_in_each_way_and_gates_and_pesq_agree(
    demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pesq")
    names = ("white noise", "noise on the latent", "noise on the vocoder's weights")
    kinds = [kind for kind in ladder.KINDS if kind.name in names and kind.stage != "features"]
    monkeypatch.setattr(ladder, "KINDS", tuple(kinds))
    before = {path.name: path.stat().st_mtime_ns for path in demo.iterdir()}
    with load(demo) as voice:
        gates = resolve("int8", None, measure(voice))
        trials = list(climb(demo, voice, golden.cases(voice, said(voice.model)), gates))
    assert [trial.problem for trial in trials] == [""] * len(trials)
    for kind in kinds:
        own = [trial for trial in trials if trial.kind is kind]
        shares = [trial.values["sound_share"] for trial in own]
        assert shares == sorted(shares)
        assert not own[0].fired
        assert {"sound_share", "pesq_mean"} <= set(own[-1].fired)
        assert all(trial.pairs for trial in own)
    assert {path.name: path.stat().st_mtime_ns for path in demo.iterdir()} == before
