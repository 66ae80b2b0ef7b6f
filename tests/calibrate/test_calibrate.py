"""Calibration: the pipeline speaks, what its stages saw is kept and measured, and ranges follow from it."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from gsvexport.calibrate import (
    CalibrationResult,
    Estimator,
    Observer,
    Settings,
    Vocoded,
    calibrate,
    observe,
    read_result,
)
from gsvexport.calibrate.corpus import Sentence
from gsvexport.calibrate.coverage import Coverage, code_usage, findings, pitch_spread, pitch_track
from gsvexport.calibrate.probe import _Chain, _crossing, _groups
from gsvexport.calibrate.ranges import LEVELS, Histogram
from gsvexport.calibrate.run import STAGES, _Sample, write_script
from gsvexport.calibrate.settings import utterances
from gsvexport.compiler.source import write_source
from gsvexport.errors import ArtifactError, BackendError, InputError
from gsvexport.files import canonical_json
from gsvexport.passes.quantise_conv import affine
from gsvexport.runtime.pipeline import LoadedVoice, load
from gsvexport.stages import frames
from gsvexport.synthetic import write_voice
from gsvexport.voice.voice import read_voice

FEW = Settings(sentences=6, lengths=(12, 14), rates=(0.7, 1.0, 1.4))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrate")
    return write_source(read_voice(write_voice(folder / "voice")), folder / "source")


@pytest.fixture(scope="module")
def result(source):
    return calibrate(source.path, FEW)


# --- what is said ---------------------------------------------------------------------------------------------------


def test_conditions_take_turns_and_meet_by_chance():
    settings = Settings()
    said = utterances(settings, [Sentence(str(n), "", ()) for n in range(30)], baked_prompt=True)
    assert set(Counter(one.rate for one in said).values()) == {6}
    assert set(Counter(one.prompt for one in said).values()) == {15}
    assert set(Counter(one.longest for one in said).values()) == {10}
    assert len({one.seed for one in said}) == 30
    assert len({(one.rate, one.prompt) for one in said}) == 10
    assert len({one.rate for one in said[:5]}) == 5
    assert said == utterances(settings, [one.sentence for one in said], baked_prompt=True)
    free = utterances(settings, [one.sentence for one in said], baked_prompt=False)
    assert {one.prompt for one in free} == {"free"}


def test_settings_out_of_range_are_all_named():
    with pytest.raises(InputError) as caught:
        Settings(sentences=0, rates=(9.0,), prompts=("none",), lengths=(), megabytes=0)
    assert len(caught.value.problems) == 5


def test_settings_survive_json_and_their_digest_tells_them_apart():
    again = Settings.from_json(json.loads(canonical_json(FEW.to_json())))
    assert again == FEW
    assert again.digest == FEW.digest != Settings().digest


# --- what the stages saw --------------------------------------------------------------------------------------------


def test_feeds_are_what_the_stages_take_and_follow_from_each_other(source, result):
    assert len(result.spoken) == len(result.feeds["acoustic"]) == len(result.feeds["vocoder"]) == 6
    script = write_script(FEW, source.model, baked_prompt=True).utterances
    with load(source.path) as voice:
        for one, spoken, acoustic, vocoder in zip(script, result.spoken, *result.feeds.values(), strict=True):
            assert acoustic["codes"][0].tolist() == spoken.codes.tolist()
            assert acoustic["noise"].shape[2] == frames(spoken.codes.size, one.rate)
            assert spoken.codes.size <= one.longest
            target = len(one.sentence.phones)
            assert acoustic["phones"].shape == (1, target)
            before = voice.baked["prompt_phones"].shape[1] if one.prompt == "baked" else 0
            assert spoken.phones.shape == (1, before + target)
            assert spoken.prompt.shape[1] == (voice.baked["prompt"].shape[1] if before else 0)
            np.testing.assert_array_equal(voice.run("acoustic", acoustic)["latent"], vocoder["latent"])


def test_teacher_forcing_says_the_same_codes_again(source, result):
    spoken = result.spoken[0]
    with load(source.path) as voice:
        bert = np.zeros((1, 1024, spoken.phones.shape[1]), np.float32)
        out = voice.run("prefill", {"phones": spoken.phones, "bert": bert, "prompt": spoken.prompt})
    assert out["keys"].shape[2] == spoken.phones.shape[1] + spoken.prompt.shape[1]


def test_a_latent_is_judged_by_how_it_sounds(source, result, monkeypatch):
    latent = result.feeds["vocoder"][0]["latent"]
    vocoded, spoken, run = Vocoded(source.path), [], LoadedVoice.run
    monkeypatch.setattr(LoadedVoice, "run", lambda *given: spoken.append(1) or run(*given))
    (wanted, equal), (again, other) = vocoded.pairs([(latent, latent), (latent, 1.1 * latent)])
    assert len(spoken) == 3  # what is expected is spoken once
    assert wanted is again
    assert np.array_equal(wanted, equal)
    assert wanted.shape == other.shape == (1, latent.shape[2] * source.model.hop)
    assert not np.array_equal(wanted, other)


def test_calibrating_twice_gives_the_same(source, result):
    again = calibrate(source.path, FEW)
    assert again.digest == result.digest
    assert again.to_json() == result.to_json()
    assert calibrate(source.path, replace(FEW, seed=1)).digest != result.digest


def test_a_sample_of_feeds_fits_and_depends_on_the_seed_alone():
    def kept(seed, megabytes=1.0):
        sample = _Sample(Settings(seed=seed, megabytes=megabytes))
        for number in range(40):
            one = {"x": np.full(40_000 // len(STAGES), number, np.float32)}  # 160 kB for all stages together
            sample.add(dict.fromkeys(STAGES, one))
        feeds = sample.feeds()
        numbers = [[int(one["x"][0]) for one in feeds[stage]] for stage in STAGES]
        assert numbers[0] == numbers[1] == sorted(numbers[0])
        return numbers[0]

    assert len(kept(0)) == 6
    assert kept(0) == kept(0) != kept(1)
    assert kept(0, megabytes=100) == list(range(40))
    assert set(kept(0)) < set(kept(0, megabytes=2))


def test_a_result_survives_the_disk_and_a_changed_one_is_refused(result, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        result.write(tmp_path / name)
    files = [{file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert files[0] == files[1]
    again = read_result(tmp_path / "one")
    assert isinstance(again, CalibrationResult)
    assert again.digest == result.digest
    assert again.coverage == result.coverage
    assert again.settings == result.settings
    path = tmp_path / "one" / "calibration.json"
    path.write_text(path.read_text().replace('"seconds": ', '"seconds": 1'))
    with pytest.raises(ArtifactError, match="digest"):
        read_result(tmp_path / "one")
    (tmp_path / "two" / "feeds.npz").write_bytes(b"PK")
    with pytest.raises(ArtifactError, match="no calibration"):
        read_result(tmp_path / "two")


def test_a_voice_without_a_reference_is_refused(tmp_path):
    plain = write_source(read_voice(write_voice(tmp_path / "voice", reference=False)), tmp_path / "source")
    with pytest.raises(InputError, match="no baked reference"):
        calibrate(plain.path, FEW)


# --- coverage -------------------------------------------------------------------------------------------------------


def test_coverage_counts_what_was_said(result):
    coverage = result.coverage
    assert coverage.languages == ("en",)
    assert (coverage.utterances, coverage.sentences, coverage.seeds) == (6, 6, 6)
    assert coverage.rates == {"0.7": 2, "1": 2, "1.4": 2}
    assert coverage.prompts == {"baked": 3, "free": 3}
    codes = np.concatenate([one.codes for one in result.spoken])
    assert coverage.codes.total == codes.size
    assert coverage.codes.distinct == len(set(codes.tolist()))
    assert coverage.codes_each[0] >= 11
    assert coverage.codes_each[2] <= 14
    samples = sum(one["latent"].shape[2] * 640 for one in result.feeds["vocoder"])
    assert coverage.seconds == round(samples / 32000, 3)
    assert any("one reference" in note for note in coverage.notes)
    assert Coverage.from_json(json.loads(canonical_json(coverage.to_json()))) == coverage
    assert "6 utterances of 6 sentences" in coverage.lines()[0]


def corpus_file(path, inventory, *sentences):
    entries = "".join(f'[[sentence]]\ntext = "x"\nphones = "{phones}"\n' for phones in sentences)
    path.write_text(f'language = "en"\ninventory = "{inventory}"\n{entries}', encoding="utf-8")
    return str(path)


def test_missing_phones_and_a_single_rate_are_named_and_refused_when_strict(source, tmp_path):
    corpus = corpus_file(tmp_path / "mine.toml", "AH0 K S OY2", "K AH0 K .", "K AH0 AH0 K !")
    settings = replace(FEW, corpus=corpus, sentences=2, rates=(1.0,))
    coverage = calibrate(source.path, settings).coverage
    assert coverage.share == 0.5
    assert coverage.missing == ("S", "OY2")
    assert [one.name for one in coverage.findings] == ["missing-phones", "single-rate"]
    assert "S OY2" in coverage.findings[0].text
    assert any("warning (single-rate)" in line for line in coverage.lines())
    with pytest.raises(InputError) as caught:
        calibrate(source.path, settings, strict=True)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["missing-phones", "single-rate"]
    whole = replace(settings, rates=(1.0, 1.2), corpus=corpus_file(tmp_path / "all.toml", "AH0 K", "K AH0 ."))
    assert calibrate(source.path, whole, strict=True).coverage.findings == ()


def test_sentences_that_a_voice_has_no_phones_for_are_left_out_and_reported(source, tmp_path):
    corpus = corpus_file(tmp_path / "mix.toml", "AH0 K ㄱ", "K AH0", "ㄱ K", "AH0 AH0 K")
    settings = replace(FEW, corpus=corpus)
    # 512 rows as upstream's v1 GPTs have, of which 322 stand for phones.
    old = replace(source.model, dims=replace(source.model.dims, phones=512))
    script = write_script(settings, old, baked_prompt=True)
    assert script.left_out == ("mix:2",)
    assert script.unsayable == ("ㄱ",)
    assert script.missing == ()
    assert {one.sentence.name for one in script.utterances} == {"mix:1", "mix:3"}
    assert write_script(settings, source.model, baked_prompt=True).left_out == ()
    with pytest.raises(InputError, match="no sentence"):
        write_script(replace(settings, corpus="ko"), old, baked_prompt=True)


def test_findings_are_none_for_a_wide_set():
    assert findings((), [0.7, 1.0]) == ()


def test_code_usage_by_hand():
    usage = code_usage([np.array([1, 1, 2]), np.array([3])], 1024)
    assert (usage.total, usage.distinct, usage.of) == (4, 3, 1024)
    assert usage.entropy == 1.5  # 1/2·1 + 2·1/4·2 bits
    assert code_usage([np.array([7, 7])], 1024).entropy == 0


@pytest.mark.parametrize("hertz", [70, 110, 220.5, 440])
def test_pitch_of_a_harmonic_tone(hertz):
    time = np.arange(32000) / 32000
    tone = sum(np.sin(2 * np.pi * hertz * order * time) / order for order in range(1, 8)).astype(np.float32)
    track = pitch_track(tone, 32000)
    assert np.isfinite(track).mean() > 0.95
    np.testing.assert_allclose(np.nanmedian(track), hertz, rtol=0.01)


def test_noise_and_silence_have_no_pitch_and_a_glide_has_a_spread():
    random = np.random.default_rng(0)
    assert np.isfinite(pitch_track(random.standard_normal(32000).astype(np.float32), 32000)).mean() < 0.05
    assert pitch_spread([pitch_track(np.zeros(32000, np.float32), 32000)]) is None
    assert pitch_spread([pitch_track(np.zeros(10, np.float32), 32000)]) is None
    time = np.arange(64000) / 32000
    glide = np.sin(2 * np.pi * (100 * time + 25 * time**2)).astype(np.float32)  # 100 to 200 Hz in 2 s
    found = pitch_spread([pitch_track(glide, 32000)])
    np.testing.assert_allclose([found.low, found.median, found.high], [105, 150, 195], rtol=0.03)
    np.testing.assert_allclose(found.spread, 12 * np.log2(195 / 105), atol=0.5)


# --- ranges ---------------------------------------------------------------------------------------------------------


def histogram(*arrays):
    made = Histogram()
    for array in arrays:
        made.add(np.asarray(array, np.float32))
    return made


def heavy_tailed(count=20_000, seed=3):
    values = np.random.default_rng(seed).standard_t(3, count)
    return values.astype(np.float32)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e6, 1e30])
def test_a_histogram_depends_on_the_values_and_not_on_how_they_came(scale):
    values = heavy_tailed() * np.float32(scale)
    whole = histogram(values)
    parts = histogram(*np.array_split(values[::-1], 37))
    assert (whole.low, whole.high) == (parts.low, parts.high) == (values.min(), values.max())
    assert (whole.exponent, whole.first) == (parts.exponent, parts.first)
    np.testing.assert_array_equal(whole.counts, parts.counts)
    assert 1000 <= whole.counts.size <= 2048
    np.testing.assert_array_equal(whole.counts, np.histogram(values.astype(np.float64), whole.edges)[0])


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0], [-3e38, 3e38], [1e-45, 1e-45], [1000.0, 1000.0001], [-7.5]])
def test_odd_tensors_have_a_histogram_and_ranges(values):
    made = histogram(values)
    assert made.counts.sum() == len(values)
    for kind in ("minmax", "percentile", "mse", "entropy"):
        low, high = Estimator(kind).estimate(made)
        assert low <= 0 <= high
        assert low >= min(0, *values, 0) * 1.0001
        assert high <= max(0, *values, 0) * 1.0001 + 1e-37


def test_minmax_is_exact():
    values = heavy_tailed()
    observer = Observer(Estimator("minmax"))
    for part in np.array_split(values, 5):
        observer.add("x", part)
    assert observer.ranges() == {"x": (float(values.min()), float(values.max()))}
    observer.add("positive", np.array([2.0, 3.0]))
    assert observer.ranges()["positive"] == (0.0, 3.0)


@pytest.mark.parametrize("percentile", [90, 99, 99.9, 100])
def test_percentile_keeps_the_middle_to_within_a_bin(percentile):
    values = heavy_tailed()
    made = histogram(values)
    low, high = Estimator("percentile", percentile).estimate(made)
    width = 2.0**made.exponent
    wanted = np.percentile(values.astype(np.float64), [(100 - percentile) / 2, (100 + percentile) / 2])
    spacing = np.diff(np.sort(values))  # between neighbours at the ends, where values are sparse
    assert abs(low - wanted[0]) <= width + spacing[:20].max()
    assert abs(high - wanted[1]) <= width + spacing[-20:].max()
    if percentile == 100:
        assert (low, high) == (values.min(), values.max())


def test_percentile_by_hand():
    # 10 000 values in a bin of their own each side of one outlier: half of 0.01 % is half a value, so it stays;
    # at 99.9 % five values go at each end.
    values = np.concatenate([np.zeros(9_999), [100.0]]).astype(np.float32)
    assert Estimator("percentile", 99.99).estimate(histogram(values)) == (0.0, 100.0)
    low, high = Estimator("percentile", 99.9).estimate(histogram(values))
    assert low == 0
    assert high < 0.1


def quantised(values, low, high):
    scale, zero = affine(low, high)
    return (np.clip(np.rint(values / scale) + zero, 0, LEVELS - 1) - zero) * scale


def test_mse_finds_the_best_of_all_cuts():
    values = np.append(np.random.default_rng(1).standard_normal(500_000), 20.0).astype(np.float32).astype(np.float64)
    made = histogram(values)
    grid = 8
    low, high = Estimator("mse", grid=grid).estimate(made)

    def error(low, high):
        return float(np.mean((values - quantised(values, low, high)) ** 2))

    ends = [(made.low * i / grid, made.high * j / grid) for i in range(1, grid + 1) for j in range(1, grid + 1)]
    best = min(error(*one) for one in ends)
    assert error(low, high) <= best * 1.02  # a bin's values are taken at its middle
    assert error(low, high) < 0.8 * error(made.low, made.high)
    assert high < 0.8 * made.high


def test_entropy_cuts_a_thin_tail_and_keeps_an_even_spread():
    flat = np.linspace(-1, 3, 50_000)
    assert Estimator("entropy").estimate(histogram(flat)) == (-1.0, 3.0)
    tail = np.concatenate([np.random.default_rng(0).standard_normal(100_000), [1000.0]])
    low, high = Estimator("entropy").estimate(histogram(tail))
    assert high < 200
    assert low < 0


def test_entropy_agrees_with_the_definition_in_plain_loops():
    made = histogram(heavy_tailed(2_000))
    grid = 6
    found = Estimator("entropy", grid=grid).estimate(made)
    bins = [(c, n) for c, n in zip(made.centres.tolist(), made.counts.tolist(), strict=True) if n]

    def divergence(low, high):
        scale, zero = affine(low, high)
        inside = [(c, n) for c, n in bins if (-zero - 0.5) * scale <= c <= (255 - zero + 0.5) * scale]
        p = [n for _, n in inside]
        p[0] += sum(n for c, n in bins if c < inside[0][0])
        p[-1] += sum(n for c, n in bins if c > inside[-1][0])
        levels = [min(255, max(0, round(c / scale) + zero)) for c, _ in inside]
        q = [
            sum(n for (_, n), other in zip(inside, levels, strict=True) if other == level) / levels.count(level)
            for level in levels
        ]
        total_p, total_q = sum(p), sum(n for _, n in inside)
        return sum(a / total_p * np.log(a / total_p / (b / total_q)) for a, b in zip(p, q, strict=True))

    ends = [(made.low * i / grid, made.high * j / grid) for i in range(1, grid + 1) for j in range(1, grid + 1)]
    assert found == tuple(float(np.float32(end)) for end in min(ends, key=lambda one: divergence(*one)))


def test_what_is_not_finite_is_refused_by_name():
    observer = Observer(Estimator())
    with pytest.raises(BackendError, match="tensor x: values are NaN"):
        observer.add("x", np.array([1.0, np.nan]))


def test_estimators_out_of_range_are_refused():
    with pytest.raises(InputError) as caught:
        Estimator("median", percentile=10, grid=1)
    assert len(caught.value.problems) == 3


# --- observing a graph ----------------------------------------------------------------------------------------------


def small_graph():
    """x [1, n] → a = x·2, b = relu(a), y = b - 1."""
    n = ir.SymbolicDim("n")
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, n]))
    two, one = (
        ir.Value(name=name, const_value=ir.tensor(np.float32(value), name=name), shape=ir.Shape([]))
        for name, value in (("two", 2), ("one", 1))
    )
    nodes = [ir.node("Mul", [x, two], name="a")]
    nodes.append(ir.node("Relu", [nodes[-1].outputs[0]], name="b"))
    nodes.append(ir.node("Sub", [nodes[-1].outputs[0], one], name="y"))
    for node in nodes:
        node.outputs[0].name = node.name
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    nodes[-1].outputs[0].shape = ir.Shape([1, n])
    graph = ir.Graph([x], [nodes[-1].outputs[0]], nodes=nodes, initializers=[two, one], opset_imports={"": 20})
    return ir.Model(graph, ir_version=10)


def test_inner_tensors_inputs_and_outputs_are_observed():
    feeds = [{"x": np.array([[-1.0, 0.25]], np.float32)}, {"x": np.array([[3.0]], np.float32)}]
    model = small_graph()
    found = observe(model, ["y", "a", "x", "b"], feeds, Estimator("minmax"))
    assert found == {"y": (-1.0, 5.0), "a": (-2.0, 6.0), "x": (-1.0, 3.0), "b": (0.0, 6.0)}
    assert list(found) == ["y", "a", "x", "b"]
    assert [value.name for value in model.graph.outputs] == ["y"], "the caller's graph has changed"


def test_unknown_tensors_and_empty_feeds_are_refused():
    with pytest.raises(InputError, match="does not compute"):
        observe(small_graph(), ["a", "q"], [{"x": np.zeros((1, 1), np.float32)}], Estimator())
    with pytest.raises(InputError, match="nothing to observe"):
        observe(small_graph(), ["a"], [], Estimator())


def test_parts_go_on_from_one_another():
    model, groups = small_graph(), [["x", "a"], ["b"], ["y"]]
    assert _crossing(model, groups) == [["a"], ["b"], []]
    found = dict(_Chain(model, groups, 1).run({"x": np.array([[-1.0, 0.25]], np.float32)}))
    assert {name: array.tolist() for name, array in found.items()} == {
        "x": [[-1.0, 0.25]],
        "a": [[-2.0, 0.5]],
        "b": [[0.0, 0.5]],
        "y": [[-1.0, -0.5]],
    }
    next(node for node in model.graph if node.name == "b").outputs[0].type = None
    assert _crossing(model, groups) == [[], [], []]  # what cannot be a port is computed again


def test_groups_hold_about_the_same_and_keep_the_order():
    assert _groups({"a": 5, "b": 5, "c": 5, "d": 5}, 2) == [["a", "b"], ["c", "d"]]
    assert _groups({"a": 100, "b": 1, "c": 1}, 3) == [["a"], ["b", "c"]]
    assert _groups({"a": 0}, 1) == [["a"]]


@pytest.mark.parametrize("kind", ["minmax", "percentile"])
def test_ranges_do_not_depend_on_memory_and_repeat_exactly(source, result, kind):
    model = ir.load(source.path / source.model.files["vocoder"])
    convolutions = [node for node in model.graph if node.op_type == "Conv"]
    names = list(dict.fromkeys(value.name for node in convolutions for value in (node.inputs[0], node.outputs[0])))
    feeds = result.feeds["vocoder"][:3]
    whole = observe(model, names, feeds, Estimator(kind))
    assert set(whole) == set(names)
    assert observe(model, names, feeds, Estimator(kind), budget=2_000_000) == whole
    assert observe(model, names, feeds[::-1], Estimator(kind)) == whole
    assert all(low <= 0 <= high and (low, high) != (0, 0) for low, high in whole.values())
    assert all(np.float32(end) == end for ends in whole.values() for end in ends)
