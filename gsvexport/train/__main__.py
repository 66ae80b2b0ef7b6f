"""Train the demo voice: `python -m gsvexport.train --work FOLDER`. Every part continues where it was stopped.

The parts that need each other's results come in this order; `--only` runs one of them, so that "vocoder", "encoder" and
"gpt" can be trained at the same time, each on a processor core of its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from gsvexport.errors import EnvironmentProblem, GsvError
from gsvexport.files import sha256_file

TEXTS, ACOUSTIC = 12000, 1500
REFINED = 600  # recordings of the adversarial stage, which sees but few
SHARPNESS = 2.0  # chosen on the validation sentences

Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """Where the work is, on what device it is done, and what part of the full schedules."""

    work: Path
    device: str
    scale: float
    texts: int
    acoustic: int
    workers: int
    out: Path
    say: Say

    @property
    def corpus(self) -> Path:
        """The folder of the corpus."""
        return self.work / "corpus"

    def file(self, name: str) -> Path:
        """A checkpoint, or what else the parts hand to each other."""
        return self.work / f"{name}.pt"


def make_corpus(job: Job) -> None:
    """Texts, speech, grid, latents; then the vocabulary and the latent's statistics."""
    from gsvexport.train import corpus, data, texts

    wanted = [*texts.held_out(), *texts.corpus(job.texts)]
    corpus.make(wanted, job.acoustic, job.corpus, workers=job.workers, say=job.say)
    data.learn_vocabulary(job.corpus, job.file("vocabulary"))
    data.prepare(job.corpus, job.file("prepared"), job.say)


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
    from gsvexport.train import data, t2s

    lines = t2s.read(job.corpus, data.load_vocabulary(job.file("vocabulary")))
    hours = sum(len(line.codes) for line in lines.train) * 0.04 / 3600
    job.say(f"gpt: {len(lines.train)} texts, {hours:.1f} h")
    t2s.learn(t2s.untrained(), lines, job.file("gpt"), t2s.SCHEDULE.scaled(job.scale), job.device, job.say)


def polish_gpt(job: Job) -> None:
    """The GPT once more, on texts after the bundled reference."""
    from gsvexport.train import data, loop, t2s

    lines = t2s.read(job.corpus, data.load_vocabulary(job.file("vocabulary")))
    network = t2s.untrained()
    loop.restore(job.file("gpt"), {"average": network})
    t2s.polish(network, lines, job.file("polish"), t2s.POLISH.scaled(job.scale), job.device, job.say)


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
    network, gpt = shape.untrained(), t2s.untrained()
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
    pack.archive(voice, job.out)
    job.say(f"{job.out}: {job.out.stat().st_size / 1e6:.2f} MB; the voice is in {voice}")
    sizes = {name: (voice / name).stat().st_size for name in pack.FILES}
    job.say(f"for gsvexport/demo/__init__.py: SHA256 = {sha256_file(job.out)!r}, SIZES = {sizes}")


PARTS: dict[str, Callable[[Job], None]] = {
    "corpus": make_corpus,
    "vocoder": train_vocoder,
    "encoder": train_encoder,
    "gpt": train_gpt,
    "polish": polish_gpt,
    "predicted": predict_latents,
    "adversarial": refine_vocoder,
    "pack": pack_voice,
}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m gsvexport.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for corpus, checkpoints and voice")
    parser.add_argument("--only", choices=PARTS, help="run one part; all those before it have to be done")
    parser.add_argument("--device", default="cpu", help="torch device, such as cpu or cuda")
    parser.add_argument("--steps-scale", type=float, default=1.0, help="share of the full number of steps")
    parser.add_argument("--texts", type=int, default=TEXTS, help=f"texts to train on ({TEXTS})")
    parser.add_argument("--acoustic", type=int, default=ACOUSTIC, help=f"those of them with audio ({ACOUSTIC})")
    parser.add_argument("--quick", action="store_true", help="a smoke run: 250 texts, a thousandth of the steps")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that make the corpus")
    parser.add_argument("--out", type=Path, help="the archive (default: demo-voice.tar.xz in the work folder)")
    given = parser.parse_args()
    texts, scale = (250, 0.001) if given.quick else (given.texts, given.steps_scale)
    out = given.out or given.work / "demo-voice.tar.xz"
    job = Job(given.work, given.device, scale, texts, given.acoustic, given.workers, out, _say)
    try:
        _require_packages()
        for part in [given.only] if given.only else PARTS:
            PARTS[part](job)
    except GsvError as error:
        print(f"gsvexport.train: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def _say(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, flush=True)  # noqa: T201


def _require_packages() -> None:
    needed = ("torch", "pyworld", "pocketsphinx", "soundfile", "scipy")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise EnvironmentProblem(
            f"training needs {', '.join(missing)}", found="not installed", fix="pip install 'gsvexport[train]'"
        )


if __name__ == "__main__":
    sys.exit(main())
