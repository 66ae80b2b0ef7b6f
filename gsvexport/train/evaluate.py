"""How good a voice is: words that a recogniser gets wrong, DNSMOS, and phones that the GPT gets wrong, stage by stage.

    python -m gsvexport.train.evaluate VOICE [--work FOLDER] [--set validation|test] [--seeds N]

VOICE is a folder with a voice.toml. With the folder of its training the stages before the GPT are measured, too: the
speech that it imitates, that speech on the grid, the vocoder on true latents, encoder and vocoder on true codes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gsvexport.errors import GsvError
from gsvexport.runtime.sampling import Sampling
from gsvexport.runtime.tokens import generate
from gsvexport.text.phonemise import phonemise
from gsvexport.text.symbols import phone_ids, symbols
from gsvexport.train import festival, speech
from gsvexport.train.data import Acoustic, Heard, acoustic, load_vocabulary
from gsvexport.train.grid import LABELS, label_of
from gsvexport.train.sentences import TEST, VALIDATION
from gsvexport.train.tokens import Vocabulary
from gsvexport.verify.recogniser import Recogniser
from gsvexport.verify.speech import Dnsmos, narrow
from gsvexport.verify.transcript import edits, words
from gsvexport.voice.networks import Text2Semantic, load_networks
from gsvexport.voice.voice import read_voice

Samples = NDArray[np.floating]

NOISE_SCALE = 0.5
_LONGEST = 500  # codes: 20 s
_PAUSE_LABEL = 0
_SYMBOLS = symbols("v2")
SETS = {"validation": VALIDATION, "test": TEST}
# name → (with the prompt, how codes are drawn)
WAYS = {
    "no prompt, top_k 15": (False, Sampling()),
    "greedy": (True, Sampling(greedy=True)),
    "top_k 5": (True, Sampling(top_k=5)),
    "top_k 15 (default)": (True, Sampling()),
}


@dataclass(frozen=True)
class Score:
    """Over `count` recordings: errors and words of the recogniser, mean DNSMOS, phone error rate of the codes."""

    name: str
    count: int
    errors: int
    words: int
    p808: float
    ovr: float
    phones_wrong: float | None = None

    def __str__(self) -> str:
        wrong = "" if self.phones_wrong is None else f"{self.phones_wrong:.3f}"
        wer = self.errors / max(1, self.words)
        return f"| {self.name} | {self.count} | {wer:.3f} | {self.p808:.2f} | {self.ovr:.2f} | {wrong} |"


HEADER = "| system | n | WER | P808 | OVR | phones wrong |\n|---|---|---|---|---|---|"


class Listener:
    """The recogniser and DNSMOS, loaded once."""

    def __init__(self) -> None:
        self._heard, self._mos = Recogniser(), Dnsmos()

    def score(self, name: str, texts: Sequence[str], audio: Sequence[Samples], rate: int = 32000) -> Score:
        """Compare recordings with what they should say."""
        errors = count = 0
        marks = []
        for text, samples in zip(texts, audio, strict=True):
            low = narrow(samples / max(1e-6, float(np.abs(samples).max())) * 0.6, rate)
            wanted = words(text)
            errors += edits(wanted, words(self._heard(np.pad(low, 3200))))
            count += len(wanted)
            marks.append(self._mos(low))
        p808, ovr = np.mean(marks, axis=0)
        return Score(name, len(texts), errors, count, float(p808), float(ovr))


class Speaker:
    """A voice in torch, speaking from text as `gsvexport say` does: same sampler, same front end, same loop."""

    def __init__(self, folder: Path) -> None:
        voice = read_voice(folder)
        if voice.reference is None or voice.reference.prompt_codes is None or voice.reference.phones is None:
            raise ValueError(f"{folder} has no reference with text and codes")
        self.t2s, self.synthesizer = load_networks(voice)
        self.prompt = voice.reference.prompt_codes
        self.prompt_phones = voice.reference.phones
        from gsvexport.model import Spectrogram
        from gsvexport.signal.audio import read_audio, spectrogram

        audio = read_audio(voice.reference.audio[0], voice.acoustics.rate)
        with torch.inference_mode():
            self.ge = self.synthesizer.reference(torch.from_numpy(spectrogram(audio, Spectrogram())))[0]

    def codes(self, phones: Sequence[int], sampling: Sampling, *, prompted: bool) -> NDArray[np.int64]:
        """Codes for phone ids."""
        before, prompt = (self.prompt_phones, self.prompt) if prompted else ((), np.empty(0, np.int64))
        row = np.array([[*before, *phones]], np.int64)
        made = generate(
            _TorchDecoder(self.t2s),
            row,
            np.zeros((1, 1024, row.shape[1]), np.float32),
            prompt[None],
            eos=self.t2s.ar_predict_layer.weight.shape[0] - 1,
            sampling=sampling,
            draws=sampling.draws(),
            max_tokens=_LONGEST,
        )
        return made.tokens

    @torch.inference_mode()
    def audio(self, codes: NDArray[np.int64], phones: Sequence[int], seed: int = 0) -> Samples:
        """Samples for codes and the sentence's own phones."""
        frames = 2 * len(codes)
        noise = torch.randn((1, self.synthesizer.dims.inter, frames), generator=torch.Generator().manual_seed(seed))
        latent = self.synthesizer.acoustic(
            torch.from_numpy(codes)[None], torch.tensor([list(phones)]), self.ge, None, noise, NOISE_SCALE
        )
        return self.synthesizer.vocoder(latent, self.ge)[0].numpy()


class _TorchDecoder:
    def __init__(self, network: Text2Semantic) -> None:
        self._network = network

    @torch.inference_mode()
    def prefill(
        self, phones: NDArray[np.int64], bert: NDArray[np.float32], prompt: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        logits, self._keys, self._values = self._network.prefill(*map(torch.from_numpy, (phones, bert, prompt)))
        return logits[0].numpy()

    @torch.inference_mode()
    def step(self, token: int, position: int) -> NDArray[np.float32]:
        logits, keys, values = self._network.step(
            torch.tensor([[token]]), torch.tensor([position]), self._keys, self._values
        )
        self._keys, self._values = torch.cat([self._keys, keys], 2), torch.cat([self._values, values], 2)
        return logits[0].numpy()


def whole(
    speaker: Speaker, listener: Listener, texts: Sequence[str], known: Vocabulary | None, seeds: int
) -> Iterator[Score]:
    """The voice as users hear it, in all `WAYS`; greedy ones need one seed only."""
    sentences = [phone_ids(phonemise(text, "en", "v2")[0], "v2") for text in texts]
    for name, (prompted, sampling) in WAYS.items():
        said, audio, wrong, asked = [], [], 0, 0
        for seed in range(1 if sampling.greedy else seeds):
            for number, phones in enumerate(sentences):
                codes = speaker.codes(phones, replace(sampling, seed=100 * seed + number), prompted=prompted)
                if known is not None:
                    errors, count = phone_errors(codes, phones, known)
                    wrong, asked = wrong + errors, asked + count
                said.append(texts[number])
                audio.append(speaker.audio(codes, phones, seed) if len(codes) else np.zeros(32000))
        score = listener.score(name, said, audio)
        yield replace(score, phones_wrong=wrong / asked if asked else None)


def phone_errors(codes: NDArray[np.int64], phones: Sequence[int], known: Vocabulary) -> tuple[int, int]:
    """Edits between the phones that codes stand for and those asked for, and how many those are, without pauses."""
    said, before = [], (-1, 0)
    for label, place in known.labels(codes).tolist():
        if label != before[0] or place < before[1]:
            said.append(label)
        before = (label, place)
    asked = [label_of(_SYMBOLS[number]) for number in phones]
    spoken = [[LABELS[label] if label >= 0 else "?" for label in row if label != _PAUSE_LABEL] for row in (asked, said)]
    return edits(spoken[0], spoken[1]), len(spoken[0])


def stages(
    speaker: Speaker, listener: Listener, found: list[Heard], data: Acoustic, known: Vocabulary
) -> Iterator[Score]:
    """The stages before the GPT."""
    texts = [one.text for one in found]
    try:
        festival.require_festival()
        with tempfile.TemporaryDirectory() as work:
            spoken = festival.speak(texts, Path(work))
            yield listener.score("festival", texts, [speech.load(one.audio) for one in spoken])
    except GsvError as error:
        print(f"festival: not measured: {error}")  # noqa: T201
    yield listener.score("on the grid", texts, [one.audio.numpy() / 32768 for one in found])
    with torch.inference_mode():
        made = [speaker.synthesizer.vocoder(one.latent.T[None], speaker.ge)[0].numpy() for one in found]
    yield listener.score("vocoder, true latent", texts, made)
    made = [speaker.audio(known.codes(one.keys), one.phones.tolist()) for one in found]
    yield listener.score("encoder and vocoder, true codes", texts, made)


def report(folder: Path, work: Path | None, chosen: str, seeds: int, say: Callable[[str], None]) -> None:
    """Print one table."""
    speaker, listener = Speaker(folder), Listener()
    known = None
    say(f"{chosen}, {len(SETS[chosen])} sentences, {seeds} seeds\n{HEADER}")
    if work is not None:
        known = load_vocabulary(work / "vocabulary.pt")
        data = acoustic(work / "corpus", work / "prepared.pt")
        for score in stages(speaker, listener, data.valid if chosen == "validation" else data.test, data, known):
            say(str(score))
    for score in whole(speaker, listener, SETS[chosen], known, seeds):
        say(str(score))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m gsvexport.train.evaluate", description=__doc__)
    parser.add_argument("voice", type=Path)
    parser.add_argument("--work", type=Path, help="the folder of its training")
    parser.add_argument("--set", choices=sorted(SETS), default="validation")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    report(options.voice, options.work, options.set, options.seeds, lambda line: print(line, flush=True))  # noqa: T201


if __name__ == "__main__":
    main()
