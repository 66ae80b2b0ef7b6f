"""The topology: which versions exist, which stages each has, and what flows between them.

This is the only file that knows which graph feeds which. Axis letters in shapes:
T semantic codes (25 Hz), F latent frames (50 Hz), M mel frames, X phones, Y prompt codes, R spectrogram frames, S cache
rows or HuBERT frames, L/D GPT layers/width, V GPT vocabulary, I inter channels, G gin channels, N samples. Batch is 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CODES_PER_SECOND = 25
FRAMES_PER_CODE = 2  # latent frames for each semantic code at speed 1, and HuBERT features
MAX_TOKENS = 1500  # upstream's limit on generated codes for one sentence: 60 s
EOS_SUPPRESSED_STEPS = 11  # upstream cuts the EOS column off in steps 0..10
POSITIONS = 4000  # rows of the sine position table, for text and audio alike
BERT_WIDTH = 1024
SSL_WIDTH = 768
SSL_RATE = 50  # features of upstream's HuBERT a second
TEXT_GE_WIDTH = 512  # the width in which the text encoder takes the speaker's conditioning
MEL_BANDS = 100  # of what v3 and v4 generate
FEATURE_WIDTH = 512  # of what their flow matching is conditioned on
MEL_POSITIONS = 1024  # mel frames, prompt included, that one flow-matching step takes; upstream's chunks stay below


@dataclass(frozen=True)
class Port:
    """One named array that enters or leaves a stage.

    `shape` holds fixed sizes as int and free ones as the axis letters above; a letter may be an expression ("X+Y").
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    meaning: str


@dataclass(frozen=True)
class Stage:
    """One graph of the pipeline. `role` groups stages for precision policies; `when` says how often it runs."""

    name: str
    role: str  # ar | conditioning | acoustic | vocoder
    when: str  # cloning | sentence | token | step (of flow matching)
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


@dataclass(frozen=True)
class Mel:
    """How a version that generates a mel spectrogram does it: `rate` in Hz, `window` (its FFT as well) and `hop` in
    samples; `stretch` mel frames for each latent frame, as a fraction, and `per_code` what upstream's mask counts for a
    code; the frames of a chunk, prompt included, and of the prompt at most; upstream's number of flow-matching steps.
    """

    rate: int
    window: int
    hop: int
    stretch: tuple[int, int]
    per_code: float
    chunk: int
    prompt: int
    steps: int


@dataclass(frozen=True)
class Version:
    """What distinguishes one product version from another, as data."""

    name: str
    symbols: str  # "v1" (322 phones) or "v2" (732)
    reference_bins: int  # how many of the 1025 spectrogram bins the reference encoder reads
    speaker: bool  # takes an ERes2NetV2 speaker embedding
    mel: Mel | None = None  # generates a mel by flow matching, with a vocoder of its own


VERSIONS = {
    "v1": Version("v1", "v1", 1025, speaker=False),
    "v2": Version("v2", "v2", 704, speaker=False),
    "v2Pro": Version("v2Pro", "v2", 704, speaker=True),
    "v2ProPlus": Version("v2ProPlus", "v2", 704, speaker=True),
    "v3": Version("v3", "v2", 704, speaker=False, mel=Mel(24000, 1024, 256, (15, 8), 3.875, 934, 468, 32)),
    "v4": Version("v4", "v2", 704, speaker=False, mel=Mel(32000, 1280, 320, (2, 1), 4.0, 1000, 500, 8)),
}
SPEAKER_WIDTH = 20480
SPEAKER_BANDS = 80  # of the filterbank that the speaker network is fed
SPECTROGRAM_BINS = 1025
MARKED_V1 = "v1-2024-08"  # table v1 as upstream writes Japanese in it since then: with UNK for marks of pitch
SYMBOL_COUNTS = {"v1": 322, MARKED_V1: 322, "v2": 732}

CLONING_STAGES = ("ssl", "prompt", "speaker", "reference")  # a baked voice stores their results instead
PRETRAINED_STAGES = ("ssl", "speaker", "bert")  # upstream's pretrained networks: only where a voice is given them

_PHONES = Port("phones", "int64", (1, "X"), "phone ids")
_CODES = Port("codes", "int64", (1, "T"), "semantic codes")
_GE = Port("ge", "float32", (1, "G", 1), "the speaker's global conditioning")
_GE_TEXT = Port("ge_text", "float32", (1, TEXT_GE_WIDTH, 1), "ge as the text encoder takes it")
_SPEAKER = Port("speaker", "float32", (1, SPEAKER_WIDTH), "ERes2NetV2 embedding of the reference")
_LOGITS = Port("logits", "float32", (1, "V"), "scores of the next code, EOS included, before any penalty")
_LATENT = Port("latent", "float32", (1, "I", "F"), "what the vocoder speaks")
_FEA = Port("fea", "float32", (1, FEATURE_WIDTH, "M"), "what the mel is generated from")
_AUDIO = Port(
    "audio",
    "float32",
    (1, "N"),
    "samples in [-1, 1], N = frames·hop (a few more where an upsampling's kernel - rate is odd)",
)


def _cache(name: str, rows: int | str) -> Port:
    return Port(name, "float32", ("L", 1, rows, "D"), f"attention {name}, heads packed, oldest row first")


_SSL = Stage(
    "ssl",
    "conditioning",
    "cloning",
    (Port("audio_16k", "float32", (1, "N"), "samples in [-1, 1] at 16 kHz, with 0.6 s of silence at the end"),),
    (Port("ssl_content", "float32", (1, SSL_WIDTH, "S"), "HuBERT features at 50 Hz"),),
)
_SPEAKER_NETWORK = Stage(
    "speaker",
    "conditioning",
    "cloning",
    (Port("fbank", "float32", (1, "frames", SPEAKER_BANDS), "Kaldi's log mel filterbank, 100 frames a second"),),
    (_SPEAKER,),
)
_BERT = Stage(
    "bert",
    "conditioning",
    "sentence",
    (Port("input_ids", "int64", (1, "C+2"), "a token for each character, [CLS] before and [SEP] after"),),
    (Port("features", "float32", (1, BERT_WIDTH, "C"), "a column for each character"),),
)


def _latent_stages(speaker: bool) -> tuple[Stage, ...]:
    """From codes to sound in v1 to v2ProPlus."""
    noise = (
        Port("noise", "float32", (1, "I", "F"), "standard normal; its length sets the speed"),
        Port("noise_scale", "float32", (), "0 speaks the mean"),
    )
    given = (_CODES, _PHONES, _GE, *((_GE_TEXT,) if speaker else ()), *noise)
    return (
        Stage("acoustic", "acoustic", "sentence", given, (_LATENT,)),
        Stage("vocoder", "vocoder", "sentence", (_LATENT, _GE), (_AUDIO,)),
    )


# From codes to sound in v3 and v4.
_MEL_STAGES = (
    Stage(
        "features",
        "acoustic",
        "sentence",
        (_CODES, _PHONES, _GE, Port("mask", "float32", (1, 1, "M"), "see `mel_mask`; its length sets the speed")),
        (_FEA,),
    ),
    Stage(
        "cfm",
        "acoustic",
        "step",
        (
            Port("state", "float32", (1, MEL_BANDS, "M"), "the mel so far, normalised; first noise; 0 in the prompt"),
            Port("prompt_mel", "float32", (1, MEL_BANDS, "M"), "the prompt's normalised mel, then 0"),
            _FEA,
            Port("time", "float32", (1,), "where the step begins, 0 to 1"),
            Port("span", "float32", (1,), "how long the step is"),
        ),
        (Port("velocity", "float32", (1, MEL_BANDS, "M"), "the state moves by span·velocity"),),
    ),
    Stage(
        "vocoder",
        "vocoder",
        "sentence",
        (Port("mel", "float32", (1, MEL_BANDS, "M"), "natural logarithms of magnitudes"),),
        (_AUDIO,),
    ),
)


def stages(version: str) -> dict[str, Stage]:
    """The stages of one product version, by name, in the order in which a sentence meets them.

    Raises:
        KeyError: the version is not in `VERSIONS`.
    """
    speaker = VERSIONS[version].speaker
    reference_in = (Port("spectrogram", "float32", (1, SPECTROGRAM_BINS, "R"), "linear magnitude spectrogram"),)
    table = (
        _SSL,
        Stage(
            "prompt",
            "conditioning",
            "cloning",
            (Port("ssl_content", "float32", (1, SSL_WIDTH, "S"), "HuBERT features at 50 Hz"),),
            (Port("codes", "int64", (1, "S//2"), "prompt codes"),),
        ),
        *((_SPEAKER_NETWORK,) if speaker else ()),
        Stage(
            "reference",
            "conditioning",
            "cloning",
            reference_in + ((_SPEAKER,) if speaker else ()),
            (_GE, _GE_TEXT) if speaker else (_GE,),
        ),
        _BERT,
        Stage(
            "prefill",
            "ar",
            "sentence",
            (
                _PHONES,
                Port("bert", "float32", (1, BERT_WIDTH, "X"), "text features, zero where a language has none"),
                Port("prompt", "int64", (1, "Y"), "prompt codes; Y may be 0"),
            ),
            (_LOGITS, _cache("keys", "X+Y"), _cache("values", "X+Y")),
        ),
        Stage(
            "step",
            "ar",
            "token",
            (
                Port("token", "int64", (1, 1), "the code that was chosen last"),
                Port("position", "int64", (1,), "its 0-based place in the audio stream, prompt included"),
                _cache("keys", "S"),
                _cache("values", "S"),
            ),
            (_LOGITS, _cache("new_keys", 1), _cache("new_values", 1)),
        ),
        *(_latent_stages(speaker) if VERSIONS[version].mel is None else _MEL_STAGES),
    )
    return {stage.name: stage for stage in table}


def speaking(version: str) -> tuple[str, ...]:
    """The stages that a sentence goes through, in order."""
    return tuple(name for name in stages(version) if name not in (*CLONING_STAGES, *PRETRAINED_STAGES))


def sounding(version: str) -> str:
    """The first stage on the way from codes to sound."""
    return "acoustic" if VERSIONS[version].mel is None else "features"


def frames(codes: int, speed: float) -> int:
    """Latent frames F for `codes` semantic codes.

    2T at speed 1; int(2T / speed) + 1 at every other speed (upstream's own rounding).
    """
    full = FRAMES_PER_CODE * codes
    return full if speed == 1 else int(full / speed) + 1


def mel_mask(codes: int, speed: float, mel: Mel) -> tuple[int, int]:
    """(M, ones): how many mel frames `codes` semantic codes give, and how many of them upstream's mask lets through.

    M = floor(F·stretch). Upstream rounds the length of its mask by itself (int(per_code·T / speed) + 1, at speed 1
    without the + 1), so that at some speeds a last frame is lost.
    """
    up, down = mel.stretch
    count = frames(codes, speed) * up // down
    full = mel.per_code * codes
    return count, min(count, int(full) if speed == 1 else int(full / speed) + 1)


def normalised(mel: Any) -> Any:
    """A log-mel as flow matching takes it: -12 to 2 become -1 to 1."""
    return (mel + 12) / 14 * 2 - 1


def denormalised(mel: Any) -> Any:
    """What `normalised` was given."""
    return (mel + 1) / 2 * 14 - 12
