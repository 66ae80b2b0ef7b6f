"""The stages of a voice as ONNX graphs, written with onnx-ir straight from the checkpoint's tensors. No torch.

build_stages(voice) → graphs and their shared weights        bake(folder, …) → the constants of a fixed voice
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from gsvexport.errors import missing_package

try:
    from gsvexport.graphs import acoustic, bert, bigvgan, cfm, conditioning, eres2net, features, hubert, t2s, vocoder
    from gsvexport.graphs.bake import bake
    from gsvexport.graphs.builder import GraphBuilder, Weights
except ModuleNotFoundError as error:
    raise missing_package(error.name or "onnx-ir", "exporting a voice", "compile") from error

from gsvexport.graphs.layers import Tensors
from gsvexport.stages import stages
from gsvexport.voice.vocoder import BIGVGAN

if TYPE_CHECKING:
    import onnx_ir as ir

    from gsvexport.voice.voice import Voice

__all__ = ["bake", "build_stages"]


def build_stages(voice: Voice) -> tuple[dict[str, ir.Model], Weights]:
    """Every stage of the voice's version, by name, and the float32 weights that they share.

    Those of pretrained networks are left out where the voice was not given them.
    """
    gpt, sovits = Tensors("gpt", voice.gpt.tensors), Tensors("sovits", voice.sovits.tensors)
    write: dict[str, Callable[[GraphBuilder], ir.Model]] = {
        "prompt": lambda g: conditioning.prompt(g, sovits, voice.acoustics),
        "reference": lambda g: conditioning.reference(g, sovits, voice.acoustics),
        "prefill": lambda g: t2s.prefill(g, gpt, voice.t2s),
        "step": lambda g: t2s.step(g, gpt, voice.t2s),
        "acoustic": lambda g: acoustic.acoustic(g, sovits, voice.acoustics),
        "features": lambda g: features.features(g, sovits, voice.acoustics),
        "cfm": lambda g: cfm.cfm(g, sovits, voice.acoustics),
        "vocoder": lambda g: _vocoder(g, voice, sovits),
    }
    given = voice.pretrained
    if given.hubert:
        write["ssl"] = partial(hubert.ssl, t=Tensors("hubert", given.hubert.file.tensors), dims=given.hubert.dims)
    if given.speaker:
        write["speaker"] = partial(eres2net.speaker, t=Tensors("eres2net", given.speaker.tensors))
    if given.bert:
        write["bert"] = partial(bert.bert, t=Tensors("bert", given.bert.file.tensors), dims=given.bert.dims)
    weights, table = Weights(), stages(voice.version)
    graphs = {name: write[name](GraphBuilder(stage, weights)) for name, stage in table.items() if name in write}
    return graphs, weights


def _vocoder(g: GraphBuilder, voice: Voice, sovits: Tensors) -> ir.Model:
    if voice.vocoder is None:
        return vocoder.vocoder(g, sovits, voice.acoustics)
    write = bigvgan.bigvgan if voice.vocoder.dims.kind == BIGVGAN else vocoder.vocoder
    return write(g, Tensors("vocoder", voice.vocoder.file.tensors), voice.acoustics)
