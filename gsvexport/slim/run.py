"""`gsvexport slim`: teacher → data → cut → recovery → a smaller voice."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gsvexport.artifact.encoding import compressed_size
from gsvexport.compiler.build import source_of
from gsvexport.compiler.store import Store
from gsvexport.errors import InputError, VoiceError
from gsvexport.files import cache_directory, canonical_json, refuse_existing, refuse_others, sha256_bytes
from gsvexport.progress import Progress, note
from gsvexport.slim import codes, distil, encoder, integers, prune, teacher, vocoder, weights
from gsvexport.slim.recipe import Recipe
from gsvexport.slim.recordings import Recording
from gsvexport.slim.rounding import Manner
from gsvexport.slim.shape import Shapes, of, refuse, slimmer
from gsvexport.slim.sparse import Masks, masks
from gsvexport.slim.write import write
from gsvexport.train.loop import save_tensors
from gsvexport.voice.networks import Synthesizer, Text2Semantic, load_networks
from gsvexport.voice.profile import NAME, read_profile
from gsvexport.voice.voice import read_voice
from gsvexport.voice.written import written_path

_MEASURED = 16  # utterances that the choice of channels looks at
_LISTENED = 4  # utterances that the choice of layers looks at
_EQUAL = 1e-4  # a first loss (nats, or a difference of logarithms) that leaves nothing to recover
_NAMES = {"t2s": "T2S", "prior": "the text encoder", "vocoder": "the vocoder"}


@dataclass(frozen=True)
class Slimmed:
    """What came out: sizes before and after, losses of the held-out part by name, and the folder."""

    folder: Path
    before: Shapes
    after: Shapes
    losses: dict[str, float]
    zeros: float


def slim(
    path: Path,
    recipe: Recipe,
    out: Path,
    *,
    seed: int = 0,
    texts: Sequence[str] = (),
    recordings: Sequence[Recording] = (),
    work: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Slimmed:
    """Make a smaller voice of the one in `path`, a folder with a voice.toml, and write it to `out`.

    `texts` are said by the teacher before those that it finds itself, and of `recordings` (see
    `gsvexport.slim.recordings.read_list`) the codes that it hears. `work` keeps its data and the trainings'
    checkpoints (the cache, when absent): a run that was interrupted goes on there, and ends with equal numbers.

    Raises:
        InputError: `out` exists, or holds what is read; a recipe that does not fit; recordings of which none can be
            learned from.
        VoiceError: a voice that is broken, has no reference, or is of v3 or v4.
        EnvironmentProblem: the disk is full or not writable.
    """
    say = progress or (lambda _: None)
    refuse_existing(out, force=force)
    refuse_others(out, own=_is_student(out), what="a smaller voice")
    _refuse_around(out, [path, *(one.path for one in recordings), *([work] if work else [])])
    if not NAME.fullmatch(out.name):
        raise InputError(
            f"a voice cannot be called {out.name!a}", limit="letters, digits, '.', '_' and '-'", fix="-o NAME"
        )
    voice = read_voice(path)
    refuse(voice)
    before = of(voice)
    after = slimmer(before, recipe)
    if after == before and not recipe.rounds and not recipe.sparse.share:
        raise InputError(
            f"recipe '{recipe.name}' changes nothing in this voice: its sizes are too small for these shares",
            fix="ask for less to stay, in a recipe of your own",
        )
    source = source_of(path, Store(note=say), say)
    kept = work or cache_directory("slim")
    data = recipe.data if recipe.teaches_t2s else replace(recipe.data, codes=0)
    lesson = teacher.make(source.path, source.digest, data, texts, kept / "data", say, recordings)
    whole = _Work(recipe, lesson, seed, kept / "runs", say)
    say(note(f"teacher: {lesson.seconds / 60:.1f} min to learn from, and {len(lesson.written)} texts as codes alone"))
    say(note(f"the work is kept in {kept}"))
    networks = load_networks(voice)
    for network in networks:
        network.requires_grad_(False)
    t2s, synthesizer, losses, zeros = _student(whole, before, after, networks)
    told = {
        "name": out.name,
        "teacher": written_path(voice.path.parent, out),
        "teacher_gpt": voice.gpt.sha256,
        "teacher_sovits": voice.sovits.sha256,
        "recipe": recipe.name,
        "recipe_digest": recipe.digest,
        "data": lesson.whole,
        "seed": seed,
        "losses": {name: f"{value:.6g}" for name, value in losses.items()},
    }
    write(voice, after, t2s, synthesizer, told, out, force=force)
    return Slimmed(out, before, after, losses, zeros)


def _is_student(folder: Path) -> bool:
    with contextlib.suppress(VoiceError):
        return read_profile(folder).slim is not None
    return False


def _refuse_around(out: Path, used: Sequence[Path]) -> None:
    """Refuse to replace, or to write around, what is read or written on the way."""
    for one in used:
        if out.resolve() in (one.resolve(), *one.resolve().parents):
            raise InputError(f"{one} lies in {out}, where the voice is to be", fix="choose another output with -o")


@dataclass(frozen=True)
class _Work:
    """What is asked for, and where each training is kept: recipes that ask the same of it share its folder."""

    recipe: Recipe
    lesson: teacher.Lesson
    seed: int
    place: Path
    say: Progress

    def folder(self, training: str) -> Path:
        data = self.lesson.whole if training in ("t2s", "weights") else self.lesson.voiced
        asked = canonical_json([data, self.recipe.asked(training), self.seed])
        found = self.place / f"{training}-{sha256_bytes(asked.encode())[:32]}"
        found.mkdir(parents=True, exist_ok=True)
        return found

    def run(self, training: str, stay: Masks) -> distil.Run:
        return distil.Run(self.recipe.train, self.seed, stay, self.folder(training), lambda text: self.say(note(text)))

    def chosen(self, training: str, choose: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What stays, chosen once and kept, so that a run that goes on cuts alike."""
        path = self.folder(training) / "cut.pt"
        if path.is_file():
            found: dict[str, Any] = torch.load(path, weights_only=True)
            return found
        self.say(f"choosing what stays of {_NAMES[training]}")
        found = choose()
        save_tensors(path, found)
        return found


def _student(
    work: _Work, before: Shapes, after: Shapes, networks: tuple[Text2Semantic, Synthesizer]
) -> tuple[Text2Semantic, Synthesizer, dict[str, float], float]:
    """The student's networks, its losses, and the share of zeros in what is sparse."""
    recipe, lesson, say = work.recipe, work.lesson, work.say
    layers, kept = _chosen(work, before, after, networks)
    t2s, synthesizer = copy.deepcopy(networks)
    if before.t2s != after.t2s:
        t2s = prune.smaller_t2s(networks[0], before.t2s, after.t2s, layers, kept)
    if before.sovits != after.sovits:
        synthesizer = prune.smaller_sovits(networks[1], after.sovits, kept)
    stay = masks([t2s, synthesizer], recipe.sparse.share)
    for network in (t2s, synthesizer):
        stay.apply(network)

    judged: dict[str, Callable[[], dict[str, float]]] = {
        "t2s": lambda: codes.held_out(t2s, networks[0], lesson.held_out),
        "prior": lambda: encoder.held_out(synthesizer, networks[1], lesson),
        "vocoder": lambda: vocoder.held_out(synthesizer, lesson.held_out, lesson),
    }
    sparse, train = recipe.sparse.share > 0, recipe.train
    changed = {
        "t2s": sparse or before.t2s != after.t2s,
        "prior": sparse or before.sovits.filter != after.sovits.filter,
        "vocoder": sparse or before.sovits.upsample_initial != after.sovits.upsample_initial,
    }
    found = {part: judge() for part, judge in judged.items() if changed[part]}
    losses = {f"cut.{name}": value for one in found.values() for name, value in one.items()}
    if losses:
        say(note(f"cut: {distil.words(losses)}"))

    def better(run: distil.Run, part: str) -> bool:
        """Whether recovery helped that part by its first loss; its losses are those of what is taken."""
        now = judged[part]()
        name = next(iter(now))
        if helped := run.helped(name, found[part][name], now[name]):
            found[part] = now
        return helped

    left = {part: changed[part] and next(iter(found[part].values())) > _EQUAL for part in judged}
    if train.t2s_steps and left["t2s"]:
        say("recovery of T2S")
        residual = prune.spread(before.t2s.width, after.t2s.width)
        run = work.run("t2s", stay)
        old, t2s = t2s, codes.learn(run, t2s, networks[0], layers, residual, lesson)
        t2s = t2s if better(run, "t2s") else old
    if train.prior_steps and left["prior"]:
        say("recovery of the text encoder")
        run = work.run("prior", stay)
        whole, synthesizer.enc_p = synthesizer.enc_p, encoder.learn(run, synthesizer, networks[1], lesson)
        synthesizer.enc_p = synthesizer.enc_p if better(run, "prior") else whole
    if train.vocoder_steps and left["vocoder"]:
        say("recovery of the vocoder")
        stages = [kept.get(f"dec.{stage}") for stage in range(len(after.sovits.upsample_rates) + 1)]
        run = work.run("vocoder", stay)
        loud, synthesizer.dec = synthesizer.dec, vocoder.learn(run, synthesizer, networks[1], stages, lesson)
        synthesizer.dec = synthesizer.dec if better(run, "vocoder") else loud
    if recipe.weights.bits and train.weight_steps:
        say("T2S learns to have weights of few bits")
        t2s, small = weights.learn(work.run("weights", stay), t2s, networks[0], lesson, recipe.weights.bits)
        losses |= small
    if recipe.weights.vocoder and train.weight_steps:
        say("the vocoder learns to have weights of few bits")
        few = work.run("vocoder-weights", stay)
        synthesizer.dec, small = weights.learn_vocoder(few, synthesizer, lesson, recipe.weights.vocoder)
        losses |= small
    if recipe.integers.bits and train.integer_steps:
        say("the vocoder learns to be rounded")
        manner = Manner(recipe.integers.bits, recipe.integers.stages)
        synthesizer, rounded = integers.rounded(work.run("integers", stay), synthesizer, lesson, manner)
        losses |= rounded
    if recipe.weights.significant:
        for network in (t2s, synthesizer):
            weights.shorten(network, recipe.weights.significant)
        short = {name: value for judge in judged.values() for name, value in judge().items()}
        losses |= {f"recovered.short.{name}": value for name, value in short.items()}
    losses |= {f"recovered.{name}": value for one in found.values() for name, value in one.items()}
    return t2s, synthesizer, losses, stay.share


def _chosen(
    work: _Work, before: Shapes, after: Shapes, networks: tuple[Text2Semantic, Synthesizer]
) -> tuple[list[int], prune.Kept]:
    """Which layers of T2S stay, and which channels of everything."""
    t2s, synthesizer = networks
    lesson = work.lesson

    def channels(groups: Sequence[prune.Group], network: torch.nn.Module, measures: Callable[..., Any]) -> prune.Kept:
        return prune.importance(network, groups, measures(network, lesson, _MEASURED, work.seed))

    def of_t2s() -> dict[str, Any]:
        some = lesson.train[:_LISTENED]
        with torch.no_grad():
            wanted = [codes.told(t2s, one) for one in some]

            def loss() -> float:
                apart = [codes.divergence(codes.told(t2s, one), other) for one, other in zip(some, wanted, strict=True)]
                return float(torch.stack(apart).mean())

            layers = prune.layers_that_stay(t2s, after.t2s.layers, loss)
        kept = channels(prune.t2s_groups(before.t2s, after.t2s, layers), t2s, codes.measures)
        return {"layers": layers, "kept": kept}

    found: dict[str, Any] = {"layers": list(range(before.t2s.layers)), "kept": {}}
    if before.t2s != after.t2s:
        found = work.chosen("t2s", of_t2s)
    kept: prune.Kept = found["kept"]
    old, new = before.sovits, after.sovits
    if old.filter != new.filter:
        kept |= work.chosen("prior", lambda: channels(prune.prior_groups(old, new), synthesizer, encoder.measures))
    if old.upsample_initial != new.upsample_initial:
        kept |= work.chosen("vocoder", lambda: channels(prune.vocoder_groups(old, new), synthesizer, vocoder.measures))
    return found["layers"], kept


def packed(folder: Path) -> int:
    """Bytes of a voice's two weight files after Brotli."""
    return sum(compressed_size(folder / name) for name in ("gpt.ckpt", "sovits.pth"))
