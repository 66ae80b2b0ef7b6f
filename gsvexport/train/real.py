"""The parts of the real demo voice's training: only its GPT is learned, on codes of the installed package's voice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gsvexport.demo import package, real, units
from gsvexport.demo.units import CODES
from gsvexport.files import atomic_directory, atomic_file, canonical_json, sha256_file
from gsvexport.text.symbols import symbols
from gsvexport.train.job import Job, Part
from gsvexport.untrusted.reading import read_array
from gsvexport.voice.dims import T2SDims
from gsvexport.voice.layout import T2S_PREFIX

if TYPE_CHECKING:
    from gsvexport.train.loop import Schedule
    from gsvexport.train.t2s import Course, Lines
    from gsvexport.voice.networks import Text2Semantic

# While it is trained: the codes that there are, and the end. As it is packed: as many as upstream's files have.
LEARNED = T2SDims(layers=4, width=256, heads=4, vocab=CODES + 1, phones=732, eos=CODES)
PACKED = T2SDims(layers=4, width=256, heads=4, vocab=1025, phones=732, eos=1024)
TEXTS = 20000
CODEBOOK_TEXTS = 2000
SHARPNESS = 4.0  # of the packed scores; chosen on the validation sentences
PACKAGES = ("torch", "pocketsphinx", package.MODULE)
_SEED = 1
_NEVER = 60.0  # how far below zero a code that does not exist scores on average


def make_codebook(job: Job) -> None:
    """The codebook's occurrences: those that were shipped, or found anew by k-means."""
    path = job.work / "units.npy"
    if path.is_file():
        return
    job.work.mkdir(parents=True, exist_ok=True)
    if job.fresh:
        from gsvexport.train import codebook, ipa, texts

        count = min(CODEBOOK_TEXTS, job.texts)
        job.say(f"codebook: {count} texts")
        rows = [one.ids for text in texts.corpus(count) for one in ipa.spell(text.text)]
        labels, _ = codebook.learn(rows, package.ask(package.TextHalf(), rows))
        found = np.stack([np.concatenate(rows), labels], axis=1).astype(np.int16)
    else:
        found = real.occurrences()
    with atomic_file(path) as work, open(work, "wb") as stream:
        np.save(stream, found)


def make_corpus(job: Job) -> None:
    """Texts and their codes."""
    from gsvexport.train import everyday, prior
    from gsvexport.train.sentences import REFERENCE, VALIDATION
    from gsvexport.train.texts import Text

    held = [Text("r000000", REFERENCE), *(Text(f"v{number:06d}", text) for number, text in enumerate(VALIDATION))]
    texts = [*held, *everyday.mixed(job.texts, _SEED)]
    prior.make(texts, _codebook(job), job.corpus, workers=job.workers, say=job.say)


def train_gpt(job: Job) -> None:
    """The GPT: from nothing in all courses, or once more from the one that was shipped."""
    from gsvexport.train import loop, t2s

    lines = t2s.read(job.corpus, LEARNED.eos)
    hours = sum(len(line.codes) for line in lines.train) * 2 * package.HOP / package.RATE / 3600
    job.say(f"gpt: {len(lines.train)} sentences, {hours:.1f} h")
    before: Path | None = None
    for course, schedule in _courses(job):
        network = t2s.untrained(LEARNED)
        if before is not None:
            loop.restore(before, {"average": network})
        elif not job.fresh:
            start = job.work / "shipped.ckpt"
            start.write_bytes(real.parts()["gpt.ckpt"])
            unpack_gpt(network, start)
        before = job.file(course.name)
        t2s.learn(course, network, lines, before, schedule.scaled(job.scale), job.device, job.say)


def pack_voice(job: Job) -> None:
    """The GPT in upstream's format, and the archive that travels with gsvexport."""
    from gsvexport.synthetic.container import write_checkpoint
    from gsvexport.train import ipa, loop, pack, t2s
    from gsvexport.train.sentences import REFERENCE, TEST

    network = t2s.untrained(LEARNED)
    last = _courses(job)[-1][0].name
    steps = loop.restore(job.file(last), {"average": network})
    tensors = packed_gpt(network.eval(), t2s.read(job.corpus, LEARNED.eos))
    half, book = package.TextHalf(), _codebook(job)
    with atomic_directory(job.work / "parts", force=True) as work:
        gpt = {"weight": pack.halves(tensors), "config": real.gpt_config(PACKED), "info": f"demo: {last} {steps}"}
        write_checkpoint(work / "gpt.ckpt", gpt, root="demo")
        (work / "units.npy").write_bytes((job.work / "units.npy").read_bytes())
        tests = []
        for text in (REFERENCE, *TEST):
            [one] = ipa.spell(text)
            [said] = half([one.ids.tolist()])
            codes = np.repeat(book.codes(one.ids, said.mean), units.pairs(said.lengths)).tolist()
            names = [symbols("v2")[number] for number in one.phones]
            row = {"text": text, "phones": names, "phone_ids": one.phones.tolist(), "symbols": one.ids.tolist()}
            tests.append({**row, "codes": codes})
        (work / "reference.json").write_bytes(canonical_json(tests[0]).encode())
        (work / "tests.json").write_bytes(json.dumps(tests[1:], indent=0).encode())
    pack.archive(job.work / "parts", job.out, real.PARTS)
    job.say(f"{job.out}: {job.out.stat().st_size / 1e6:.2f} MB")
    job.say(f"for gsvexport/demo/real.py: SHA256 = {sha256_file(job.out)!r}")


def unpack_gpt(network: Text2Semantic, path: Path) -> None:
    """Fill a network to be trained with a packed GPT file; phones that it never met begin as another stress.

    Raises:
        VoiceError: the file cannot be used.
    """
    from gsvexport.train import pack

    state = pack.unpacked_gpt(path, SHARPNESS)
    rows = [*range(LEARNED.eos), PACKED.eos]
    for name in ("ar_audio_embedding.word_embeddings.weight", "ar_predict_layer.weight"):
        state[name] = state[name][rows]
    names, text = symbols("v2"), state["ar_text_embedding.word_embeddings.weight"]
    known = [bool(row.any()) for row in text]
    for place, name in enumerate(names):
        others = [names.index(other) for level in "012" if (other := name[:-1] + level) in names]
        if name[-1] in "012" and not known[place] and (met := [other for other in others if known[other]]):
            text[place] = text[met[0]]
    network.load_state_dict(state)


def packed_gpt(network: Text2Semantic, lines: Lines) -> dict[str, np.ndarray]:
    """The tensors of a trained network by the file's names, with rows for all codes that upstream's files have.

    Rows of codes that do not exist point away from what the last layer gives on average, so that they are never drawn.
    """
    from gsvexport.train import pack, t2s

    state = {name: pack.array(value) for name, value in network.state_dict().items()}
    mean = t2s.mean_hidden(network, lines)
    never = -mean / float(mean @ mean) * _NEVER
    for name in ("ar_audio_embedding.word_embeddings.weight", "ar_predict_layer.weight"):
        rows = np.zeros((PACKED.vocab, PACKED.width), np.float32)
        rows[: LEARNED.eos], rows[PACKED.eos] = state[name][: LEARNED.eos], state[name][LEARNED.eos]
        state[name] = rows
    state["ar_predict_layer.weight"] *= SHARPNESS
    state["ar_predict_layer.weight"][LEARNED.eos : PACKED.eos] = never
    silent = [number for number, name in enumerate(symbols("v2")) if name not in pack.english()]
    state["ar_text_embedding.word_embeddings.weight"][silent] = 0
    return {f"{T2S_PREFIX}{name}": value for name, value in state.items()}


def _courses(job: Job) -> tuple[tuple[Course, Schedule], ...]:
    from gsvexport.train import courses

    return courses.REAL if job.fresh else courses.AGAIN


def _codebook(job: Job) -> units.Codebook:
    return real.codebook(package.TextHalf(), read_array(job.work / "units.npy"))


# What is done, in order; each part looks itself whether it begins from nothing.
ON: dict[str, Part] = {
    "codebook": make_codebook,
    "corpus": make_corpus,
    "gpt": train_gpt,
    "pack": pack_voice,
}
FROM_NOTHING = ON
