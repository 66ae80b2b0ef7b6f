"""Baking: what `prompt`, `speaker` and `reference` give for one fixed reference, as stored constants."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gsvexport.errors import VoiceError, missing_package
from gsvexport.model import Model
from gsvexport.signal.cloning import Run, take
from gsvexport.stages import POSITIONS
from gsvexport.text.features import LANGUAGE, LARGEST_VOCABULARY, text_features, vocabulary
from gsvexport.text.phonemise import read
from gsvexport.text.symbols import phone_ids
from gsvexport.untrusted.reading import read_bytes

if TYPE_CHECKING:
    import onnx_ir as ir

    from gsvexport.voice.reference import Reference

_KEYED = ("prompt", "prompt_phones", "prompt_bert", "prompt_mel")


def bake(folder: Path, model: Model, sovits: str, reference: Reference) -> tuple[dict[str, np.ndarray], str]:
    """The constants of a reference, and their key, by the stages of a source in `folder`. `sovits` names its weights.

    Returns:
        Arrays by name: `prompt` int64 [1, Y], `prompt_phones` int64 [1, P], `prompt_bert` float32 [1, 1024, P] where
        stage `bert` reads the reference's language, `ge` float32 [1, G, 1] and, for versions with a speaker network,
        `ge_text` float32 [1, 512, 1], for v3 and v4 `prompt_mel` float32 [1, 100, M], the normalised mel of the first
        recording; only those that the reference provides. Several reference recordings give the mean of their `ge`.
        The key is SHA-256 over the SoVITS weights and the reference's content.

    Codes, embeddings and features of a recording are made by ONNX Runtime in float32; `ge` in float64.

    Raises:
        VoiceError: the reference's audio cannot be read or gives a conditioning that is not finite.
        InputError: it is too short or too long for prompt codes.
    """
    run = _Stages(folder, model)
    recordings = [_decoded(path) for path in reference.audio]
    arrays = take(run, model, recordings, reference.phones, reference.prompt_codes, reference.speaker)
    if "prompt" in arrays and (features := _features(folder, model, reference, run)) is not None:
        arrays["prompt_bert"] = features
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise VoiceError(f"voice {model.name}: the reference gives a {name} that is not finite")
    digest = hashlib.sha256(sovits.encode())
    for samples, rate in recordings:
        _update(digest, samples, np.int64(rate))
    _update(digest, *reference.speaker, *(arrays[name] for name in _KEYED if name in arrays))
    return arrays, digest.hexdigest()


class _Stages:
    """Runs the stages of a source, each opened once."""

    def __init__(self, folder: Path, model: Model) -> None:
        self.folder, self.model, self.sessions = folder, model, dict[str, Any]()

    def __call__(self, stage: str, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
        file = self.folder / self.model.files[stage]
        if stage == "reference":
            return evaluate_float64(_loaded(file), dict(feeds))
        try:
            import onnxruntime
        except ImportError as error:
            raise missing_package("onnxruntime", "making prompt codes of a recording", "compile") from error
        if stage not in self.sessions:
            self.sessions[stage] = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        session = self.sessions[stage]
        names = [port.name for port in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def _loaded(file: Path) -> ir.Model:
    """A small graph with its weights."""
    import onnx_ir as ir

    return ir.external_data.load_to_model(ir.load(file))


def _decoded(path: Path) -> tuple[np.ndarray, int]:
    """A recording's mono samples and rate."""
    from gsvexport.signal.audio import decode

    samples, rate = decode(path)
    return samples.mean(axis=1, dtype=np.float64), rate


def _features(folder: Path, model: Model, reference: Reference, run: Run) -> np.ndarray | None:
    """BERT's features of the reference's text, [1, 1024, P], where it has some."""
    if model.vocabulary is None or reference.text is None or reference.language != LANGUAGE:
        return None
    found = read(reference.text, reference.language, model.symbols, limit=POSITIONS, prompt=True)
    if reference.phones != phone_ids([phone for sentence in found for phone in sentence.phones], model.symbols):
        return None  # given phones, whose characters are not known
    known = vocabulary(read_bytes(folder / model.vocabulary, LARGEST_VOCABULARY))
    return np.concatenate([text_features(sentence, known, run) for sentence in found], axis=2)


def _update(digest: hashlib._Hash, *arrays: np.ndarray | np.int64) -> None:
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())


def evaluate_float64(model: ir.Model, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run a graph of float32 operators in float64.

    Rounded to float32 afterwards, the result does not depend on a machine's vector width or order of summation, so a
    baked voice has the same bytes everywhere. It is slow, and meant for small graphs.
    """
    import onnx
    import onnx_ir as ir
    from onnx.reference import ReferenceEvaluator

    proto = ir.serde.serialize_model(model)
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(
                onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float64), tensor.name)
            )
    for value in (*proto.graph.input, *proto.graph.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    wide = {name: a.astype(np.float64) if a.dtype == np.float32 else a for name, a in feeds.items()}
    names = [value.name for value in proto.graph.output]
    return dict(zip(names, ReferenceEvaluator(proto).run(names, wide), strict=True))
