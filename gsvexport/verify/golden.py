"""Golden vectors: fixed inputs of every stage, and what the FP32 source makes of them.

They travel inside an artifact, so that a device can check itself without the source. Inputs depend on the model
description alone (a seeded PCG64) and are exact in float16, so every precision is fed the same numbers and they are
stored in half the bytes. Logits, latents and audio are stored whole. Of the key and value caches (2.4 MB for a
full-size voice after 24 codes) every row of every layer is stored as its projection on four fixed directions: a wrong
row, layer or channel order moves it, and it takes 1/128 of the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import ArtifactError, InputError, VoiceError
from gsvexport.files import atomic_directory, canonical_json, sha256_file
from gsvexport.model import Model
from gsvexport.runtime.sampling import penalise
from gsvexport.stages import (
    BERT_WIDTH,
    CLONING_STAGES,
    PRETRAINED_STAGES,
    SPEAKER_BANDS,
    SPEAKER_WIDTH,
    SPECTROGRAM_BINS,
    SSL_WIDTH,
    SYMBOL_COUNTS,
    VERSIONS,
    Stage,
    frames,
    mel_mask,
)
from gsvexport.untrusted import reading, schema
from gsvexport.verify.audio import silence_share
from gsvexport.verify.cases import Array, Case, Runnable, Size
from gsvexport.verify.heldout import spoken
from gsvexport.verify.ruler import SHAPE as RULER
from gsvexport.verify.ruler import Ruler
from gsvexport.verify.sounding import first_step, mel_of

SCHEMA = 1
SEED = 20240117
INDEX = "golden.json"
FOLDER = "golden"  # inside an artifact
TEACHER = "teacher"  # the case that goes through `prefill` and then `step` with given tokens
COVERS = {TEACHER: ("prefill", "step")}
_TEACHER_INPUTS, _TEACHER_OUTPUTS = {"phones", "bert", "prompt", "tokens"}, {"logits", "keys", "values"}
DIRECTIONS = 4
NOISE_SCALE = 0.5  # upstream's own
_NAME = schema.text(200)
_ARRAYS = schema.table(_NAME, 64)
_SHAPE = schema.record(
    {
        "schema": schema.one_of(SCHEMA),
        "seed": schema.whole(0, (1 << 63) - 1),
        "cases": schema.rows(
            schema.record({"name": _NAME, "stage": _NAME, "inputs": _ARRAYS, "outputs": _ARRAYS}), 1000
        ),
        "files": schema.table(
            schema.record({"sha256": schema.text(64), "size": schema.whole(0, reading.LARGEST_ARRAY)}),
            4096,
        ),
    },
    {"ruler": RULER},
)


# Two lengths of everything; SSL frames even and odd, with and without prompt, two speeds. 24 codes are 0.96 s.
GOLDEN = (
    Size("a", phones=12, prompt=9, tokens=24, codes=24, speed=1.0, spectrogram=16, ssl=14, bert=True),
    Size("b", phones=7, prompt=0, tokens=12, codes=9, speed=1.25, spectrogram=9, ssl=9, bert=False),
)

SECONDS_PER_PHONE = 0.08  # spoken at most, so that a sentence is left before its end: greedy codes have none
SAID_SECONDS = 2.0


def sizes(model: Model) -> tuple[Size, ...]:
    """The golden sizes of a voice: `GOLDEN` and, where there are sentences in its language, 2 s of the first one."""
    try:
        phones = spoken(model, 1)
    except InputError:
        phones = ()
    return (*GOLDEN, *(said(f"said{index}", one, SAID_SECONDS, model) for index, one in enumerate(phones)))


def said(name: str, phones: Sequence[int], seconds: float, model: Model) -> Size:
    """The size of a spoken sentence, of at most so many seconds."""
    codes = max(1, round(min(seconds, SECONDS_PER_PHONE * len(phones)) * model.code_rate))
    return Size(name, len(phones), 0, codes, codes, 1.0, 16, 14, bert=False, sentence=tuple(phones))


def make(source_folder: Path, out_folder: Path, ruler: Ruler | None = None, *, force: bool = False) -> None:
    """Run the source on the golden inputs and store everything in `out_folder` with an index, the source's ruler in it.

    On one core, so that the same bytes come of every number of cores: in parts, a convolution is summed in another
    order.

    Raises:
        InputError: `out_folder` exists and `force` is false.
        VoiceError: the source itself gives NaN or infinite values.
    """
    from gsvexport.runtime.pipeline import load

    with load(source_folder, threads=1) as voice:
        made = of(voice)
    write(made, out_folder, ruler, force=force)


def of(voice: Runnable, known: Sequence[Case] = ()) -> list[Case]:
    """The golden vectors of a source that is open, on one core. The cloning stages of a baked voice are left out: its
    artifacts do not hold them.

    `known` are those of a source with the same T2S network: what it says to the same inputs is not computed again.

    Raises:
        VoiceError: the source itself gives NaN or infinite values.
    """
    left_out = CLONING_STAGES if voice.baked else ()
    return [case for case in cases(voice, sizes(voice.model), known=known) if case.stage not in left_out]


def write(golden: Sequence[Case], folder: Path, ruler: Ruler | None = None, *, force: bool = False) -> None:
    """Store cases as `.npy` files with `golden.json`, and the voice's ruler in it; equal arrays are stored once."""
    with atomic_directory(folder, force=force) as work:
        files: dict[str, dict[str, Any]] = {}
        known: dict[str, str] = {}

        def store(name: str, array: Array) -> str:
            path = work / f"{name}.npy"
            np.save(path, _compact(array), allow_pickle=False)
            digest = sha256_file(path)
            if digest in known:
                path.unlink()
                return known[digest]
            files[path.name] = {"sha256": digest, "size": path.stat().st_size}
            return known.setdefault(digest, path.name)

        index = [
            {
                "name": case.name,
                "stage": case.stage,
                **{
                    side: {port: store(f"{case.name}.{case.stage}.{port}", array) for port, array in arrays.items()}
                    for side, arrays in (("inputs", case.inputs), ("outputs", case.outputs))
                },
            }
            for case in golden
        ]
        value = {"schema": SCHEMA, "seed": SEED, "cases": index, "files": files}
        value |= {"ruler": ruler.to_json()} if ruler else {}
        (work / INDEX).write_bytes(canonical_json(value).encode())


def read(folder: Path) -> tuple[Case, ...]:
    """Read what `write` stored; sizes and hashes are checked.

    Raises:
        ArtifactError: absent, of another schema, or damaged (every file listed).
    """
    fix = "build the artifact again"
    value = index(folder)
    rows = value["cases"]
    expected: dict[str, str] = {name: entry["sha256"] for name, entry in value["files"].items()}
    named = {file for row in rows for side in ("inputs", "outputs") for file in row[side].values()}
    problems = [f"{name}: not in the index's files" for name in sorted(named - expected.keys())]
    arrays: dict[str, Array] = {}
    for name, digest in sorted(expected.items()):
        try:
            path = reading.inside(folder, name)
            if not path.is_file():
                problems.append(f"{name}: missing")
            elif sha256_file(path) != digest:
                problems.append(f"{name}: has changed (SHA-256 differs)")
            else:
                arrays[name] = _full(reading.read_array(path))
        except (OSError, ValueError) as error:
            problems.append(f"{name}: missing from the folder: it {reading.why(error)}")
    if problems:
        raise ArtifactError(f"the golden vectors in {folder} are damaged", problems=problems, fix=fix)

    def side(row: Mapping[str, Any], which: str) -> dict[str, Array]:
        return {port: arrays[file] for port, file in row[which].items()}

    return tuple(Case(str(row["name"]), str(row["stage"]), side(row, "inputs"), side(row, "outputs")) for row in rows)


def index(folder: Path) -> dict[str, Any]:
    """The index of golden vectors in `folder`, checked in every entry.

    Raises:
        ArtifactError: absent, of another schema, or damaged.
    """
    where, fix = folder / INDEX, "build the artifact again"
    try:
        value = reading.read_json(reading.inside(folder, INDEX))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{where} {reading.why(error)}", fix=fix) from error
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise ArtifactError(f"{where} is not an index of golden vectors, schema {SCHEMA}", fix=fix)
    if problems := schema.findings(value, _SHAPE):
        raise ArtifactError(f"{where} cannot be right", problems=problems, fix=fix)
    found: dict[str, Any] = value
    return found


def read_ruler(folder: Path) -> Ruler:
    """The ruler that `write` stored; artifacts of earlier releases have none, and it says so.

    Raises:
        ArtifactError: damaged.
    """
    value = index(folder).get("ruler")
    return Ruler.from_json(value, str(folder / INDEX)) if value else Ruler(0, reason="the artifact holds no ruler")


def lacking(model: Model, stages: Mapping[str, Stage], found: Sequence[Case]) -> dict[str, list[str]]:
    """For each of these stages the golden vectors that it has to have and has not, in words.

    Whatever else there is, every stage has a case of each of the sizes `GOLDEN`, with its inputs in their lengths and
    all of its outputs, and sound is heard in it: weights of zeros would agree with vectors of zeros.
    """
    rows: dict[tuple[str, str], Case] = {(case.stage, case.name): case for case in found}
    problems: dict[str, list[str]] = {name: [] for name in stages}
    for size in GOLDEN:
        given = {**inputs(model, size, np.random.Generator(np.random.PCG64(SEED))), "tokens": np.empty(size.tokens)}
        for name, stage in stages.items():
            kind = next((key for key, covered in COVERS.items() if name in covered), name)
            outputs = _TEACHER_OUTPUTS if kind == TEACHER else {port.name for port in stage.outputs}
            needed = _TEACHER_INPUTS if kind == TEACHER else {port.name for port in stage.inputs}
            case = rows.get((kind, size.name))
            if case is None:
                problems[name].append(f"case {size.name} is absent")
                continue
            problems[name] += [
                f"case {size.name} has no {port}"
                for port in sorted((needed - case.inputs.keys()) | (outputs - case.outputs.keys()))
            ]
            problems[name] += [
                f"case {size.name}: {port} is {list(case.inputs[port].shape)}, not {list(given[port].shape)}"
                for port in sorted(needed & case.inputs.keys() & given.keys())
                if case.inputs[port].shape != given[port].shape
            ]
            sound = case.outputs.get("audio")
            if sound is not None and silence_share(sound.reshape(-1), model.rate) == 1:
                problems[name].append(f"case {size.name} is silent")
    return problems


def cases(
    voice: Runnable, chosen: Sequence[Size], *, baked_prompt: bool = False, first: int = 0, known: Sequence[Case] = ()
) -> tuple[Case, ...]:
    """Run a reference voice on the inputs of each size, stage by stage. The number of a size, from `first` on, decides
    what is random in it.

    A baked voice is given its own conditioning, any other what stage `reference` makes of the random spectrogram. With
    `baked_prompt` the baked prompt and its phones go in front of the random ones where a size has a prompt. For `known`
    see `of`.

    Raises:
        VoiceError: the reference gives NaN or infinite values.
    """
    found: list[Case] = []
    for index, size in enumerate(chosen, first):
        found += _cases(voice, size, np.random.Generator(np.random.PCG64([SEED, index])), baked_prompt, known)
    problems = [
        f"{case.stage}.{port}, case {case.name}"
        for case in found
        for port, array in case.outputs.items()
        if not np.isfinite(array).all()
    ]
    if problems:
        raise VoiceError(
            f"voice {voice.model.name}: the FP32 source gives NaN or infinite values",
            problems=problems,
            fix="its training diverged: export it from an earlier epoch",
        )
    return tuple(found)


def teacher_forced(
    voice: Runnable, phones: Array, bert: Array, prompt: Array, tokens: Array | None, count: int
) -> dict[str, Array]:
    """Feed given tokens [count], or the greedy ones where `tokens` is None, and keep what the network says.

    The greedy choice is the arg-max after the voice's own repetition penalty over codes alone, so EOS cannot end it.
    Returns tokens [count], logits [count, V] and the projected caches keys, values [L, X + Y + count - 1, 4].
    """
    model = voice.model
    out = voice.run("prefill", {"phones": phones, "bert": bert, "prompt": prompt})
    held = out["keys"].shape[2]
    # With room for every code: a longer copy of it for each would take as long as the step.
    room = {name: np.pad(out[name], ((0, 0), (0, 0), (0, count), (0, 0))) for name in ("keys", "values")}
    rows, history = [out["logits"][0]], prompt[0]
    start = prompt.shape[1]
    codes = min(model.eos, model.dims.codes)
    for step in range(count):
        if tokens is None:
            token = int(np.argmax(penalise(rows[-1], history, model.sampling.repetition_penalty)[:codes]))
        else:
            token = int(tokens[step])
        history = np.append(history, token)
        if step == count - 1:
            break
        cache = {name: array[:, :, :held] for name, array in room.items()}
        out = voice.run("step", {"token": np.array([[token]]), "position": np.array([start + step]), **cache})
        rows.append(out["logits"][0])
        for name, array in room.items():
            array[:, :, held] = out[f"new_{name}"][:, :, 0]
        held += 1
    projected = {name: project(array[:, :, :held]) for name, array in room.items()}
    return {"tokens": history[start:], "logits": np.stack(rows), **projected}


def project(cache: Array) -> NDArray[np.float32]:
    """Cache [L, 1, S, D] → [L, S, 4]: each row on fixed directions with uniform entries in [-1, 1), over √D.

    The entries come from PCG64's raw integers, which numpy promises never to change.
    """
    width = cache.shape[-1]
    raw = np.asarray(np.random.PCG64(SEED).random_raw(width * DIRECTIONS)) >> np.uint64(40)
    directions = (raw.astype(np.float64) / 2**23 - 1.0).reshape(width, DIRECTIONS) / np.sqrt(width)
    return np.asarray(cache[:, 0].astype(np.float64) @ directions, np.float32)


def pick(stage: Stage, values: Mapping[str, Array]) -> dict[str, Array]:
    """The feeds of a stage from a larger set of named arrays."""
    return {port.name: values[port.name] for port in stage.inputs}


def _cases(
    voice: Runnable, size: Size, random: np.random.Generator, baked_prompt: bool, known: Sequence[Case]
) -> list[Case]:
    model, table, found = voice.model, voice.stages, []
    given = inputs(model, size, random)

    def run(stage: str, values: Mapping[str, Array]) -> dict[str, Array]:
        feeds = pick(table[stage], values)
        found.append(Case(size.name, stage, feeds, voice.run(stage, feeds)))
        return found[-1].outputs

    for name in (*PRETRAINED_STAGES, "prompt"):
        if name in table:
            run(name, given)
    conditioning = run("reference", given) if "reference" in table else {}
    values = {**given, **conditioning, **{name: array for name, array in voice.baked.items() if name[:2] == "ge"}}
    teacher = {name: given[name] for name in ("phones", "bert", "prompt")}
    if (size.sentence or (baked_prompt and size.prompt)) and "prompt" in voice.baked:
        before = voice.baked.get("prompt_phones", np.empty((1, 0), np.int64))
        silent = voice.baked.get("prompt_bert", np.zeros((1, BERT_WIDTH, before.shape[1]), np.float32))
        teacher = {
            "phones": np.concatenate([before, given["phones"]], axis=1),
            "bert": np.concatenate([silent, given["bert"]], axis=2),
            "prompt": voice.baked["prompt"],
        }
    forced = _said_before(known, size, teacher) or teacher_forced(voice, **teacher, tokens=None, count=size.tokens)
    tokens = forced.pop("tokens")
    found.append(Case(size.name, TEACHER, {**teacher, "tokens": tokens}, forced))
    values["codes"] = tokens[np.newaxis, : size.codes]
    if VERSIONS[model.version].mel is None:
        run("vocoder", {**values, **run("acoustic", values)})
        return found
    fea = run("features", values)["fea"]
    matching = first_step(voice, fea, size, random)
    run("cfm", matching)
    run("vocoder", {"mel": mel_of(voice, matching, fea)})
    return found


def _said_before(known: Sequence[Case], size: Size, teacher: Mapping[str, Array]) -> dict[str, Array] | None:
    """What `teacher_forced` would return for the same inputs, where it is known."""
    for case in known:
        tokens = case.inputs.get("tokens") if case.stage == TEACHER and case.name == size.name else None
        if tokens is None or len(tokens) != size.tokens:
            continue
        if all(np.array_equal(case.inputs[name], array) for name, array in teacher.items()):
            return {"tokens": tokens, **case.outputs}
    return None


def inputs(model: Model, size: Size, random: np.random.Generator) -> dict[str, Array]:
    """Random values for every input port that does not come from another stage; exact in float16."""
    dims = model.dims
    phones = min(dims.phones, dims.text_phones, SYMBOL_COUNTS[model.symbols])

    def normal(*shape: int) -> Array:
        return random.standard_normal(shape).astype(np.float16).astype(np.float32)

    bert = np.zeros((1, BERT_WIDTH, size.phones), np.float32)
    if size.bert:
        bert[:, :, ::2] = normal(1, BERT_WIDTH, (size.phones + 1) // 2)
    falling = np.linspace(2.0, -4.0, SPECTROGRAM_BINS)[:, None]  # speech has less at high frequencies
    spectrum = np.abs(normal(1, SPECTROGRAM_BINS, size.spectrogram)) * np.exp(falling)
    said = np.array([size.sentence], np.int64)
    mel = VERSIONS[model.version].mel
    ids = {
        "phones": said if size.sentence else random.integers(phones, size=(1, size.phones)),
        "prompt": random.integers(min(dims.codes, model.eos), size=(1, size.prompt)),
    }
    if mel is None:
        noise = normal(1, dims.I, frames(size.codes, size.speed))
        moving = {"noise": noise, "noise_scale": np.array(NOISE_SCALE, np.float32)}
    else:
        count, ones = mel_mask(size.codes, size.speed, mel)
        moving = {"mask": (np.arange(count) < ones).astype(np.float32)[None, None]}
    return {
        **ids,
        "bert": bert,
        **moving,
        "spectrogram": spectrum.astype(np.float16).astype(np.float32),
        "ssl_content": normal(1, SSL_WIDTH, size.ssl),
        "speaker": normal(1, SPEAKER_WIDTH),
        "audio_16k": normal(1, 320 * size.ssl + 80),
        "fbank": normal(1, 4 * size.spectrogram, SPEAKER_BANDS),
        "input_ids": random.integers(max(1, dims.tokens), size=(1, size.phones + 2)),
    }


def _compact(array: Array) -> Array:
    """float16 where that loses nothing, int16 for small integers: what `_full` undoes."""
    kind = {"f": np.float16, "i": np.int16}.get(array.dtype.kind)
    if kind is None:
        return array
    with np.errstate(over="ignore"):
        small = array.astype(kind)
    return small if np.array_equal(small.astype(array.dtype), array) else array


def _full(array: Array) -> Array:
    return array.astype({"f": np.float32, "i": np.int64}.get(array.dtype.kind, array.dtype))
