"""The parts of the small demo voice's training: speech of Debian's festival, all networks learned here.

From nothing all of them are learned. Otherwise the GPT alone goes on from the one that was shipped, on longer texts.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from gsvexport.files import sha256_file
from gsvexport.train.job import Job, Part

TEXTS, ACOUSTIC = 12000, 1500
_SEED = 2
_CODEBOOK = "quantizer.vq.layers.0._codebook.embed"
REFINED = 600  # recordings of the adversarial stage, which sees but few
SHARPNESS = 2.0  # chosen on the validation sentences
PACKAGES = ("torch", "pyworld", "pocketsphinx", "soundfile", "scipy")


def make_corpus(job: Job) -> None:
    """Texts, speech, grid, latents; then the vocabulary and the latent's statistics."""
    from gsvexport.train import corpus, data, texts

    wanted = [*texts.held_out(), *texts.corpus(job.texts)]
    corpus.make(wanted, job.acoustic, job.corpus, workers=job.workers, say=job.say)
    data.learn_vocabulary(job.corpus, job.file("vocabulary"))
    data.prepare(job.corpus, job.file("prepared"), job.say)


def make_longer_corpus(job: Job) -> None:
    """Texts of all kinds and lengths and their keys, in the vocabulary of the voice that was shipped; no sound."""
    import torch

    from gsvexport.demo import small
    from gsvexport.train import corpus, everyday, loop, texts, tokens
    from gsvexport.voice.checkpoint import read_checkpoint

    rows = read_checkpoint(small.folder() / "sovits.pth").tensors[_CODEBOOK]
    known = tokens.of_codebook(rows.astype(np.float32))
    loop.save_tensors(job.file("vocabulary"), torch.from_numpy(known.keys))
    held = [one for one in texts.held_out() if one.name[0] in "rv"]
    corpus.make([*held, *everyday.mixed(job.texts, _SEED)], 0, job.corpus, workers=job.workers, say=job.say)


def train_vocoder(job: Job) -> None:
    """The vocoder on true latents, by regression."""
    from gsvexport.train import data, shape, vocoder

    found = data.acoustic(job.corpus, job.file("prepared"))
    job.say(f"vocoder: {vocoder.heard_seconds(found.train) / 60:.1f} min of speech")
    network = shape.untrained().dec
    vocoder.regress(network, found, job.file("vocoder"), vocoder.REGRESSION.scaled(job.scale), job.device, job.say)


def train_encoder(job: Job) -> None:
    """The encoder."""
    from gsvexport.train import data, encoder, shape

    found, known = data.acoustic(job.corpus, job.file("prepared")), data.load_vocabulary(job.file("vocabulary"))
    schedule = encoder.SCHEDULE.scaled(job.scale)
    encoder.learn(shape.untrained(), found, known, job.file("encoder"), schedule, job.device, job.say)


def train_gpt(job: Job) -> None:
    """The GPT."""
    from gsvexport.train import courses, data, t2s
    from gsvexport.train.shape import GPT

    lines = t2s.read(job.corpus, GPT.eos, data.load_vocabulary(job.file("vocabulary")))
    hours = sum(len(line.codes) for line in lines.train) * 0.04 / 3600
    job.say(f"gpt: {len(lines.train)} texts, {hours:.1f} h")
    schedule = courses.LEARN_STEPS.scaled(job.scale)
    t2s.learn(courses.LEARN, t2s.untrained(GPT), lines, job.file("gpt"), schedule, job.device, job.say)


def polish_gpt(job: Job) -> None:
    """The GPT once more, on texts after the bundled reference."""
    from gsvexport.train import courses, data, loop, t2s
    from gsvexport.train.shape import GPT

    lines = t2s.read(job.corpus, GPT.eos, data.load_vocabulary(job.file("vocabulary")))
    network = t2s.untrained(GPT)
    loop.restore(job.file("gpt"), {"average": network})
    schedule = courses.POLISH_STEPS.scaled(job.scale)
    t2s.learn(courses.POLISH, network, lines, job.file("polish"), schedule, job.device, job.say)


def train_gpt_on(job: Job) -> None:
    """The GPT that was shipped, on longer texts."""
    from gsvexport.demo import small
    from gsvexport.train import courses, data, pack, t2s
    from gsvexport.train.shape import GPT

    lines = t2s.read(job.corpus, GPT.eos, data.load_vocabulary(job.file("vocabulary")))
    network = t2s.untrained(GPT)
    network.load_state_dict(pack.unpacked_gpt(small.folder() / "gpt.ckpt", SHARPNESS))
    schedule = courses.AGAIN_SMALL_STEPS.scaled(job.scale)
    t2s.learn(courses.AGAIN_SMALL, network, lines, job.file("again"), schedule, job.device, job.say)


def predict_latents(job: Job) -> None:
    """What the encoder makes of the recordings that the adversarial stage takes."""
    from gsvexport.train import data, encoder, loop, shape

    if job.file("predicted").is_file():
        return
    found, known = data.acoustic(job.corpus, job.file("prepared")), data.load_vocabulary(job.file("vocabulary"))
    network = shape.untrained().to(job.device).eval()
    encoder.set_codebook(network, known)
    loop.restore(job.file("encoder"), {"encoder": network.enc_p})
    job.say(f"encoder: speaking {REFINED} recordings")
    loop.save_tensors(job.file("predicted"), encoder.predict_all(network, found.train[:REFINED], found, known))


def refine_vocoder(job: Job) -> None:
    """The vocoder once more, on what the encoder gives it, with judges."""
    import torch

    from gsvexport.train import data, loop, shape, vocoder

    found = data.acoustic(job.corpus, job.file("prepared"))
    found = replace(found, train=found.train[:REFINED])
    network = shape.untrained().dec
    loop.restore(job.file("vocoder"), {"average": network})
    predicted = torch.load(job.file("predicted"), weights_only=True)
    schedule = vocoder.ADVERSARIAL.scaled(job.scale)
    vocoder.refine(network, found, predicted, job.file("adversarial"), schedule, job.device, job.say)


def pack_voice(job: Job) -> None:
    """The voice in upstream's formats, and the archive."""
    from gsvexport.train import data, encoder, loop, pack, shape, t2s

    found, known = data.acoustic(job.corpus, job.file("prepared")), data.load_vocabulary(job.file("vocabulary"))
    network, gpt = shape.untrained(), t2s.untrained(shape.GPT)
    encoder.set_codebook(network, known)
    steps = {
        "gpt": loop.restore(job.file("gpt"), {"average": gpt}),
        "encoder": loop.restore(job.file("encoder"), {"encoder": network.enc_p}),
        "vocoder": loop.restore(job.file("vocoder"), {"average": network.dec}),
    }
    if job.file("adversarial").is_file():
        steps["adversarial"] = loop.restore(job.file("adversarial"), {"average": network.dec})
    if job.file("polish").is_file():
        steps["polish"] = loop.restore(job.file("polish"), {"average": gpt})
    voice = job.work / "voice"
    pack.write(voice, gpt, network, known, found, sharpness=SHARPNESS, steps=steps)
    _archive(job, voice)


def pack_gpt(job: Job) -> None:
    """The voice that was shipped with another GPT, and the archive."""
    from gsvexport.demo import small
    from gsvexport.files import atomic_directory
    from gsvexport.train import data, loop, pack, shape, t2s

    network = t2s.untrained(shape.GPT)
    steps = loop.restore(job.file("again"), {"average": network})
    known = data.load_vocabulary(job.file("vocabulary"))
    voice, shipped = job.work / "voice", small.folder()
    with atomic_directory(voice, force=True) as work:
        for name in pack.FILES:
            (work / name).write_bytes((shipped / name).read_bytes())
        pack.write_gpt(work / "gpt.ckpt", network, known, SHARPNESS, f"again {steps}")
    _archive(job, voice)


def _archive(job: Job, voice: Path) -> None:
    from gsvexport.train import pack

    pack.archive(voice, job.out)
    job.say(f"{job.out}: {job.out.stat().st_size / 1e6:.2f} MB; the voice is in {voice}")
    sums = {name: sha256_file(voice / name) for name in pack.FILES}
    job.say(f"for gsvexport/demo/small.py: SHA256 = {sha256_file(job.out)!r}, FILES = {sums}")


# What is done, in order: its GPT once more, or all of the voice.
ON: dict[str, Part] = {
    "corpus": make_longer_corpus,
    "gpt": train_gpt_on,
    "pack": pack_gpt,
}
FROM_NOTHING: dict[str, Part] = {
    "corpus": make_corpus,
    "vocoder": train_vocoder,
    "encoder": train_encoder,
    "gpt": train_gpt,
    "polish": polish_gpt,
    "predicted": predict_latents,
    "adversarial": refine_vocoder,
    "pack": pack_voice,
}
