"""Weights of few bits for T2S: it learns with the rounding that `gsvexport.passes.matmul_nbits` applies to blocks.

Every matrix of the layers is rounded where it is used, with one scale for each block of its inputs; gradients pass as
if nothing were rounded. What is written at the end are the rounded values themselves: rounding them again changes
nothing, so an artifact with 4-bit blocks computes with the very weights of its float source. The last projection, which
the backend leaves in half precision, stays as it is.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gsvexport.passes.matmul_nbits import CLIPPING_RATIOS
from gsvexport.slim import codes
from gsvexport.slim.distil import Run, words
from gsvexport.slim.sparse import Masks
from gsvexport.slim.teacher import Lesson
from gsvexport.voice.networks import Text2Semantic

LARGEST, SMALLEST = 32, 16  # inputs of a block, as `gsvexport.backends.onnxruntime.recipes` cuts 4-bit ones


def rounded(values: Tensor, bits: int, block: int) -> Tensor:
    """w [out, in] in steps of one scale for each `block` inputs of an output, at the clipping ratio of the smallest
    squared error. At 2 bits -1, 0 and 1 are left."""
    limit = 2 ** (bits - 1) - 1
    rows, count = values.shape
    full = nn.functional.pad(values, (0, -count % block)).view(rows, -1, block)
    peak = full.abs().amax(dim=2, keepdim=True)
    peak = torch.where(peak > 0, peak, 1)
    best, least = full, torch.full_like(peak, torch.inf)
    for ratio in CLIPPING_RATIOS:
        scale = peak * (ratio / limit)
        made = (full / scale).round_().clamp_(-limit, limit) * scale
        error = (made - full).square().sum(dim=2, keepdim=True)
        best, least = torch.where(error < least, made, best), torch.minimum(error, least)
    return best.reshape(rows, -1)[:, :count]


class _Blocks(nn.Module):
    """A matrix as it is once it is rounded; gradients pass."""

    def __init__(self, bits: int, width: int) -> None:
        super().__init__()
        self.bits, self.block = bits, LARGEST
        while self.block > SMALLEST and width % self.block:
            self.block //= 2

    def forward(self, values: Tensor) -> Tensor:
        return values + (rounded(values.detach(), self.bits, self.block) - values).detach()


def in_blocks(network: Text2Semantic, bits: int) -> Text2Semantic:
    """The same network with weights of `bits` wherever the backend has blocks; `plain` undoes it."""
    found = copy.deepcopy(network)
    width = found.ar_predict_layer.in_features
    for module in [*found.modules()]:
        if module is found.ar_predict_layer:
            continue
        for name, _ in [*module.named_parameters(recurse=False)]:
            if name == "in_proj_weight" or (name == "weight" and isinstance(module, nn.Linear)):
                parametrize.register_parametrization(module, name, _Blocks(bits, width))
    return found


def plain(network: Text2Semantic) -> Text2Semantic:
    """The same network with its weights as they were rounded."""
    for module in [*network.modules()]:
        for name in [*getattr(module, "parametrizations", ())]:
            parametrize.remove_parametrizations(module, name)
    return network


def learn(
    run: Run, student: Text2Semantic, teacher: Text2Semantic, lesson: Lesson, bits: int
) -> tuple[Text2Semantic, dict[str, float]]:
    """T2S with weights of `bits` that learned to sound like itself in float; and its losses beside `teacher`, rounded
    without learning and with it. Where nothing was won, its weights are only rounded."""
    small = in_blocks(student, bits)
    before = codes.held_out(small, teacher, lesson.held_out)
    run.say(f"weights of {bits} bits: {words(before)}")
    train = replace(run.train, t2s_steps=run.train.weight_steps, t2s_rate=run.train.weight_rate)
    kept = {name: run.masks.kept[own] for name, _ in small.named_parameters() if (own := _own(name)) in run.masks.kept}
    residual = torch.arange(student.ar_predict_layer.in_features)
    run = replace(run, train=train, masks=Masks({**run.masks.kept, **kept}))
    layers = range(len(list(student.h.layers)))
    learned = codes.learn(run, small, copy.deepcopy(student), layers, residual, lesson, name="weights")
    after = codes.held_out(learned, teacher, lesson.held_out)
    losses = {f"cut.weights.{name}": value for name, value in before.items()}
    if after["t2s.kl"] >= before["t2s.kl"]:
        run.say(f"t2s.kl was {before['t2s.kl']:.4f} before and {after['t2s.kl']:.4f} after: it is left out")
        learned, after = small, before
    return plain(learned), losses | {f"recovered.weights.{name}": value for name, value in after.items()}


def _own(name: str) -> str:
    """What a parameter is called where it is not rounded."""
    return name.replace(".parametrizations.", ".").removesuffix(".original")
