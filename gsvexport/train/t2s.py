"""The GPT: phones → codes.

Three things make it learn the alignment quickly and hold it: two heads are told which phone each code says, part of the
codes that it reads are wrong, and its loss also sees the scores as upstream's sampler changes them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from gsvexport.train import corpus, loop
from gsvexport.train.tokens import Vocabulary
from gsvexport.voice.dims import T2SDims
from gsvexport.voice.networks import Text2Semantic

_PENALTY = 1.35  # upstream's default
_SUPERVISED = (1, 2)  # layers; head 0 looks at the phone that is said, head 1 at the next one
_SEED = 30
_NOTHING = -100  # no target
_ROWS = 4  # blocks of rows in which attention is written out
_LONGEST_RUN = 6  # codes of another place that are read in a row
_MOST = 1 << 30


@dataclass(frozen=True)
class Course:
    """One training: what it is called, how fast and with what it learns.

    `alone` and `after_any` are the shares of texts alone and after another text, the rest being after the bundled
    reference. `wrong` is the share of codes that are misread. `lengths` are classes of a text's codes, (more than, at
    most, share of texts that are two or three as one), drawn evenly; `early` the share of all steps in which only texts
    of the first class are read. A step takes `positions` of text and audio.
    """

    name: str
    rate: float
    warm: int
    alone: float
    after_any: float
    wrong: float
    positions: int
    lengths: tuple[tuple[int, int, float], ...] = ((0, _MOST, 0.0),)
    early: float = 0.0
    drawn: int = 48
    keep: float = 0.998
    seed: int = _SEED


@dataclass(frozen=True)
class Line:
    """Phones [X], codes [T] and for each code the phone that it says [T]."""

    phones: Tensor
    codes: Tensor
    aligned: Tensor


@dataclass(frozen=True)
class Lines:
    """The reference, what is trained on, what is validated on, and the code that ends all of them, a network's last."""

    reference: Line
    train: list[Line]
    valid: list[Line]
    end: int

    def pools(self, course: Course) -> list[list[Line]]:
        """The texts to train on by class of length; a class that has none takes all."""
        return [
            [line for line in self.train if low < len(line.codes) <= high] or self.train
            for low, high, _ in course.lengths
        ]


@dataclass(frozen=True)
class _Batch:
    phones: Tensor  # [B, X]
    counts: Tensor  # [B] phones of each
    codes: Tensor  # [B, Y], what is read
    targets: Tensor  # [B, Y+1]
    aligned: Tensor  # [B, Y], or _NOTHING


def read(folder: Path, end: int, known: Vocabulary | None = None) -> Lines:
    """All texts of a corpus, whose keys are codes where there is no vocabulary; `end` is the code that ends them."""
    found: dict[str, list[Line]] = {"r": [], "s": [], "v": []}
    for one in corpus.read(folder, "rsv"):
        codes = one.keys[:, 0] if known is None else known.codes(one.keys)
        tensors = (torch.from_numpy(array) for array in (one.phones, codes, one.aligned))
        found[one.kind].append(Line(*tensors))
    return Lines(found["r"][0], found["s"], found["v"], end)


def untrained(dims: T2SDims) -> Text2Semantic:
    """A network at its starting point; text features of a language model are never used."""
    torch.manual_seed(_SEED)
    network = Text2Semantic(dims)
    with torch.no_grad():
        network.ar_text_embedding.word_embeddings.weight.mul_(0.6)
        network.ar_audio_embedding.word_embeddings.weight.mul_(0.6)
        network.bert_proj.weight.zero_()
        network.bert_proj.bias.zero_()
    network.bert_proj.requires_grad_(False)
    return network


def learn(
    course: Course,
    network: Text2Semantic,
    lines: Lines,
    path: Path,
    schedule: loop.Schedule,
    device: str,
    say: loop.Say,
) -> None:
    """Train the network from where it is; the checkpoint's "average" is the one to use."""
    network.to(device)
    average = copy.deepcopy(network).eval()
    trained = [(name, value) for name, value in network.named_parameters() if value.requires_grad]
    matrices = [value for name, value in trained if value.ndim > 1 and "embedding" not in name]
    others = [value for name, value in trained if value.ndim <= 1 or "embedding" in name]
    groups = [{"params": matrices, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, course.rate, betas=(0.9, 0.98))
    pools = lines.pools(course)

    def step(number: int) -> Mapping[str, float]:
        random, _ = loop.generators(course.seed, number)
        early = number < course.early * schedule.steps
        batch = _batch(_drawn(lines, pools[:1] if early else pools, course, random), lines, device)
        with _short(device):
            logits, attention = _forward(network, _misread(batch, course.wrong, random))
        plain = _entropy(logits, batch.targets)
        seen = _entropy(logits * _penalty(logits.detach(), batch.codes), batch.targets)
        loop.set_rate(optimiser, course.rate * loop.rate(number, schedule.steps, warm=course.warm))
        loss = 0.5 * (plain + seen) + (0.3 if number < schedule.steps / 2 else 0.1) * attention
        loop.update(optimiser, loss, [*matrices, *others], 1.0)
        loop.follow(average, network, number, course.keep)
        return {"ce": plain.item(), "attention": attention.item()}

    state = loop.State({"network": network, "average": average}, {"network": optimiser})
    loop.run(course.name, path, schedule, state, step, lambda: held_out(average, lines, device), say)


@torch.no_grad()
def held_out(network: Text2Semantic, lines: Lines, device: str) -> str:
    """Cross-entropy per code, what a wrong text costs more, and how often the likeliest code is the right one."""
    texts = []
    for name, before in (("alone", []), ("after the reference", [lines.reference])):
        batch = _batch([[*before, line] for line in lines.valid], lines, device)
        wrong = [*lines.valid[3:], *lines.valid[:3]]
        mixed = _batch([[*before, line] for line in wrong], lines, device)
        nothing = torch.full_like(batch.aligned, _NOTHING)
        with _short(device):
            logits, _ = _forward(network, batch)
            other, _ = _forward(network, _Batch(mixed.phones, mixed.counts, batch.codes, batch.targets, nothing))
        right, told = _entropy(logits, batch.targets), batch.targets != _NOTHING
        hits = (logits.argmax(dim=-1) == batch.targets)[told].float().mean()
        gap = _entropy(other, batch.targets) - right
        texts.append(f"{name}: ce {right:.3f}, wrong text {gap:+.2f}, top-1 {hits:.3f}")
    return "; ".join(texts)


@torch.no_grad()
def mean_hidden(network: Text2Semantic, lines: Lines) -> NDArray[np.float32]:
    """What the last layer gives on average for the validation texts after the reference, [D]."""
    batch = _batch([[lines.reference, line] for line in lines.valid], lines, "cpu")
    found: list[Tensor] = []
    hook = network.ar_predict_layer.register_forward_pre_hook(lambda _, given: found.append(given[0]))
    _forward(network, batch)
    hook.remove()
    return found[0][:, 1:][batch.codes != lines.end].mean(dim=0).numpy()


def _short(device: str) -> torch.autocast:
    """Products in bfloat16: both processors and GPUs have units for them."""
    return torch.autocast(torch.device(device).type, torch.bfloat16)


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
    bias = torch.zeros(mask.shape, dtype=torch.bfloat16, device=device).masked_fill_(~mask, float("-inf"))
    attention = x.new_zeros(())
    layers: Any = network.h.layers
    for index, layer in enumerate(layers):
        if index in _SUPERVISED:
            attention = attention + _attention(layer.self_attn, x, mask, batch) / len(_SUPERVISED)
        x = _layer(layer, x, bias, width)
    last = x[torch.arange(len(x)), batch.counts - 1][:, None]
    return network.ar_predict_layer(torch.cat([last, x[:, width:]], dim=1)).float(), attention


def _layer(layer: Any, x: Tensor, bias: Tensor, width: int) -> Tensor:
    """One layer, its attention written out in blocks of rows: no row looks behind its block.

    (Fused attention is slower on a processor, backwards: its backward took a third of a step.)
    """
    attention, parts, begin = layer.self_attn, [], 0
    packed = functional.linear(x, attention.in_proj_weight, attention.in_proj_bias).chunk(3, -1)
    query, key, value = (part.reshape(*part.shape[:2], attention.heads, -1).transpose(1, 2) for part in packed)
    query, bias = query * query.shape[-1] ** -0.5, bias.to(query.dtype)
    for part in range(_ROWS):
        end = width + (x.shape[1] - width) * part // (_ROWS - 1)
        scores = query[:, :, begin:end] @ key[:, :, :end].mT + bias[:, :, begin:end, :end]
        parts.append(torch.softmax(scores, dim=-1) @ value[:, :, :end])
        begin = end
    x = layer.norm1(x + attention.out_proj(torch.cat(parts, dim=2).transpose(1, 2).flatten(2)))
    return layer.norm2(x + layer.linear2(torch.relu(layer.linear1(x))))


def _attention(attention: Any, x: Tensor, mask: Tensor, batch: _Batch) -> Tensor:
    """How far heads 0 and 1 of a layer are from looking at the phone that is said and at the next one."""
    width, every = batch.phones.shape[1], x.shape[-1]
    head = every // attention.heads
    losses = []
    for number in range(2):
        rows = slice(number * head, (number + 1) * head)
        keys = slice(every + number * head, every + (number + 1) * head)
        query = functional.linear(x[:, width:], attention.in_proj_weight[rows], attention.in_proj_bias[rows])
        key = functional.linear(x[:, :width], attention.in_proj_weight[keys], attention.in_proj_bias[keys])
        scores = (query @ key.mT / head**0.5).float().masked_fill(~mask[:, 0, width:, :width], -1e9)
        wanted = torch.minimum(batch.aligned + number, batch.counts[:, None] - 1)
        wanted = torch.where(batch.aligned == _NOTHING, batch.aligned, wanted)
        losses.append(functional.cross_entropy(scores.flatten(0, 1), wanted.flatten(), ignore_index=_NOTHING))
    return torch.stack(losses).mean()


def _penalty(logits: Tensor, codes: Tensor) -> Tensor:
    """What upstream's repetition penalty multiplies the logits [B, Y+1, V] with: each row knows the codes before it."""
    rows, vocab = logits.shape[1:]
    number = torch.arange(rows, device=logits.device)
    first = torch.full((len(logits), vocab), rows, device=logits.device)
    first = first.scatter_reduce(1, codes, number[1:].expand(len(logits), -1), "amin")
    first[:, -1] = rows  # padding is written with the end's code, the last one
    seen = number[None, :, None] >= first[:, None]
    return torch.where(seen, torch.where(logits < 0, _PENALTY, 1 / _PENALTY), 1.0)


def _entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=_NOTHING)


def _drawn(
    lines: Lines, pools: Sequence[Sequence[Line]], course: Course, random: np.random.Generator
) -> list[list[Line]]:
    """The items of one step, of similar length and of some `positions` in all.

    Items are drawn, sorted by length and cut into batches of equal positions, of which one is taken: no length is left
    out, and none comes more often than another.
    """
    items = []
    for kind in random.random(course.drawn):
        before = [lines.reference]
        if kind < course.alone:
            before = []
        elif kind < course.alone + course.after_any:
            before = [_one(pools[int(random.integers(len(pools)))], random)]
        items.append([*before, *_target(lines, pools, course, random)])
    batches: list[list[list[Line]]] = [[]]
    for item in sorted(items, key=_positions):
        if batches[-1] and (len(batches[-1]) + 1) * _positions(item) > course.positions:
            batches.append([])
        batches[-1].append(item)
    return batches[random.integers(len(batches))]


def _target(
    lines: Lines, pools: Sequence[Sequence[Line]], course: Course, random: np.random.Generator
) -> Sequence[Line]:
    """What an item has to say: one text, or two or three as one."""
    number = int(random.integers(len(pools)))
    low, high, joined = course.lengths[number]
    if random.random() < joined:
        for _ in range(100):
            some = [_one(lines.train, random) for _ in range(random.integers(2, 4))]
            if low < sum(len(line.codes) for line in some) <= high:
                return some
    return [_one(pools[number], random)]


def _one(lines: Sequence[Line], random: np.random.Generator) -> Line:
    return lines[int(random.integers(len(lines)))]


def _positions(item: Sequence[Line]) -> int:
    return sum(len(line.phones) + len(line.codes) for line in item)


def _batch(items: Sequence[Sequence[Line]], lines: Lines, device: str) -> _Batch:
    """A batch. The reference, always the same, teaches nothing."""
    reference = lines.reference
    phones, codes, targets, aligned = [], [], [], []
    for item in items:
        starts = np.cumsum([0, *(len(line.phones) for line in item)])
        joined = torch.cat([line.codes for line in item])
        phones.append(torch.cat([line.phones for line in item]))
        codes.append(joined)
        wanted = torch.cat([joined, torch.tensor([lines.end])])
        looked = torch.cat([line.aligned + int(start) for line, start in zip(item, starts, strict=False)])
        if item[0] is reference:
            wanted[: len(reference.codes)] = looked[: len(reference.codes)] = _NOTHING
        targets.append(wanted)
        aligned.append(looked)
    counts = torch.tensor([len(row) for row in phones])
    fills = ((phones, 0), (codes, lines.end), (targets, _NOTHING), (aligned, _NOTHING))
    padded = [pad_sequence(rows, batch_first=True, padding_value=fill).to(device) for rows, fill in fills]
    return _Batch(padded[0], counts.to(device), padded[1], padded[2], padded[3])


def _misread(batch: _Batch, share: float, random: np.random.Generator) -> _Batch:
    """The batch with some of its codes replaced, up to twice `share` of them.

    A third by any code of the batch, a third by their left neighbour, a third by runs from another place: after a slip
    the network has to find back to where it was.
    """
    codes = batch.codes.cpu().numpy()
    flat, changed = codes.ravel(), codes.ravel().copy()
    real = np.flatnonzero((batch.targets[:, :-1] != _NOTHING).cpu().numpy().ravel())
    count = round(2 * random.random() * share * len(real) / 3)
    for source in (lambda at: random.choice(real, len(at)), lambda at: np.maximum(at - 1, 0)):
        at = random.choice(real, count, replace=False)
        changed[at] = flat[source(at)]
    for start in random.choice(real, 2 * count // _LONGEST_RUN, replace=False):
        length = int(random.integers(2, _LONGEST_RUN))
        other = int(random.choice(real))
        length = min(length, len(flat) - max(start, other), codes.shape[1] - int(start) % codes.shape[1])
        changed[start : start + length] = flat[other : other + length]
    read = torch.from_numpy(changed.reshape(codes.shape)).to(batch.codes.device)
    return _Batch(batch.phones, batch.counts, read, batch.targets, batch.aligned)
