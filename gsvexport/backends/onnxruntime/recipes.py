"""Which passes lower a stage for ONNX Runtime, by its role and the precision that a target asks for.

    precision       prefill, step                        acoustic                       vocoder
    fp32            cache in place                       as it is                       as it is
    fp16            + weights stored as float16          weights stored as float16      weights stored as float16
    int8-weights    8-bit blocks, head float16           8-bit blocks, convs int8       convolution weights int8
    int4-weights    4-bit blocks, head float16           -                              -
    int8            -                                    -                              integer convolutions
    int8-dynamic    -                                    integer products and convs     -

Weight-only precisions compute in float (the products of `int8-weights` and `int4-weights` in integers of the
activations' own row); `int8` runs convolutions on integers with calibrated ranges, `int8-dynamic` products and
convolutions on integers with the ranges of each row or frame as it comes. `-` is refused. Where a processor multiplies
bytes four at a time, `prefill` in `int8-weights` multiplies all its rows at once (`passes/integer_rows.py`). Whatever
its precision, `cfm` has its attention fused and computes once what its steps have in common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gsvexport.backends.onnxruntime import BACKEND
from gsvexport.errors import BackendError
from gsvexport.model import Model
from gsvexport.passes.base import GraphPass
from gsvexport.passes.channels_last import ChannelsLast
from gsvexport.passes.conv2d import Conv2d
from gsvexport.passes.dynamic_rows import DynamicRows
from gsvexport.passes.fuse_attention import FuseStep
from gsvexport.passes.fuse_matching import FuseMatching
from gsvexport.passes.integer_conv import IntegerConv
from gsvexport.passes.integer_rows import IntegerRows
from gsvexport.passes.matmul_nbits import MatMulNBits
from gsvexport.passes.merge_equal import MergeEqual
from gsvexport.passes.once_a_sentence import OnceASentence, Separate
from gsvexport.passes.polyphase import Polyphase
from gsvexport.passes.prefill_attention import PrefillAttention
from gsvexport.passes.quantise_conv import QuantiseConv
from gsvexport.passes.quantise_sums import QuantiseSums
from gsvexport.passes.signed_bytes import SignedBytes
from gsvexport.passes.small_sums_first import SmallSumsFirst
from gsvexport.passes.store_fp16 import StoreFp16
from gsvexport.passes.store_int8 import StoreInt8
from gsvexport.passes.wide_conv import WideConv

# The largest blocks of which a row has the same product alone and beside others (x86-64 with VNNI adds up pairs of rows
# in another order beyond them), so that sentences can be written side by side. On a 24x512 network a step with
# 8-bit blocks of 64 takes 1.07 times as long as with 128.
_T2S_BLOCKS = {"int8-weights": (8, 64), "int4-weights": (4, 32)}
_ACOUSTIC_BLOCK = 64  # divides the 192 and 512 channels that upstream fixes
_HEAD = ("logits",)  # the product that gives the scores keeps float weights: its errors reach the sampler undamped
# Channels from which a product is faster than a direct convolution, with AMX (ONNX Runtime 1.32, a kernel of 11: 590
# against 310 multiplications a nanosecond with 256 channels, 300 against 300 with 128). Without AMX it is 1.6 times
# slower, so only a target that names it gets it.
_PRODUCTS_FROM = 256
_MATCHING = "cfm"
# Widths below a block would be padding; a network this narrow gains nothing from blocks.
_SMALLEST_BLOCK = 16


def recipe(stage: str, role: str, precision: str, model: Model, features: Sequence[str]) -> list[GraphPass]:
    """The passes for one stage. What is `int8` or `int8-dynamic` gets its float form here; `quantised` or `dynamic`
    finishes it.

    Raises:
        BackendError: this stage cannot have this precision.
    """
    if precision not in BACKEND.precisions[role]:
        raise BackendError(
            f"backend onnxruntime cannot lower stage {stage} to {precision}", limit=", ".join(BACKEND.precisions[role])
        )
    if role == "ar":
        return _t2s(stage, precision, model, features)
    passes: dict[str, list[GraphPass]] = {
        "fp32": [],
        "fp16": [StoreFp16()],
        "int8-weights": [MatMulNBits(8, _ACOUSTIC_BLOCK), StoreInt8(), StoreFp16()],
        "int8": [MergeEqual(), Conv2d(), Polyphase(), SmallSumsFirst(by_block=True)],
        "int8-dynamic": [],
    }
    if stage != _MATCHING:
        return passes[precision]
    last: list[GraphPass] = [OnceASentence()] if precision != "int8-dynamic" else []  # there, after the products
    return [FuseMatching(), Separate(), *passes[precision], *last]


def quantised(
    ranges: Mapping[str, tuple[float, float]], features: Sequence[str], skip: Sequence[str], wide: Sequence[str] = ()
) -> list[GraphPass]:
    """What follows the float form of an integer vocoder, once the ranges of its tensors are known; `wide` names the
    convolutions that read 16 bits."""
    bits, known = 7 if saturates(features) else 8, dict(ranges)
    return [
        WideConv(known, bits, tuple(wide)),
        QuantiseConv(known, bits, tuple(skip)),
        QuantiseSums(known),
        ChannelsLast(_PRODUCTS_FROM if "amx" in features else None),
        *_said(features),
        StoreFp16(),
    ]


def dynamic(stage: str, features: Sequence[str], products: Sequence[str], floats: Sequence[str]) -> list[GraphPass]:
    """What follows the float form of a stage in `int8-dynamic`: the MatMuls and Convs `products` on integers, those
    with the outputs `floats` in floats, and the weights of all others, which do one row, in blocks."""
    bits, nodes = 7 if saturates(features) else 8, tuple(products)
    kept = tuple(floats)
    blocks: list[GraphPass] = [MatMulNBits(8, _ACOUSTIC_BLOCK, kept), StoreInt8(floats=kept), StoreFp16()]
    last: list[GraphPass] = [OnceASentence()] if stage == _MATCHING else []
    return [IntegerConv(nodes, bits), DynamicRows(nodes, bits), *_said(features), *blocks, *last]


def _said(features: Sequence[str]) -> list[GraphPass]:
    """What says in a graph that processors which saturate compute it wrongly."""
    return [] if saturates(features) else [SignedBytes()]


def saturates(features: Sequence[str]) -> bool:
    """Whether a processor adds pairs of products in 16 bits, which 8-bit weights overflow: x86 without VNNI does, ARM
    does not, and one of which nothing is known may."""
    return not any("vnni" in feature or feature in ("neon", "dotprod") for feature in features)


def multiplies_bytes(features: Sequence[str]) -> bool:
    """Whether a processor multiplies unsigned by signed bytes four at a time, without saturating: x86 with VNNI."""
    return any("vnni" in feature for feature in features)


def _t2s(stage: str, precision: str, model: Model, features: Sequence[str]) -> list[GraphPass]:
    heads, width = model.dims.H, model.dims.D
    integers = precision == "int8-weights" and multiplies_bytes(features)
    passes: list[GraphPass] = [
        PrefillAttention(heads, width, turned=integers) if stage == "prefill" else FuseStep(heads, width)
    ]
    if precision in _T2S_BLOCKS:
        bits, block = _T2S_BLOCKS[precision]
        while block > _SMALLEST_BLOCK and width % block:
            block //= 2
        passes.append(MatMulNBits(bits, block, _HEAD, integers))
        if integers and stage == "prefill":
            passes += [IntegerRows(), *_said(features)]
    return passes if precision == "fp32" else [*passes, StoreFp16()]
