from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy_voice_double import DIMS, Damage, Make

from gsvexport.errors import ArtifactError, InputError, VoiceError
from gsvexport.model import Dims, Model, SamplingDefaults, Spectrogram
from gsvexport.runtime.pipeline import LoadedVoice
from gsvexport.verify import golden
from gsvexport.verify.golden import GOLDEN, TEACHER


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_source_gives_the_same_bytes(make_voice: Make, tmp_path: Path) -> None:
    golden.make(make_voice(), tmp_path / "one")
    golden.make(make_voice(), tmp_path / "two")
    assert _bytes(tmp_path / "one") == _bytes(tmp_path / "two")


def test_what_the_same_network_said_before_is_not_computed_again(
    loaded: LoadedVoice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden.write(golden.of(loaded), tmp_path / "one")
    known, stages, run = golden.read(tmp_path / "one"), [], loaded.run
    monkeypatch.setattr(loaded, "run", lambda stage, feeds: stages.append(stage) or run(stage, feeds))
    golden.write(golden.of(loaded, known), tmp_path / "two")
    assert _bytes(tmp_path / "one") == _bytes(tmp_path / "two")
    assert not {"prefill", "step"} & set(stages)
    assert {"acoustic", "vocoder"} <= set(stages)  # they hear the reference
    other = next(case for case in known if (case.name, case.stage) == ("b", TEACHER))
    other.inputs["phones"][0, 0] ^= 1
    golden.write(golden.of(loaded, known), tmp_path / "three")
    assert _bytes(tmp_path / "one") == _bytes(tmp_path / "three")
    assert stages.count("prefill") == 1


def test_what_was_stored_is_read_back_exactly(make_voice: Make, loaded: LoadedVoice, tmp_path: Path) -> None:
    made = golden.cases(loaded, GOLDEN)
    golden.write(made, tmp_path / "golden")
    read = golden.read(tmp_path / "golden")
    assert [(case.name, case.stage) for case in read] == [(case.name, case.stage) for case in made]
    for one, other in zip(read, made, strict=True):
        for mine, theirs in ((one.inputs, other.inputs), (one.outputs, other.outputs)):
            assert mine.keys() == theirs.keys()
            for port in mine:
                np.testing.assert_array_equal(mine[port], theirs[port])
                assert mine[port].dtype == theirs[port].dtype


@pytest.mark.parametrize("baked", [True, False])
def test_every_stage_of_an_artifact_is_covered_at_two_lengths(make_voice: Make, tmp_path: Path, baked: bool) -> None:
    golden.make(make_voice(baked=baked), tmp_path / "golden")
    cases = golden.read(tmp_path / "golden")
    stages = {"acoustic", "vocoder", TEACHER, *(() if baked else ("prompt", "reference"))}
    assert {(case.name, case.stage) for case in cases} == {(name, stage) for name in "ab" for stage in stages}
    teacher = [case for case in cases if case.stage == TEACHER]
    assert [case.inputs["prompt"].shape for case in teacher] == [(1, 9), (1, 0)]
    assert teacher[0].outputs["logits"].shape == (24, DIMS.V)
    assert teacher[0].outputs["keys"].shape == (DIMS.L, 12 + 9 + 23, 4)


def test_inputs_are_exact_in_half_precision_and_ids_are_in_range(loaded: LoadedVoice) -> None:
    given = golden.inputs(loaded.model, GOLDEN[0], np.random.default_rng(0))
    for name, array in given.items():
        if array.dtype == np.float32:
            np.testing.assert_array_equal(array.astype(np.float16).astype(np.float32), array, err_msg=name)
    assert given["phones"].max() < DIMS.phones
    assert given["prompt"].max() < DIMS.codes


def test_given_tokens_reproduce_the_greedy_run(loaded: LoadedVoice) -> None:
    case = next(case for case in golden.cases(loaded, GOLDEN) if case.stage == TEACHER)
    text = {name: case.inputs[name] for name in ("phones", "bert", "prompt")}
    again = golden.teacher_forced(loaded, **text, tokens=case.inputs["tokens"], count=24)
    np.testing.assert_array_equal(again["logits"], case.outputs["logits"])
    assert len(set(case.inputs["tokens"])) > 5  # the penalty keeps the run from repeating one code
    assert case.inputs["tokens"].max() < loaded.model.eos


def test_steps_agree_with_a_prefill_of_the_longer_prompt(loaded: LoadedVoice) -> None:
    """Position and cache order: a prefill that already holds the tokens must say what the steps said."""
    case = next(case for case in golden.cases(loaded, GOLDEN) if case.stage == TEACHER)
    longer = np.concatenate([case.inputs["prompt"], case.inputs["tokens"][None, :-1]], axis=1)
    feeds = {"phones": case.inputs["phones"], "bert": case.inputs["bert"], "prompt": longer}
    out = loaded.run("prefill", feeds)
    np.testing.assert_allclose(out["logits"][0], case.outputs["logits"][-1], atol=1e-5)
    np.testing.assert_allclose(golden.project(out["keys"]), case.outputs["keys"], atol=1e-5)


def test_the_projection_notices_swapped_layers_rows_and_channels() -> None:
    cache = np.random.default_rng(0).standard_normal((3, 1, 5, 16)).astype(np.float32)
    base = golden.project(cache)
    assert base.shape == (3, 5, 4)
    for axis in (0, 2, 3):
        order = np.arange(cache.shape[axis])
        order[[0, 1]] = [1, 0]
        assert np.abs(golden.project(np.take(cache, order, axis)) - base).max() > 0.05
    assert golden.project(cache + 1e-3) == pytest.approx(base, abs=5e-3)


def test_the_directions_are_the_same_forever() -> None:
    """Artifacts in the field hold projections; these numbers must never change."""
    unit = golden.project(np.eye(4, dtype=np.float32)[None, None])
    assert unit[0, 0] == pytest.approx([0.1564405, -0.08138621, 0.38476253, -0.38523978], abs=1e-7)


def test_a_full_size_voice_needs_less_than_a_megabyte(tmp_path: Path) -> None:
    for version, gin, baked in (("v2", 512, True), ("v2ProPlus", 1024, True), ("v2ProPlus", 1024, False)):
        folder = tmp_path / f"{version}{baked}"
        golden.write(golden.cases(_FullSizeShapesDouble(version, gin, baked), GOLDEN), folder)
        assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000


def test_a_source_with_nan_is_refused_with_the_stage_named(make_voice: Make, tmp_path: Path) -> None:
    broken = Damage(outputs={"vocoder": lambda out: {"audio": out["audio"] * np.nan}})
    with pytest.raises(VoiceError, match=r"vocoder\.audio, case a"):
        golden.make(make_voice(broken), tmp_path / "golden")
    assert not (tmp_path / "golden").exists()


def test_existing_vectors_are_only_replaced_by_force(make_voice: Make, tmp_path: Path) -> None:
    voice = make_voice()
    golden.make(voice, tmp_path / "golden")
    with pytest.raises(InputError, match="exists already"):
        golden.make(voice, tmp_path / "golden")
    golden.make(voice, tmp_path / "golden", force=True)


def test_all_damage_to_the_vectors_is_reported_at_once(make_voice: Make, tmp_path: Path) -> None:
    folder = tmp_path / "golden"
    golden.make(make_voice(), folder)
    (folder / "a.vocoder.audio.npy").unlink()
    data = bytearray((folder / "b.teacher.logits.npy").read_bytes())
    data[-1] ^= 1
    (folder / "b.teacher.logits.npy").write_bytes(bytes(data))
    with pytest.raises(ArtifactError) as caught:
        golden.read(folder)
    assert caught.value.problems == (
        "a.vocoder.audio.npy: missing",
        "b.teacher.logits.npy: has changed (SHA-256 differs)",
    )


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 1}', '{"schema": 9}', '{"schema": 1, "files": {}, "cases": [1]}', "nonsense"]
)
def test_an_index_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "golden.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"golden\.json"):
        golden.read(tmp_path)


def test_file_names_cannot_lead_out_of_the_folder(make_voice: Make, tmp_path: Path) -> None:
    folder = tmp_path / "golden"
    golden.make(make_voice(), folder)
    index = json.loads((folder / "golden.json").read_text())
    index["files"]["../secret.npy"] = {"sha256": "0", "size": 1}
    index["cases"][0]["inputs"]["phones"] = "not-listed.npy"
    (folder / "golden.json").write_text(json.dumps(index))
    with pytest.raises(ArtifactError, match=r"\.\./secret\.npy: missing") as caught:
        golden.read(folder)
    assert any("not-listed.npy: not in the index" in problem for problem in caught.value.problems)


class _FullSizeShapesDouble:
    """Random outputs in the shapes of a real voice (24 layers of 512): only the size of what is stored is asked for."""

    def __init__(self, version: str, gin: int, baked: bool) -> None:
        names = ("prefill", "step", "acoustic", "vocoder", *(() if baked else ("prompt", "reference")))
        self.model = Model(
            name="shapes",
            language="en",
            version=version,
            symbols="v2",
            rate=32000,
            hop=640,
            eos=1024,
            dims=Dims(L=24, D=512, H=16, V=1025, I=192, G=gin, phones=732, text_phones=732, codes=1024, positions=4000),
            spectrogram=Spectrogram(),
            sampling=SamplingDefaults(),
            files={name: f"{name}.onnx" for name in names},
        )
        self.stages = self.model.stages
        ge = {"ge": self._random(1, gin, 1), "ge_text": self._random(1, 512, 1)}
        self.baked = ge if baked else {}

    def _random(self, *shape: int) -> np.ndarray:
        return np.random.default_rng(0).standard_normal(shape).astype(np.float32)

    def run(self, stage: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if stage == "prompt":
            return {"codes": np.arange(feeds["ssl_content"].shape[2] // 2)[None] * 80}
        lengths = {axis: size for name in feeds for axis, size in self._axes(stage, name, feeds[name])}
        lengths |= {"X+Y": lengths.get("X", 0) + lengths.get("Y", 0), "N": lengths.get("F", 0) * 640}
        return {
            port.name: self._random(*(axis if isinstance(axis, int) else lengths[axis] for axis in port.shape))
            for port in self.stages[stage].outputs
        }

    def _axes(self, stage: str, name: str, array: np.ndarray) -> list[tuple[str, int]]:
        port = next(port for port in self.stages[stage].inputs if port.name == name)
        pairs = zip(port.shape, array.shape, strict=True)
        return [(axis, size) for axis, size in pairs if isinstance(axis, str)]
