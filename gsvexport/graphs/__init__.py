"""The stages of a voice as ONNX graphs, written with onnx-ir straight from the checkpoint's tensors. No torch.

build_stages(voice) → graphs and their shared weights        bake(voice, graphs) → the constants of a fixed voice
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gsvexport.errors import missing_package

try:
    from gsvexport.graphs import acoustic, bigvgan, cfm, conditioning, features, t2s, vocoder
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
    """Every stage of the voice's version, by name, and the float32 weights that they share."""
    gpt, sovits = Tensors("gpt", voice.gpt.tensors), Tensors("sovits", voice.sovits.tensors)
    write = {
        "prompt": lambda g: conditioning.prompt(g, sovits, voice.acoustics),
        "reference": lambda g: conditioning.reference(g, sovits, voice.acoustics),
        "prefill": lambda g: t2s.prefill(g, gpt, voice.t2s),
        "step": lambda g: t2s.step(g, gpt, voice.t2s),
        "acoustic": lambda g: acoustic.acoustic(g, sovits, voice.acoustics),
        "features": lambda g: features.features(g, sovits, voice.acoustics),
        "cfm": lambda g: cfm.cfm(g, sovits, voice.acoustics),
        "vocoder": lambda g: _vocoder(g, voice, sovits),
    }
    weights = Weights()
    graphs = {name: write[name](GraphBuilder(stage, weights)) for name, stage in stages(voice.version).items()}
    return graphs, weights


def _vocoder(g: GraphBuilder, voice: Voice, sovits: Tensors) -> ir.Model:
    if voice.vocoder is None:
        return vocoder.vocoder(g, sovits, voice.acoustics)
    write = bigvgan.bigvgan if voice.vocoder.dims.kind == BIGVGAN else vocoder.vocoder
    return write(g, Tensors("vocoder", voice.vocoder.file.tensors), voice.acoustics)
