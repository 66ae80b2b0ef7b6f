"""On the device: another speaker from a recording, by the stages that an artifact holds for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gsvexport.errors import ArtifactError, InputError
from gsvexport.runtime.loaded import LoadedStages
from gsvexport.runtime.ports import Array, as_array, outside
from gsvexport.stages import POSITIONS, VERSIONS
from gsvexport.text.features import LANGUAGE, LARGEST_VOCABULARY, text_features, vocabulary
from gsvexport.text.phonemise import Sentence, read
from gsvexport.text.symbols import phone_ids
from gsvexport.untrusted import reading

_RATES = (8000, 384_000)  # Hz
_LONGEST_SECONDS = 60.0


def cloned(
    voice: LoadedStages, samples: Any, rate: int, text: str | None, phones: Any, language: str | None
) -> dict[str, Array]:
    """What takes the place of a baked reference; see `LoadedVoice.clone`."""
    from gsvexport.signal.cloning import odd_pace, take  # what speaks alone needs no filterbank and no resampler

    language, mel = language or voice.model.language, VERSIONS[voice.model.version].mel
    values = as_array(samples)
    problems = outside("rate", rate, *_RATES, integer=True)
    if values.ndim != 1 or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        problems.append(
            f"samples are {values.dtype} {list(values.shape)}; a recording is finite floats [N], one channel"
        )
    elif values.dtype.kind != "f":
        problems.append("samples are whole numbers; divide them by the largest one of their type")
    elif not problems and not 0 < len(values) <= _LONGEST_SECONDS * rate:
        problems.append(f"samples last {len(values) / rate:.2f} s; the limit is {_LONGEST_SECONDS:g} s")
    if text is not None and phones is not None:
        problems.append("a text comes alone; phones= was given with it")
    if mel is not None and text is None and phones is None:
        problems.append(f"a {voice.model.version} voice continues a prompt: give the text of the recording")
    if problems:
        raise InputError("this cannot be cloned", problems=problems)
    prompted = text is not None or phones is not None
    sizes = voice.model.spectrogram
    if prompted and "ssl" not in voice.stages and (odd := odd_pace(sizes.rate, sizes.hop)):
        fix = "leave out its text: the recording gives the speaker then, and no prompt"
        raise InputError(f"no prompt can be made of the recording: {odd}", fix=fix)
    for name in ("reference", *(("ssl", "prompt") if prompted else ())):
        voice.stage(name)
    said = read(text, language, voice.model.symbols, limit=POSITIONS, prompt=True) if text is not None else []
    ids = [phone for one in said for phone in phone_ids(one.phones, voice.model.symbols)]
    if phones is not None:
        ids = as_array(phones).reshape(-1).tolist()
    arrays = take(voice.run, voice.model, [(values, rate)], ids if prompted else None)
    if said and language == LANGUAGE and "bert" in voice.stages:
        features = features_of(voice)
        arrays["prompt_bert"] = np.concatenate([features(one) for one in said], axis=2)
    return arrays


def features_of(voice: LoadedStages) -> Callable[[Sentence], Array]:
    """Text features [1, 1024, X] of a sentence by the voice's stage `bert`.

    Raises:
        ArtifactError: the tokens of that stage are not there.
    """
    if voice.model.vocabulary is None:
        raise ArtifactError(f"{voice.path} holds stage bert without its vocabulary", fix="build it again")
    try:
        path = reading.inside(voice.path, voice.model.vocabulary)
    except reading.Refused as error:
        raise ArtifactError(f"{voice.path}/model.json {error}", fix="get it again") from error
    known = _vocabulary(path)
    return lambda sentence: text_features(sentence, known, voice.run)


@cache
def _vocabulary(path: Path) -> dict[str, int]:
    try:
        return vocabulary(reading.read_bytes(path, LARGEST_VOCABULARY))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} {reading.why(error)}", fix="build it again") from error
