"""The voice's own ruler: what it measures, what it says where there is none, and what gates make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsvexport.errors import ArtifactError
from gsvexport.runtime.pipeline import load
from gsvexport.verify import checks, damage, golden
from gsvexport.verify.gates import WAVEFORM, resolve, share_of_gates
from gsvexport.verify.ruler import DISTANCES, FLOORED, Distance, Ruler, measure

REAL = Ruler(4, *(Distance(mean, mean / 10) for mean in (0.4, 0.28, 1.0, 25.0, 0.08)))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx_ir")
    from gsvexport.compiler.inputs import open_voice
    from gsvexport.compiler.source import write_source

    voice = open_voice(None).voice
    assert voice is not None
    return write_source(voice, tmp_path_factory.mktemp("demo") / "source").path


def test_a_voice_that_hardly_uses_its_noise_has_a_small_ruler_and_the_floor_as_its_unit(demo: Path) -> None:
    with load(demo) as voice:
        found, again = measure(voice), measure(voice)
    assert found == again
    assert found.n == 4
    assert found.reason == ""
    assert found.loudness is not None
    assert 0.01 < found.loudness.mean < 0.05
    assert 0 < found.loudness.spread < found.loudness.mean
    assert found.unit == 0.2
    assert Ruler.from_json(found.to_json(), "here") == found


def test_golden_vectors_carry_the_ruler(tmp_path: Path) -> None:
    golden.write((), tmp_path / "with", REAL)
    golden.write((), tmp_path / "without")
    assert golden.read_ruler(tmp_path / "with") == REAL
    assert golden.read_ruler(tmp_path / "without") == Ruler(0, reason="the artifact holds no ruler")


@pytest.mark.parametrize(
    "change",
    [
        {"n": -1},
        {"loudness": None},
        {"loudness": {"mean": -1.0, "spread": 0.0}},
        {"loudness": {"mean": float("nan"), "spread": 0.0}},
        {"loudness": {"mean": 0.1}},
        {"reason": 7},
        {"more": 1},
        dict.fromkeys(DISTANCES),
    ],
)
def test_a_ruler_that_cannot_be_right_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError):
        Ruler.from_json({**REAL.to_json(), **change}, "golden.json")


def test_random_weights_have_no_ruler_and_say_why(tmp_path: Path) -> None:
    pytest.importorskip("onnx_ir")
    from gsvexport.compiler.source import write_source
    from gsvexport.synthetic import write_voice
    from gsvexport.voice.voice import read_voice

    for name, reference, reason in (("said", True, "does not speak"), ("mute", False, "no baked reference")):
        voice = read_voice(write_voice(tmp_path / name, reference=reference))
        with load(write_source(voice, tmp_path / f"{name}-source").path) as one:
            found = measure(one)
        assert found.unit is None
        assert reason in found.reason


def test_below_fp32_a_ruler_replaces_the_limits_of_waveforms_and_no_others() -> None:
    ruled, absolute = resolve("int8", None, REAL), resolve("int8")
    for stage in ("vocoder", "pipeline"):
        assert all(ruled.limit(stage, metric) is None for metric in WAVEFORM)
        assert all(absolute.limit(stage, metric) is not None for metric in WAVEFORM)
        assert ruled.limit(stage, "sound_share") == absolute.limit(stage, "sound_share") == 0.5
        assert ruled.limit(stage, "silence_change") == absolute.limit(stage, "silence_change")
    for metric in ("max_error", "cosine_distance"):
        assert ruled.limit("acoustic", metric) == absolute.limit("acoustic", metric)
    assert ruled.limit("step", "kl") == absolute.limit("step", "kl")


def test_fp32_stays_exact_whatever_the_voice_does_by_itself() -> None:
    ruled, absolute = resolve("fp32", None, REAL), resolve("fp32")
    assert ruled.values == absolute.values
    mixed = resolve({"vocoder": "fp32", "acoustic": "int8-weights"}, None, REAL)
    assert mixed.limit("vocoder", "snr_db") == 80
    assert mixed.limit("pipeline", "snr_db") is None


def test_pitch_and_voicing_may_move_as_they_do_from_seed_to_seed() -> None:
    ruled = resolve("int8", None, REAL)
    assert ruled.limit("pipeline", "f0_cents") == 25.0
    assert ruled.limit("pipeline", "voicing_error") == 0.08
    still = resolve("int8", None, FLOORED)
    assert still.limit("pipeline", "f0_cents") == 20.0


def test_a_targets_own_limit_of_the_waveform_stays_one() -> None:
    ruled = resolve("int8", {"vocoder.snr_db": 30.0}, REAL)
    assert ruled.limit("vocoder", "snr_db") == 30.0
    assert ruled.limit("pipeline", "snr_db") is None


def test_the_same_damage_is_a_smaller_share_of_a_voice_that_moves_more() -> None:
    sound = np.random.default_rng(0).standard_normal(32000).astype(np.float32) * 0.1
    pair = (sound, damage.noise(sound, 20))
    shares = []
    for ruler in (FLOORED, REAL):
        [check] = [c for c in checks.of_sound(resolve("int8", None, ruler), [pair], 32000) if c.metric == "sound_share"]
        assert check.value is not None
        assert check.baseline == ruler.own("loudness") / (ruler.unit or 1)
        shares.append(check.value)
    assert shares[0] == pytest.approx(2 * shares[1], rel=1e-3)


def test_without_a_ruler_the_share_is_not_run_and_absolute_limits_are_said_to_stand_in() -> None:
    sound = np.random.default_rng(0).standard_normal(32000).astype(np.float32)
    found = {check.metric: check for check in checks.of_sound(resolve("int8"), [(sound, sound)], 32000)}
    assert found["sound_share"].status == "not_run"
    assert "absolute limits" in found["sound_share"].reason
    assert found["snr_db"].status == "pass"


def test_decisions_use_all_probes_together_and_a_targets_own_limit_too() -> None:
    sound = np.random.default_rng(0).standard_normal((1, 32000)).astype(np.float32)
    near, far = ((sound, damage.noise(sound, db)) for db in (40, 20))
    both = share_of_gates([near, far], 32000, {"sound_share": 0.5}, 0.2)
    assert share_of_gates([near], 32000, {"sound_share": 0.5}, 0.2) < both
    assert both < share_of_gates([far], 32000, {"sound_share": 0.5}, 0.2)
    assert share_of_gates([near], 32000, {"sound_share": 0.5, "snr_db": 46.0}, 0.2) == pytest.approx(2, rel=0.01)
    assert share_of_gates([near], 32000, {"snr_db": 34.0}, None) == pytest.approx(0.5, rel=0.01)
