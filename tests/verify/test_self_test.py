"""Known damages fire the gates meant for them, on real speech; rounding to float16 fires none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_speech import RATE, recording

from gsvexport.verify import checks, selftest
from gsvexport.verify.cases import Case
from gsvexport.verify.gates import GATED, METRICS, resolve
from gsvexport.verify.ruler import FLOORED, Ruler
from gsvexport.verify.selftest import OUTPUTS, QUIET, SPOKEN, WEIGHTS, Row, self_test, table

SOUNDS = [name for name, (change, _) in OUTPUTS.items() if "vocoder" in change]


class _Recording:
    """What verification needs of a voice that says one recording, damaged."""

    def __init__(self, change: Mapping[str, Any]) -> None:
        self.change, self.model, self.stages, self.baked = change, _Model(), {}, {}

    def run(self, stage: str, feeds: Mapping[str, Any]) -> dict[str, Any]:
        found = {"latent": np.zeros((1, 2, 3), np.float32)} if stage == "acoustic" else {"audio": recording()[None]}
        return self.change[stage](found) if stage in self.change else found


class _Model:
    rate = RATE


@pytest.mark.parametrize("ruler", [None, FLOORED], ids=["absolute", "ruled"])
@pytest.mark.parametrize("name", SOUNDS)
def test_each_damage_of_sound_fires_its_gates_at_the_loosest_limits(name: str, ruler: Ruler | None) -> None:
    change, meant = OUTPUTS[name]
    clean = {"audio": recording()[None]}
    cases = [
        Case("said", "acoustic", {}, {"latent": np.zeros((1, 2, 3), np.float32)}),
        Case("said", "vocoder", {}, clean),
    ]
    voice: Any = _Recording(change)
    row = selftest._row(name, meant, checks.compare(voice, cases, resolve("int4-weights", None, ruler), "intact"))
    assert row.ran
    assert row.passed, row


@pytest.mark.thorough  # test_ladder.py damages a voice that speaks
def test_a_whole_voice_is_damaged_in_every_way_and_its_fp16_is_quiet(tmp_path: Path) -> None:
    pytest.importorskip("onnx_ir")
    pytest.importorskip("soundfile")
    from gsvexport.compiler.source import write_source
    from gsvexport.synthetic import write_voice
    from gsvexport.voice.voice import read_voice

    source = write_source(read_voice(write_voice(tmp_path / "voice")), tmp_path / "source").path
    before = {path.name: path.read_bytes() for path in source.iterdir() if path.is_file()}
    said: list[str] = []
    rows = self_test(source, resolve("fp16"), progress=said.append)
    outputs = [name for name, (change, _) in OUTPUTS.items() if not change.keys() & {"features", "cfm"}]  # of v3, v4
    assert [row.name for row in rows] == [*outputs, *WEIGHTS, "damages in growing strength"]
    assert [row for row in rows if not row.passed] == [], table(rows)
    assert rows[-2] == Row(QUIET, (), ())
    assert not rows[-1].ran  # its weights are random: it has no ruler
    assert said
    assert {path.name: path.read_bytes() for path in source.iterdir() if path.is_file()} == before


def test_a_gate_that_does_not_fire_fails_the_self_test() -> None:
    deaf = Row("white noise", ("vocoder.snr_db",), ("vocoder.max_error",))
    loud = Row(QUIET, (), ("step.top1",))
    absent = Row("white noise", ("pipeline.pesq",), (), ("pipeline.pesq",))
    assert not deaf.passed
    assert not loud.passed
    assert not absent.ran
    assert not selftest._insisted(absent, ("pesq",)).passed
    assert "NOT RUN" in table([absent])
    assert table([deaf, loud]).endswith("FAILED: 0 pass, 2 fail, 0 not run")


def test_every_gate_of_sound_and_speech_has_a_damage() -> None:
    meant = {
        gate.partition(".")[2] for table in (OUTPUTS, WEIGHTS, SPOKEN) for *_, gates in table.values() for gate in gates
    }
    elsewhere = {
        "declared_precision",
        "max_error",
        "cache_error",
        "equal",
        "token_prefix",
        "length_ratio",  # up to here: test_verification.py
        "mapped_share",  # test_placed_artifacts.py
    }
    assert set(GATED) - meant == elsewhere
    assert meant <= set(METRICS)
