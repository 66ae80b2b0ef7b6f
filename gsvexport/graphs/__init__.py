"""The stages of a voice as ONNX graphs, written with onnx-ir straight from the checkpoint's tensors. No torch.

build_stages(voice) → graphs and their shared weights        bake(voice, graphs) → the constants of a fixed voice
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gsvexport.errors import missing_package

try:
    from gsvexport.graphs import acoustic, conditioning, t2s, vocoder
    from gsvexport.graphs.bake import bake
    from gsvexport.graphs.builder import GraphBuilder, Weights
except ModuleNotFoundError as error:
    raise missing_package(error.name or "onnx-ir", "exporting a voice", "compile") from error

from gsvexport.graphs.layers import Tensors
from gsvexport.stages import stages

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
        "vocoder": lambda g: vocoder.vocoder(g, sovits, voice.acoustics),
    }
    weights = Weights()
    graphs = {name: write[name](GraphBuilder(stage, weights)) for name, stage in stages(voice.version).items()}
    return graphs, weights
