"""The ONE ONNX source of a voice: write it, open it, name it by a digest.

A source is a folder: `source.json` (what it is made of), `model.json` (what a runtime must know), `<stage>.onnx`,
`weights.safetensors` (every weight once; the graphs point into it by offset) and `baked/*.npy` (the fixed voice).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gsvexport.errors import ArtifactError, VoiceError
from gsvexport.files import atomic_directory, canonical_json, sha256_bytes, sha256_file
from gsvexport.model import Dims, Model, SamplingDefaults, Spectrogram, read_model
from gsvexport.stages import MEL_BANDS, POSITIONS, VERSIONS, stages
from gsvexport.untrusted import reading, schema
from gsvexport.untrusted.external import check_external
from gsvexport.voice.dims import SovitsDims, T2SDims
from gsvexport.voice.matching import MatchingDims

if TYPE_CHECKING:
    from gsvexport.graphs.builder import Weights
    from gsvexport.voice.reference import Reference
    from gsvexport.voice.voice import Voice

SCHEMA = 1
VOCABULARY = "vocab.txt"
WORDS = "embeddings.word_embeddings.weight"
META = "source.json"
_SHA256 = schema.text(64, re.compile("[0-9a-f]{64}"))
_FILE = schema.record({"size": schema.whole(0, 1 << 44), "sha256": _SHA256})
_LIST = schema.rows(schema.whole(0, 1 << 24), 64)
_KINDS = {
    "int": schema.whole(0, 1 << 24),
    "int | None": schema.optional(schema.whole(0, 1 << 24)),
    "str": schema.text(64),
    "bool": schema.flag,
    "tuple[int, ...]": _LIST,
    "tuple[tuple[int, ...], ...]": schema.rows(_LIST, 64),
}


def _sizes(kind: type[Any]) -> schema.Shape:
    """The shape of a dataclass of hyperparameters, from what its fields are said to be."""
    return schema.record({item.name: _KINDS[str(item.type)] for item in fields(kind)})


_KINDS["MatchingDims | None"] = schema.optional(_sizes(MatchingDims))
# Tables that are only told on, and read by nothing here, are checked for being tables.
_TOLD = schema.table(schema.anything, 1000)
_SHAPE = schema.record(
    {
        "schema": schema.one_of(SCHEMA),
        "name": schema.text(200),
        "version": schema.one_of(*VERSIONS),
        "hyperparameters": schema.record({"t2s": _sizes(T2SDims), "acoustics": _sizes(SovitsDims)}),
        "sampling": _TOLD,
        "stages": _TOLD,
        "provenance": _TOLD,
        "sovits": schema.text(64),
        "files": schema.table(_FILE, 4096),
        "digest": _SHA256,
    }
)
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """An opened source. `digest` names its content, `meta` is `source.json` as it stands."""

    path: Path
    model: Model
    digest: str
    meta: dict[str, Any]


def write_source(voice: Voice, out: Path, *, force: bool = False, progress: Progress | None = None) -> Source:
    """Write the source of `voice` to the folder `out`; it appears complete or not at all.

    The same voice gives the same bytes on any machine.

    Raises:
        InputError: `out` exists and `force` is false.
        VoiceError: a tensor overflows float32 when its weight norm is folded, or the reference cannot be used.
        EnvironmentProblem: the disk is full or not writable, or the extra `compile` is not installed.
    """
    from gsvexport.graphs import build_stages
    from gsvexport.graphs.receptive import context
    from gsvexport.graphs.save import save_graphs

    say = progress or (lambda _: None)
    with atomic_directory(out, force=force) as work:
        say("building the graphs")
        graphs, weights = build_stages(voice)
        _refuse_overflow(weights, voice)
        say("writing the weights")
        save_graphs(work, graphs)
        model = _model(voice, {name: f"{name}.onnx" for name in graphs})
        if VERSIONS[voice.version].mel is None:  # v3 and v4 are generated in long chunks and cannot stream
            model = replace(model, vocoder_context=context(graphs["vocoder"], "latent", "audio", model.hop))
        del graphs, weights
        if voice.pretrained.bert:
            (work / VOCABULARY).write_bytes(voice.pretrained.bert.vocabulary)
        if voice.reference is not None:
            say("baking the reference")
            model = _baked(work, model, voice.sovits.sha256, voice.reference)
        (work / "model.json").write_bytes(canonical_json(model.to_json()).encode())
        say("hashing")
        meta = _meta(voice, model, work)
        (work / META).write_bytes(canonical_json(meta).encode())
    return Source(out, model, meta["digest"], meta)


def open_source(path: Path, *, verify: bool = False) -> Source:
    """Open a source folder. Sizes are always checked, hashes only with `verify` (it reads every byte).

    Raises:
        ArtifactError: not a source, of an unknown schema, or incomplete, or (with `verify`) changed; or it lists files
            elsewhere, or holds links.
    """
    where = path / META
    try:
        meta = reading.read_json(reading.inside(path, META))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path} is not a source directory: {where} {reading.why(error)}", fix="gsvexport source VOICE -o DIR"
        ) from error
    if not isinstance(meta, dict) or meta.get("schema") != SCHEMA:
        raise ArtifactError(f"{where}: unknown schema", limit=f"schema {SCHEMA}", fix="export the source again")
    if problems := schema.findings(meta, _SHAPE):
        raise ArtifactError(f"{where} cannot be right", problems=problems, fix="export the source again")
    for name, entry in meta["files"].items():
        try:
            file = reading.inside(path, name)
        except reading.Refused as error:
            problems.append(f"it {error}")
            continue
        if not reading.regular(file):
            problems.append(f"{name} is missing")
        elif file.stat().st_size != entry["size"]:
            problems.append(f"{name} has {file.stat().st_size} bytes instead of {entry['size']}")
        elif verify and sha256_file(file) != entry["sha256"]:
            problems.append(f"{name} has changed (SHA-256 differs)")
        elif name.endswith(".onnx"):
            try:
                check_external(file)
            except reading.Refused as error:
                problems.append(f"{name} {error}")
    if problems or _digest(meta) != meta["digest"]:
        problems = problems or ["source.json does not match its own digest"]
        raise ArtifactError(f"the source {path} is damaged", problems=problems, fix="export the source again")
    model = read_model(path)
    named = {"model.json", *model.files.values(), *model.baked.values(), *filter(None, [model.vocabulary])}
    if unlisted := sorted(named - meta["files"].keys()):
        problems = [f"{name} is used and not listed" for name in unlisted]
        raise ArtifactError(f"the source {path} is damaged", problems=problems, fix="export the source again")
    return Source(path, model, meta["digest"], meta)


def rebake(source: Source, reference: Reference, out: Path, *, progress: Progress | None = None) -> Source:
    """The same source with another reference, in the folder `out`; the graphs and weights are copies.

    Raises:
        InputError: `out` exists; a recording that no prompt codes can be made of.
        VoiceError: the reference cannot be used.
    """
    say = progress or (lambda _: None)
    with atomic_directory(out) as work:
        kept = {name: entry for name, entry in source.meta["files"].items() if name not in source.model.baked.values()}
        for name in kept.keys() - {"model.json"}:
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.path / name, work / name)  # no second name: onnx-ir refuses weights with several
        say("baking the reference")
        model = replace(source.model, baked={}, baked_key=None)
        model = _baked(work, model, source.meta["sovits"], reference)
        (work / "model.json").write_bytes(canonical_json(model.to_json()).encode())
        changed = ("model.json", *model.baked.values())
        files = {**kept, **{name: _entry(work / name) for name in changed}}
        meta = {**source.meta, "files": dict(sorted(files.items()))}
        meta["digest"] = _digest(meta)
        (work / META).write_bytes(canonical_json(meta).encode())
    return Source(out, model, meta["digest"], meta)


def _baked(work: Path, model: Model, sovits: str, reference: Reference) -> Model:
    from gsvexport.graphs import bake

    arrays, key = bake(work, model, sovits, reference)
    return replace(model, baked={name: _save_array(work, name, array) for name, array in arrays.items()}, baked_key=key)


def _model(voice: Voice, files: dict[str, str]) -> Model:
    t2s, dims = voice.t2s, voice.acoustics
    mel, hop = VERSIONS[voice.version].mel, int(np.prod(dims.upsample_rates))
    return Model(
        name=voice.name,
        language=voice.language,
        version=voice.version,
        symbols=dims.symbols,
        rate=dims.rate if mel is None else mel.rate * hop // mel.hop,
        hop=hop,
        eos=t2s.eos,
        dims=Dims(
            L=t2s.layers,
            D=t2s.width,
            H=t2s.heads,
            V=t2s.vocab,
            I=dims.inter if mel is None else MEL_BANDS,
            G=dims.gin,
            phones=t2s.phones,
            text_phones=dims.text_phones,
            codes=dims.codes,
            positions=POSITIONS,
            tokens=len(voice.pretrained.bert.file.tensors[WORDS]) if voice.pretrained.bert else 0,
        ),
        spectrogram=Spectrogram(dims.rate, dims.n_fft, dims.hop, dims.window_length),
        sampling=SamplingDefaults(),
        files=files,
        vocabulary=VOCABULARY if voice.pretrained.bert else None,
    )


def _meta(voice: Voice, model: Model, work: Path) -> dict[str, Any]:
    files = sorted(p for p in work.rglob("*") if p.is_file())
    table = stages(voice.version)
    meta = {
        "schema": SCHEMA,
        "name": voice.name,
        "version": voice.version,
        "hyperparameters": {"t2s": asdict(voice.t2s), "acoustics": asdict(voice.acoustics)},
        "sampling": asdict(model.sampling),
        "stages": {name: {**asdict(table[name]), "file": file} for name, file in model.files.items()},
        "provenance": voice.provenance,
        "sovits": voice.sovits.sha256,
        "files": {file.relative_to(work).as_posix(): _entry(file) for file in files},
    }
    return {**meta, "digest": _digest(meta)}


def _entry(file: Path) -> dict[str, Any]:
    return {"size": file.stat().st_size, "sha256": sha256_file(file)}


def _digest(meta: dict[str, Any]) -> str:
    return sha256_bytes(canonical_json({key: value for key, value in meta.items() if key != "digest"}).encode())


def _refuse_overflow(weights: Weights, voice: Voice) -> None:
    bad = [name for name, array in weights.arrays.items() if not np.isfinite(array).all()]
    if bad:
        raise VoiceError(
            f"voice {voice.name}: weights that are not finite once weight norm is folded",
            problems=bad,
            fix="the checkpoint is damaged or its training diverged: export it again from a good epoch",
        )


def _save_array(work: Path, name: str, array: np.ndarray) -> str:
    file = f"baked/{name}.npy"
    (work / "baked").mkdir(exist_ok=True)
    np.save(work / file, array, allow_pickle=False)
    return file
