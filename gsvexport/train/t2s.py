"""The GPT: phones → codes.

Three things make it learn the alignment quickly and hold it: two heads are told which phone each code says, part of the
codes that it reads are wrong, and its loss also sees the scores as upstream's sampler changes them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from gsvexport.train import corpus, loop
from gsvexport.train.shape import GPT
from gsvexport.train.tokens import Vocabulary
from gsvexport.voice.networks import Text2Semantic

SCHEDULE = loop.Schedule(5500, save=250, report=100, evaluate=500)
POLISH = loop.Schedule(600, save=100, report=100, evaluate=300)
_POSITIONS = 1600  # of text and audio together, in a batch
_DRAWN = 64  # items drawn for a step, of which some of similar length are taken
_RATE, _POLISH_RATE = 1.2e-3, 4e-4
_WARM = 150
_SHORT = 45  # codes of a text that the first steps may have
_EARLY = 0.08  # the share of all steps that are first
_PENALTY = 1.35  # upstream's default
_SUPERVISED = (1, 2)  # layers; head 0 looks at the phone that is said, head 1 at the next one
_SEED = 30
_NOTHING = -100  # no target


@dataclass(frozen=True)
class Mix:
    """What a training reads: shares of texts alone and after another text, the rest being after the bundled reference.

    `wrong` is the share of codes that are misread, `shortest` the fewest codes that a text may have.
    """

    alone: float
    after_any: float
    wrong: float
    shortest: int


_LEARN = Mix(0.3, 0.35, 0.06, 0)
_POLISH = Mix(0.12, 0.18, 0.1, 40)  # long texts after the reference are where it slips


@dataclass(frozen=True)
class Line:
    """Phones [X], codes [T] and for each code the phone that it says [T]."""

    phones: Tensor
    codes: Tensor
    aligned: Tensor


@dataclass(frozen=True)
class Lines:
    """The reference, what is trained on (and the short ones of it), what is validated on."""

    reference: Line
    train: list[Line]
    short: list[Line]
    valid: list[Line]


@dataclass(frozen=True)
class _Batch:
    phones: Tensor  # [B, X]
    counts: Tensor  # [B] phones of each
    codes: Tensor  # [B, Y], what is read
    targets: Tensor  # [B, Y+1]
    aligned: Tensor  # [B, Y], or _NOTHING


def read(folder: Path, known: Vocabulary) -> Lines:
    """All texts of the corpus."""
    found: dict[str, list[Line]] = {"r": [], "s": [], "v": []}
    for one in corpus.read(folder, "rsv"):
        found[one.kind].append(
            Line(
                torch.from_numpy(one.phones),
                torch.from_numpy(known.codes(one.keys)),
                torch.from_numpy(one.aligned),
            )
        )
    short = [line for line in found["s"] if len(line.codes) <= _SHORT]
    return Lines(found["r"][0], found["s"], short, found["v"])


def untrained() -> Text2Semantic:
    """The network at its starting point; text features of a language model are never used."""
    torch.manual_seed(_SEED)
    network = Text2Semantic(GPT)
    with torch.no_grad():
        network.ar_text_embedding.word_embeddings.weight.mul_(0.6)
        network.ar_audio_embedding.word_embeddings.weight.mul_(0.6)
        network.bert_proj.weight.zero_()
        network.bert_proj.bias.zero_()
    network.bert_proj.requires_grad_(False)
    return network


def learn(
    network: Text2Semantic, lines: Lines, path: Path, schedule: loop.Schedule, device: str, say: loop.Say
) -> None:
    """Train the network from its start; the checkpoint's "average" is the one to use."""
    _train("gpt", network, lines, path, schedule, device, say, _LEARN, _RATE)


def polish(
    network: Text2Semantic, lines: Lines, path: Path, schedule: loop.Schedule, device: str, say: loop.Say
) -> None:
    """Train a trained network on, mostly on what it will be used for; "average" is the one to use."""
    lines = replace(lines, train=[line for line in lines.train if len(line.codes) >= _POLISH.shortest] or lines.train)
    _train("polish", network, lines, path, schedule, device, say, _POLISH, _POLISH_RATE)


def _train(
    name: str,
    network: Text2Semantic,
    lines: Lines,
    path: Path,
    schedule: loop.Schedule,
    device: str,
    say: loop.Say,
    mix: Mix,
    fastest: float,
) -> None:
    network.to(device)
    average = copy.deepcopy(network).eval()
    matrices = [p for n, p in network.named_parameters() if p.requires_grad and p.ndim > 1 and "embedding" not in n]
    others = [p for n, p in network.named_parameters() if p.requires_grad and (p.ndim <= 1 or "embedding" in n)]
    groups = [{"params": matrices, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, fastest, betas=(0.9, 0.98))

    def step(number: int) -> Mapping[str, float]:
        random, _ = loop.generators(_SEED, number)
        early = mix is _LEARN and number < _EARLY * schedule.steps
        batch = _batch(_drawn(lines, mix, random, early=early), device)
        logits, attention = _forward(network, _misread(batch, mix.wrong, random))
        plain, seen = _entropy(logits, batch.targets), _entropy(_penalised(logits, batch.codes), batch.targets)
        loop.set_rate(optimiser, fastest * loop.rate(number, schedule.steps, warm=_WARM))
        loss = 0.5 * (plain + seen) + (0.3 if number < schedule.steps / 2 else 0.1) * attention
        loop.update(optimiser, loss, [*matrices, *others], 1.0)
        loop.follow(average, network, number, 0.998)
        return {"ce": plain.item(), "attention": attention.item()}

    state = loop.State({"network": network, "average": average}, {"network": optimiser})
    loop.run(name, path, schedule, state, step, lambda: held_out(average, lines, device), say)


@torch.no_grad()
def held_out(network: Text2Semantic, lines: Lines, device: str) -> str:
    """Cross-entropy per code, what a wrong text costs more, and how often the likeliest code is the right one."""
    texts = []
    for name, before in (("alone", []), ("after the reference", [lines.reference])):
        batch = _batch([[*before, line] for line in lines.valid], device)
        if before:
            batch.targets[:, : len(lines.reference.codes)] = _NOTHING
        logits, _ = _forward(network, batch)
        wrong = [*lines.valid[3:], *lines.valid[:3]]
        mixed = _batch([[*before, line] for line in wrong], device)
        other, _ = _forward(network, _Batch(mixed.phones, mixed.counts, batch.codes, batch.targets, batch.aligned))
        right, told = _entropy(logits, batch.targets), batch.targets != _NOTHING
        hits = (logits.argmax(dim=-1) == batch.targets)[told].float().mean()
        gap = _entropy(other, batch.targets) - right
        texts.append(f"{name}: ce {right:.3f}, wrong text {gap:+.2f}, top-1 {hits:.3f}")
    return "; ".join(texts)


def _forward(network: Text2Semantic, batch: _Batch) -> tuple[Tensor, Tensor]:
    """Logits [B, Y+1, V] of the last text row and of all audio rows, and the attention's cross-entropy.

    `Text2Semantic.forward` for padded batches. Padded codes stand at the end, where no row looks.
    """
    width, length = batch.phones.shape[1], batch.codes.shape[1]
    device = batch.phones.device
    positions = torch.arange(max(width, length), device=device)
    text = network.ar_text_position(network.ar_text_embedding(batch.phones) + network.bert_proj.bias, positions[:width])
    audio = network.ar_audio_position(network.ar_audio_embedding(batch.codes), positions[:length])
    x = torch.cat([text, audio], dim=1)
    mask = torch.zeros(len(x), 1, width + length, width + length, dtype=torch.bool, device=device)
    mask[..., :width] = (positions[:width] < batch.counts[:, None])[:, None, None]
    mask[..., width:, width:] = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    attention = x.new_zeros(())
    layers: Any = network.h.layers
    for index, layer in enumerate(layers):
        if index in _SUPERVISED:
            attention = attention + _attention(layer.self_attn, x, mask, batch) / len(_SUPERVISED)
        x, _, _ = layer(x, mask, None)
    last = x[torch.arange(len(x)), batch.counts - 1][:, None]
    return network.ar_predict_layer(torch.cat([last, x[:, width:]], dim=1)), attention


def _attention(attention: Any, x: Tensor, mask: Tensor, batch: _Batch) -> Tensor:
    """How far heads 0 and 1 of a layer are from looking at the phone that is said and at the next one."""
    width, head = batch.phones.shape[1], GPT.width // GPT.heads
    losses = []
    for number in range(2):
        rows = slice(number * head, (number + 1) * head)
        keys = slice(GPT.width + number * head, GPT.width + (number + 1) * head)
        query = functional.linear(x[:, width:], attention.in_proj_weight[rows], attention.in_proj_bias[rows])
        key = functional.linear(x, attention.in_proj_weight[keys], attention.in_proj_bias[keys])
        scores = (query @ key.mT / head**0.5).masked_fill(~mask[:, 0, width:], -1e9)
        wanted = torch.minimum(batch.aligned + number, batch.counts[:, None] - 1)
        wanted = torch.where(batch.aligned == _NOTHING, batch.aligned, wanted)
        losses.append(functional.cross_entropy(scores.flatten(0, 1), wanted.flatten(), ignore_index=_NOTHING))
    return torch.stack(losses).mean()


def _penalised(logits: Tensor, codes: Tensor) -> Tensor:
    """The logits as upstream's repetition penalty leaves them: each row knows the codes before it."""
    seen = torch.zeros(*logits.shape[:2], GPT.vocab, device=logits.device)
    seen[:, 1:].scatter_(2, codes[..., None], 1.0)
    seen = seen.cumsum(dim=1) > 0
    seen[..., GPT.eos] = False  # padding is written with it
    return torch.where(seen, torch.where(logits < 0, logits * _PENALTY, logits / _PENALTY), logits)


def _entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=_NOTHING)


def _drawn(lines: Lines, mix: Mix, random: np.random.Generator, *, early: bool) -> list[list[Line]]:
    """The items of one step, each one or two texts, of similar length and of some `_POSITIONS` in all."""
    source = lines.short if early and lines.short else lines.train
    items = []
    for kind in random.random(_DRAWN):
        before = [lines.reference]
        if kind < mix.alone:
            before = []
        elif kind < mix.alone + mix.after_any:
            before = [source[random.integers(len(source))]]
        items.append([*before, source[random.integers(len(source))]])
    items.sort(key=_positions)
    first = int(random.integers(0, _DRAWN * 2 // 3))
    taken: list[list[Line]] = []
    for item in items[first:]:
        if taken and (len(taken) + 1) * _positions(item) > _POSITIONS:
            break
        taken.append(item)
    return taken


def _positions(item: Sequence[Line]) -> int:
    return sum(len(line.phones) + len(line.codes) for line in item)


def _batch(items: Sequence[Sequence[Line]], device: str) -> _Batch:
    phones, codes, targets, aligned = [], [], [], []
    for item in items:
        starts = np.cumsum([0, *(len(line.phones) for line in item)])
        joined = torch.cat([line.codes for line in item])
        phones.append(torch.cat([line.phones for line in item]))
        codes.append(joined)
        targets.append(torch.cat([joined, torch.tensor([GPT.eos])]))
        aligned.append(torch.cat([line.aligned + int(start) for line, start in zip(item, starts, strict=False)]))
    counts = torch.tensor([len(row) for row in phones])
    fills = ((phones, 0), (codes, GPT.eos), (targets, _NOTHING), (aligned, _NOTHING))
    padded = [pad_sequence(rows, batch_first=True, padding_value=fill).to(device) for rows, fill in fills]
    return _Batch(padded[0], counts.to(device), padded[1], padded[2], padded[3])


def _misread(batch: _Batch, share: float, random: np.random.Generator) -> _Batch:
    """The batch with some of its codes replaced: half by any code of the batch, half by their left neighbour."""
    codes = batch.codes.cpu().numpy()
    real = np.flatnonzero(codes.ravel() != GPT.eos)
    wrong = random.choice(real, round(share * len(real)), replace=False)
    other = np.where(random.random(len(wrong)) < 0.5, random.choice(real, len(wrong)), np.maximum(wrong - 1, 0))
    changed = codes.ravel().copy()
    changed[wrong] = codes.ravel()[other]
    read = torch.from_numpy(changed.reshape(codes.shape)).to(batch.codes.device)
    return _Batch(batch.phones, batch.counts, read, batch.targets, batch.aligned)
