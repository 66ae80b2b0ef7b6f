"""Baking: what `prompt`, `speaker` and `reference` give for one fixed reference, as stored constants."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from gsvexport.errors import VoiceError
from gsvexport.model import Spectrogram
from gsvexport.stages import VERSIONS, mel_mask, normalised

if TYPE_CHECKING:
    import onnx_ir as ir

    from gsvexport.voice.voice import Voice


def bake(voice: Voice, graphs: dict[str, ir.Model]) -> tuple[dict[str, np.ndarray], str]:
    """The constants of the voice's reference, and their key.

    Returns:
        Arrays by name: `prompt` int64 [1, Y], `prompt_phones` int64 [1, P], `ge` float32 [1, G, 1] and, for versions
        with a speaker network, `ge_text` float32 [1, 512, 1], for v3 and v4 `prompt_mel` float32 [1, 100, M], the
        normalised mel of the first recording; only those that the reference provides. Several reference recordings give the mean of their `ge`. The key is SHA-256 over the SoVITS weights and the reference's content.

    Raises:
        VoiceError: the reference's audio cannot be read or gives a conditioning that is not finite.
    """
    from gsvexport.audio import mel_spectrogram, read_audio, spectrogram

    reference = voice.reference
    assert reference is not None
    digest = hashlib.sha256(voice.sovits.sha256.encode())
    arrays: dict[str, np.ndarray] = {}
    if reference.prompt_codes is not None:
        arrays["prompt"] = np.asarray(reference.prompt_codes, np.int64).reshape(1, -1)
        arrays["prompt_phones"] = np.asarray(reference.phones or (), np.int64).reshape(1, -1)
    conditionings = []
    dims = voice.acoustics
    parameters = Spectrogram(dims.rate, dims.n_fft, dims.hop, dims.window_length)
    for index, path in enumerate(reference.audio):
        samples = read_audio(path, parameters.rate)
        feeds = {"spectrogram": spectrogram(samples, parameters)}
        if reference.speaker:
            feeds["speaker"] = reference.speaker[index].reshape(1, -1)
        conditionings.append(evaluate_float64(graphs["reference"], feeds))
        _update(digest, samples, *feeds.values())
    if conditionings:
        for name in conditionings[0]:
            mean = np.mean([found[name] for found in conditionings], axis=0)
            if not np.isfinite(mean).all():
                raise VoiceError(f"voice {voice.name}: the reference gives a {name} that is not finite")
            arrays[name] = mean.astype(np.float32)
    mel = VERSIONS[voice.version].mel
    if mel is not None and reference.prompt_codes is not None:
        known = normalised(mel_spectrogram(read_audio(reference.audio[0], mel.rate), mel))
        # Not more than the prompt's codes last; of these the runtime takes the end.
        count, _ = mel_mask(arrays["prompt"].shape[1], 1.0, mel)
        arrays["prompt_mel"] = known[..., :count].astype(np.float32)
    _update(digest, *(arrays[name] for name in ("prompt", "prompt_phones", "prompt_mel") if name in arrays))
    return arrays, digest.hexdigest()


def _update(digest: hashlib._Hash, *arrays: np.ndarray) -> None:
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
