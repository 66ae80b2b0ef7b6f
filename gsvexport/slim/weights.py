"""Weights of few bits for T2S and vocoder, which learn with the rounding that `gsvexport.passes.matmul_nbits` applies.

Every matrix is rounded where it is used, with one scale for each block of its inputs; gradients pass as if nothing were
rounded. What is written at the end are the rounded values themselves. Rounding those of T2S again changes nothing, so
an artifact with 4-bit blocks computes with the very weights of its float source; its last projection, which the backend
leaves in half precision, stays as it is. No backend has 4-bit convolutions: the vocoder's make files smaller.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gsvexport.passes.matmul_nbits import CLIPPING_RATIOS
from gsvexport.slim import codes, vocoder
from gsvexport.slim.distil import Run, instead, words
from gsvexport.slim.prune import fill, folded
from gsvexport.slim.sparse import Masks
from gsvexport.slim.teacher import Lesson
from gsvexport.train import pack
from gsvexport.voice.networks import Synthesizer, Text2Semantic
from gsvexport.voice.networks.layers import NormedConv1d, NormedConvTranspose1d
from gsvexport.voice.networks.vocoder import Generator

Network = TypeVar("Network", bound=nn.Module)
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
    """A matrix as it is once it is rounded; gradients pass. Of a convolution a row is all that one output reads."""

    def __init__(self, bits: int, width: int, output: int = 0) -> None:
        super().__init__()
        self.bits, self.block, self.output = bits, LARGEST, output
        while self.block > SMALLEST and width % self.block:
            self.block //= 2

    def forward(self, values: Tensor) -> Tensor:
        rows = values.detach().movedim(self.output, 0)
        made = rounded(rows.flatten(1), self.bits, self.block).view(rows.shape).movedim(0, self.output)
        return values + (made - values).detach()


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


def shorten(network: nn.Module, bits: int) -> None:
    """Leave `bits` significant bits of every matrix, in place: files of float16 pack smaller. What norms, biases and
    lengths of weights have stays whole."""
    with torch.no_grad():
        for value in network.parameters():
            if value.numel() > len(value):
                value.copy_(torch.from_numpy(pack.rounded(value.detach().numpy(), bits)))


def plain(network: Network) -> Network:
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
    if not run.helped("t2s.kl", before["t2s.kl"], after["t2s.kl"]):
        learned, after = small, before
    return plain(learned), losses | {f"recovered.weights.{name}": value for name, value in after.items()}


def learn_vocoder(run: Run, student: Synthesizer, lesson: Lesson, bits: int) -> tuple[Generator, dict[str, float]]:
    """The vocoder of `student` with weights of `bits` that learned the teacher's sound, and its losses, rounded without
    learning and with it. Where nothing was won, its weights are only rounded."""
    small = copy.deepcopy(student)
    small.dec = _convolutions(student.dec, bits)
    before = vocoder.held_out(small, lesson.held_out, lesson)
    run.say(f"vocoder's weights of {bits} bits: {words(before)}")
    train = replace(run.train, vocoder_steps=run.train.weight_steps)
    kept = {
        f"dec.{name}": run.masks.kept[own]
        for name, _ in small.dec.named_parameters()
        if (own := _normed(name)) in run.masks.kept
    }
    run = replace(run, train=train, masks=Masks(kept))
    every = [None] * (len(student.dec.ups) + 1)
    learned = vocoder.learn(run, small, student, every, lesson)
    with instead(small, "dec", learned):
        after = vocoder.held_out(small, lesson.held_out, lesson)
    losses = {f"cut.weights.{name}": value for name, value in before.items()}
    if not run.helped("vocoder.mel", before["vocoder.mel"], after["vocoder.mel"]):
        learned, after = small.dec, before
    found = copy.deepcopy(student.dec)
    fill(found, folded(plain(learned)))
    return found, losses | {f"recovered.weights.{name}": value for name, value in after.items()}


def _convolutions(network: Generator, bits: int) -> Generator:
    """The same vocoder without weight norm, rounded in all convolutions but the last, whose output is sound."""
    found = copy.deepcopy(network)
    for name, module in [*found.named_modules()]:
        if isinstance(module, NormedConv1d):
            outputs, inputs, taps = module.weight_v.shape
            bare: nn.Module = nn.Conv1d(inputs, outputs, taps, padding=module.padding, dilation=module.dilation)
        elif isinstance(module, NormedConvTranspose1d):
            inputs, outputs, taps = module.weight_v.shape
            bare = nn.ConvTranspose1d(inputs, outputs, taps, stride=module.rate, padding=module.padding)
        else:
            continue
        bare.load_state_dict({"weight": module.weight.detach(), "bias": module.bias.detach()})
        found.set_submodule(name, bare.train(module.training))
    for module in [*found.modules()]:
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)) and module is not found.conv_post:
            output = int(isinstance(module, nn.ConvTranspose1d))
            parametrize.register_parametrization(module, "weight", _Blocks(bits, LARGEST, output))
    return found


def _normed(name: str) -> str:
    """What a rounded convolution's weight is called in the masks of networks with weight norm."""
    return f"dec.{_own(name)}_v"


def _own(name: str) -> str:
    """What a parameter is called where it is not rounded."""
    return name.replace(".parametrizations.", ".").removesuffix(".original")
