"""The student's sizes: those that upstream's files can carry, as a recipe asks for them.

Upstream builds its networks from a config, and part of the sizes stands in its code. So a width is pruned for all
layers alike, and the following stay what they are: the feed-forward width of T2S (4 times its width), the hidden width
of SoVITS (192, and with it the flow's), the cross-attention (512), codebook, reference encoder and conditioning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from gsvexport.errors import InputError, VoiceError
from gsvexport.slim.recipe import Recipe
from gsvexport.stages import VERSIONS
from gsvexport.voice.config import Config
from gsvexport.voice.dims import SovitsDims, T2SDims
from gsvexport.voice.layout import Shape, expected_sovits, expected_t2s
from gsvexport.voice.voice import Voice

_COARSE, _FINE = 32, 8  # channels: multiples of these, for kernels that work on blocks
_FEW = 256


@dataclass(frozen=True)
class Shapes:
    """Sizes of a voice's two networks."""

    t2s: T2SDims
    sovits: SovitsDims

    @property
    def parameters(self) -> tuple[int, int]:
        """Weights of the GPT and of the SoVITS file, buffers of training included."""
        return _count(expected_t2s(self.t2s)), _count(expected_sovits(self.sovits))


def of(voice: Voice) -> Shapes:
    """A voice's own sizes."""
    return Shapes(voice.t2s, voice.acoustics)


def refuse(voice: Voice) -> None:
    """Raise where a voice cannot be a teacher.

    Raises:
        VoiceError: as `refuse_version`, or no reference.
    """
    refuse_version(voice)
    if voice.reference is None:
        raise VoiceError(
            f"{voice.path} has no [reference], and the teacher has to speak",
            fix="gsvexport init writes one: gsvexport init GPT.ckpt SOVITS.pth --reference ref.wav --text …",
        )


def refuse_version(voice: Voice) -> None:
    """Raise where a version has no other sizes.

    Raises:
        VoiceError: v3 or v4, whose sizes upstream has in its code.
    """
    if VERSIONS[voice.version].mel is not None:
        raise VoiceError(
            f"{voice.path}: a {voice.version} voice cannot be made smaller: upstream has the sizes of its networks in "
            "code, so no file of another size would load there",
            limit="v1, v2, v2Pro, v2ProPlus",
        )


def top_k(voice: Voice) -> int:
    """The teacher's, which upstream's exporters read; its usual one where the config has none."""
    value = Config(voice.gpt.config).value("inference.top_k")
    return value if type(value) is int and 0 < value <= 1024 else 15


def slimmer(shapes: Shapes, recipe: Recipe) -> Shapes:
    """The sizes that a recipe makes of others.

    Raises:
        InputError: widths that the heads do not divide, or more than there is; all findings.
    """
    t2s, sovits, problems = shapes.t2s, shapes.sovits, list[str]()
    layers, width = _asked(recipe.t2s.layers, t2s.layers), t2s.width
    head = t2s.width // t2s.heads
    width = max(1, round(t2s.heads * recipe.t2s.width)) * head if recipe.t2s.width <= 1 else int(recipe.t2s.width)
    if width % head:
        near = ", ".join(str(one) for one in sorted({max(1, width // head) * head, (width // head + 1) * head}))
        problems.append(f"t2s.width = {width} is no multiple of the heads' {head} channels; {near} would be")
    if width % 2:
        problems.append(f"t2s.width = {width} is odd; positions come as sine and cosine pairs")
    for name, asked, there in (("layers", layers, t2s.layers), ("width", width, t2s.width)):
        if asked > there:
            problems.append(f"t2s.{name} = {asked}, but the voice has {there}")
    stages = len(sovits.upsample_rates)
    channels = _channels(sovits.upsample_initial, recipe.sovits.channels)
    if channels >> stages == 0:
        problems.append(f"sovits.channels = {recipe.sovits.channels:g} leaves {channels} channels, to halve {stages} ×")
    if problems:
        raise InputError(f"recipe '{recipe.name}' does not fit this voice", problems=problems, fix="see docs/slim.md")
    return Shapes(
        replace(t2s, layers=layers, width=width, heads=width // head),
        replace(sovits, upsample_initial=channels, filter=_channels(sovits.filter, recipe.sovits.filter)),
    )


def _asked(value: float, there: int) -> int:
    return max(1, round(value * there)) if value <= 1 else int(value)


def _channels(there: int, share: float) -> int:
    """A share of channels as a multiple that kernels like; all of them where all are asked for."""
    if share == 1:
        return there
    step = _COARSE if there >= _FEW else _FINE
    return min(there, max(1, round(there * share / step)) * step)


def _count(shapes: Mapping[str, Shape]) -> int:
    return sum(prod(shape) for shape in shapes.values())
