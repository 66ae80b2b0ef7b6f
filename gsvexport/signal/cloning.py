"""What a voice takes from a recording: the prompt, and the conditioning of its speaker.

`run(stage, feeds)` runs a stage wherever it is: in a source that is being written, or in an artifact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gsvexport.errors import InputError
from gsvexport.model import Model
from gsvexport.signal.audio import mel_spectrogram, resample, spectrogram
from gsvexport.signal.fbank import RATE, fbank
from gsvexport.stages import FRAMES_PER_CODE, SSL_RATE, VERSIONS, mel_mask, normalised

Array = npt.NDArray[Any]
Run = Callable[[str, Mapping[str, Any]], Mapping[str, Array]]
Samples = npt.NDArray[np.floating]

SECONDS = (3.0, 10.0)  # what upstream makes codes of
SILENCE = 9600  # samples at 16 kHz after the recording: 0.6 s (upstream counts 0.3 s of 32 kHz)
_SPECTROGRAM_RATE = 32000  # at which upstream has the recording before the speaker network


def keeps_pace(features: float, rate: int, hop: int) -> bool:
    """Whether a HuBERT that makes `features` a second can make codes for a voice that has a frame each `hop` samples.

    Both are two a code. At 1 % a prompt of 10 s ends 0.1 s off; codes of another pace say other sounds.
    """
    return abs(features * hop / rate - 1) <= 0.01


def odd_pace(rate: int, hop: int) -> str | None:
    """Why upstream's HuBERT makes no prompt codes for a voice of such frames, or None where it does."""
    if keeps_pace(SSL_RATE, rate, hop):
        return None
    return (
        f"a code of this voice lasts {1000 * FRAMES_PER_CODE * hop / rate:.1f} ms, and HuBERT, which makes them of "
        f"recordings, gives one each {1000 * FRAMES_PER_CODE / SSL_RATE:.0f} ms"
    )


def take(
    run: Run,
    model: Model,
    recordings: Sequence[tuple[Samples, int]],
    phones: Sequence[int] | None = None,
    codes: Array | None = None,
    speakers: Sequence[Array] = (),
) -> dict[str, Array]:
    """Constants by name, as `graphs.bake` describes them, of recordings: mono samples [N] in ±1 and their rates.

    `phones` are those of the first one, for a prompt; `codes` [Y] and `speakers` [20480] are made where they are not
    given. The conditioning of several recordings is averaged.

    Raises:
        InputError: a first recording that no prompt codes can be made of, or one that gives no spectrogram.
    """
    arrays: dict[str, Array] = {}
    if phones is not None or codes is not None:
        codes = prompt_codes(run, *recordings[0]) if codes is None else codes
        arrays["prompt"] = np.asarray(codes, np.int64).reshape(1, -1)
        arrays["prompt_phones"] = np.asarray(phones or (), np.int64).reshape(1, -1)
    found = []
    for index, (samples, rate) in enumerate(recordings):
        values = resample(samples, rate, model.spectrogram.rate).astype(np.float32)
        feeds = {"spectrogram": spectrogram(values, model.spectrogram)}
        if VERSIONS[model.version].speaker:
            given = speakers[index].reshape(1, -1) if speakers else speaker_embedding(run, samples, rate)
            feeds["speaker"] = given
        found.append(run("reference", feeds))
    for name in found[0]:
        mean = np.mean([one[name] for one in found], axis=0, dtype=np.float64)
        arrays[name] = np.asarray(mean, np.float32)
    mel = VERSIONS[model.version].mel
    if mel is not None and "prompt" in arrays:
        samples, rate = recordings[0]
        known = normalised(mel_spectrogram(resample(samples, rate, mel.rate).astype(np.float32), mel))
        # Not more than the prompt's codes last; of these the runtime takes the end.
        count, _ = mel_mask(arrays["prompt"].shape[1], 1.0, mel)
        arrays["prompt_mel"] = known[..., :count].astype(np.float32)
    return arrays


def prompt_codes(run: Run, samples: Samples, rate: int) -> npt.NDArray[np.int64]:
    """[1, Y], 25 a second, of mono samples [N] in ±1 at `rate` Hz, which are taken as loud as they are.

    Raises:
        InputError: shorter than 3 s or longer than 10 s.
    """
    low, high = SECONDS
    if not low * rate <= len(samples) <= high * rate:
        raise InputError(
            "no prompt codes can be made of the recording",
            found=f"{len(samples) / rate:.2f} s",
            limit=f"{low:g} to {high:g} s",
            fix="cut it, and its text, or leave out the text to use it without a prompt",
        )
    return codes_of(run, samples, rate)


def codes_of(run: Run, samples: Samples, rate: int) -> npt.NDArray[np.int64]:
    """As `prompt_codes`, of any length."""
    content = run("ssl", {"audio_16k": audio_16k(samples, rate)})["ssl_content"]
    return np.asarray(run("prompt", {"ssl_content": content})["codes"], np.int64)


def speaker_embedding(run: Run, samples: Samples, rate: int) -> npt.NDArray[np.float32]:
    """[1, 20480] of mono samples [N] at `rate` Hz."""
    return np.asarray(run("speaker", {"fbank": speaker_fbank(samples, rate)})["speaker"], np.float32)


def audio_16k(samples: Samples, rate: int) -> npt.NDArray[np.float32]:
    """What HuBERT is fed, float32 [1, N]: the recording at 16 kHz, and silence."""
    silence = np.zeros(SILENCE)
    return np.concatenate([resample(samples, rate, RATE, sharp=True), silence]).astype(np.float32)[None]


def speaker_fbank(samples: Samples, rate: int) -> npt.NDArray[np.float32]:
    """What the speaker network is fed, float32 [1, frames, 80]: made quieter as the spectrogram is, then at 16 kHz."""
    values = resample(samples, rate, _SPECTROGRAM_RATE)
    if (peak := np.abs(values).max(initial=0.0)) > 1:
        values = values / min(2.0, peak)
    return fbank(resample(values, _SPECTROGRAM_RATE, RATE))
