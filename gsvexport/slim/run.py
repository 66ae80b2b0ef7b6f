"""`gsvexport slim`: teacher → data → cut → recovery → a smaller voice."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gsvexport.artifact.encoding import compressed_size
from gsvexport.compiler.build import source_of
from gsvexport.compiler.store import Store
from gsvexport.errors import InputError
from gsvexport.files import cache_directory, canonical_json, refuse_existing, sha256_bytes
from gsvexport.progress import Progress, note
from gsvexport.slim import codes, distil, encoder, integers, prune, teacher, vocoder, weights
from gsvexport.slim.recipe import Recipe
from gsvexport.slim.rounding import Manner
from gsvexport.slim.shape import Shapes, of, refuse, slimmer
from gsvexport.slim.sparse import masks
from gsvexport.slim.write import write
from gsvexport.train.loop import save_tensors
from gsvexport.voice.networks import Synthesizer, Text2Semantic, load_networks
from gsvexport.voice.profile import NAME
from gsvexport.voice.voice import read_voice
from gsvexport.voice.written import written_path

_MEASURED = 16  # utterances that the choice of channels looks at
_LISTENED = 4  # utterances that the choice of layers looks at


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
    work: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Slimmed:
    """Make a smaller voice of the one in `path`, a folder with a voice.toml, and write it to `out`.

    `texts` are said by the teacher before those that it finds itself. `work` keeps its data and the trainings'
    checkpoints (the cache, when absent): a run that was interrupted goes on there, and ends with equal numbers.

    Raises:
        InputError: `out` exists, or a recipe that does not fit.
        VoiceError: a voice that is broken, has no reference, or is of v3 or v4.
        EnvironmentProblem: the disk is full or not writable.
    """
    say = progress or (lambda _: None)
    refuse_existing(out, force=force)
    if not NAME.fullmatch(out.name):
        raise InputError(
            f"a voice cannot be called {out.name!a}", limit="letters, digits, '.', '_' and '-'", fix="-o NAME"
        )
    voice = read_voice(path)
    refuse(voice)
    before = of(voice)
    after = slimmer(before, recipe)
    if after == before and not (recipe.sparse.share or recipe.integers.bits or recipe.weights.bits):
        raise InputError(
            f"recipe '{recipe.name}' changes nothing in this voice: its sizes are too small for these shares",
            fix="ask for less to stay, in a recipe of your own",
        )
    source = source_of(path, Store(note=say), say)
    place = work or cache_directory("slim")
    lesson, data = teacher.make(source.path, source.digest, recipe.data, texts, place / "data", say)
    key = sha256_bytes(canonical_json([data, recipe.digest, seed]).encode())
    folder = place / "runs" / key[:32]
    folder.mkdir(parents=True, exist_ok=True)
    say(note(f"teacher: {lesson.seconds / 60:.1f} min to learn from; the work is kept in {folder}"))
    networks = load_networks(voice)
    for network in networks:
        network.requires_grad_(False)
    t2s, synthesizer, losses, zeros = _student(recipe, before, after, networks, lesson, seed, folder, say)
    told = {
        "name": out.name,
        "teacher": written_path(voice.path.parent, out),
        "teacher_gpt": voice.gpt.sha256,
        "teacher_sovits": voice.sovits.sha256,
        "recipe": recipe.name,
        "recipe_digest": recipe.digest,
        "data": data,
        "seed": seed,
        "losses": {name: f"{value:.6g}" for name, value in losses.items()},
    }
    write(voice, after, t2s, synthesizer, told, out, force=force)
    return Slimmed(out, before, after, losses, zeros)


def _student(
    recipe: Recipe,
    before: Shapes,
    after: Shapes,
    networks: tuple[Text2Semantic, Synthesizer],
    lesson: teacher.Lesson,
    seed: int,
    folder: Path,
    say: Progress,
) -> tuple[Text2Semantic, Synthesizer, dict[str, float], float]:
    """The student's networks, its losses, and the share of zeros in what is sparse."""
    chosen = _chosen(before, after, networks, lesson, seed, folder / "cut.pt", say)
    layers, kept = chosen["layers"], chosen["kept"]
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

    def better(part: str) -> bool:
        """Whether recovery helped that part by its first loss; its losses are those of what is taken."""
        now = judged[part]()
        name = next(iter(now))
        if now[name] < found[part][name]:
            found[part] = now
            return True
        say(note(f"{name} was {found[part][name]:.4f} before recovery and {now[name]:.4f} after: it is left out"))
        return False

    run = distil.Run(recipe.train, seed, stay, folder, lambda text: say(note(text)))
    if train.t2s_steps and changed["t2s"]:
        say("recovery of T2S")
        residual = prune.spread(before.t2s.width, after.t2s.width)
        old, t2s = t2s, codes.learn(run, t2s, networks[0], layers, residual, lesson)
        t2s = t2s if better("t2s") else old
    if train.prior_steps and changed["prior"]:
        say("recovery of the text encoder")
        whole, synthesizer.enc_p = synthesizer.enc_p, encoder.learn(run, synthesizer, networks[1], lesson)
        synthesizer.enc_p = synthesizer.enc_p if better("prior") else whole
    if train.vocoder_steps and changed["vocoder"]:
        say("recovery of the vocoder")
        stages = [kept.get(f"dec.{stage}") for stage in range(len(after.sovits.upsample_rates) + 1)]
        loud, synthesizer.dec = synthesizer.dec, vocoder.learn(run, synthesizer, networks[1], stages, lesson)
        synthesizer.dec = synthesizer.dec if better("vocoder") else loud
    if recipe.weights.bits and train.weight_steps:
        say("T2S learns to have weights of few bits")
        t2s, small = weights.learn(run, t2s, networks[0], lesson, recipe.weights.bits)
        losses |= small
    if recipe.integers.bits and train.integer_steps:
        say("the vocoder learns to be rounded")
        manner = Manner(recipe.integers.bits, recipe.integers.stages)
        synthesizer, rounded = integers.rounded(run, synthesizer, lesson, manner)
        losses |= rounded
    losses |= {f"recovered.{name}": value for one in found.values() for name, value in one.items()}
    return t2s, synthesizer, losses, stay.share


def _chosen(
    before: Shapes,
    after: Shapes,
    networks: tuple[Text2Semantic, Synthesizer],
    lesson: teacher.Lesson,
    seed: int,
    path: Path,
    say: Progress,
) -> dict[str, Any]:
    """Which layers and channels stay; chosen once and kept, so that a run that goes on cuts alike."""
    if path.is_file():
        found: dict[str, Any] = torch.load(path, weights_only=True)
        return found
    t2s, synthesizer = networks
    say("choosing what stays")
    some = lesson.train[:_LISTENED]
    with torch.no_grad():
        wanted = [codes.told(t2s, one) for one in some]

        def loss() -> float:
            apart = [codes.divergence(codes.told(t2s, one), other) for one, other in zip(some, wanted, strict=True)]
            return float(torch.stack(apart).mean())

        layers = prune.layers_that_stay(t2s, after.t2s.layers, loss)
    kept: prune.Kept = {}
    for network, groups, measures in (
        (t2s, prune.t2s_groups(before.t2s, after.t2s, layers), codes.measures),
        (synthesizer, prune.prior_groups(before.sovits, after.sovits), encoder.measures),
        (synthesizer, prune.vocoder_groups(before.sovits, after.sovits), vocoder.measures),
    ):
        if any(group.keep < group.count for group in groups):
            measure: Callable[..., Any] = measures
            kept |= prune.importance(network, groups, measure(network, lesson, _MEASURED, seed))
    save_tensors(path, {"layers": layers, "kept": kept})
    return {"layers": layers, "kept": kept}


def packed(folder: Path) -> int:
    """Bytes of a voice's two weight files after Brotli."""
    return sum(compressed_size(folder / name) for name in ("gpt.ckpt", "sovits.pth"))
