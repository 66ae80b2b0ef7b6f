"""The topology: which versions exist, which stages each has, and what flows between them.

This is the only file that knows which graph feeds which. Axis letters in shapes:
T semantic codes (25 Hz), F latent frames (50 Hz), X phones, Y prompt codes, R spectrogram frames, S cache rows or
HuBERT frames, L/D GPT layers/width, V GPT vocabulary, I inter channels, G gin channels, N samples. Batch is 1.
"""

from __future__ import annotations

from dataclasses import dataclass

CODES_PER_SECOND = 25
FRAMES_PER_CODE = 2  # latent frames for each semantic code at speed 1
MAX_TOKENS = 1500  # upstream's limit on generated codes for one sentence: 60 s
EOS_SUPPRESSED_STEPS = 11  # upstream cuts the EOS column off in steps 0..10
POSITIONS = 4000  # rows of the sine position table, for text and audio alike
BERT_WIDTH = 1024
SSL_WIDTH = 768
TEXT_GE_WIDTH = 512  # the width in which the text encoder takes the speaker's conditioning


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
    when: str  # cloning | sentence | token
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


@dataclass(frozen=True)
class Version:
    """What distinguishes one product version from another, as data."""

    name: str
    symbols: str  # "v1" (322 phones) or "v2" (732)
    reference_bins: int  # how many of the 1025 spectrogram bins the reference encoder reads
    speaker: bool  # takes an ERes2NetV2 speaker embedding


VERSIONS = {
    "v1": Version("v1", "v1", 1025, speaker=False),
    "v2": Version("v2", "v2", 704, speaker=False),
    "v2Pro": Version("v2Pro", "v2", 704, speaker=True),
    "v2ProPlus": Version("v2ProPlus", "v2", 704, speaker=True),
}
UNSUPPORTED_VERSIONS = ("v3", "v4")  # named in errors until the product takes them
SPEAKER_WIDTH = 20480
SPECTROGRAM_BINS = 1025
SYMBOL_COUNTS = {"v1": 322, "v2": 732}

CLONING_STAGES = ("prompt", "reference")  # a baked voice stores their results instead

_PHONES = Port("phones", "int64", (1, "X"), "phone ids")
_CODES = Port("codes", "int64", (1, "T"), "semantic codes")
_GE = Port("ge", "float32", (1, "G", 1), "the speaker's global conditioning")
_GE_TEXT = Port("ge_text", "float32", (1, TEXT_GE_WIDTH, 1), "ge as the text encoder takes it")
_SPEAKER = Port("speaker", "float32", (1, SPEAKER_WIDTH), "ERes2NetV2 embedding of the reference")
_LOGITS = Port("logits", "float32", (1, "V"), "scores of the next code, EOS included, before any penalty")
_LATENT = Port("latent", "float32", (1, "I", "F"), "what the vocoder speaks")


def _cache(name: str, rows: int | str) -> Port:
    return Port(name, "float32", ("L", 1, rows, "D"), f"attention {name}, heads packed, oldest row first")


def stages(version: str) -> dict[str, Stage]:
    """The stages of one product version, by name, in the order in which a sentence meets them.

    Raises:
        KeyError: the version is not in `VERSIONS`.
    """
    speaker = VERSIONS[version].speaker
    reference_in = (Port("spectrogram", "float32", (1, SPECTROGRAM_BINS, "R"), "linear magnitude spectrogram"),)
    table = (
        Stage(
            "prompt",
            "conditioning",
            "cloning",
            (Port("ssl_content", "float32", (1, SSL_WIDTH, "S"), "HuBERT features at 50 Hz"),),
            (Port("codes", "int64", (1, "S//2"), "prompt codes"),),
        ),
        Stage(
            "reference",
            "conditioning",
            "cloning",
            reference_in + ((_SPEAKER,) if speaker else ()),
            (_GE, _GE_TEXT) if speaker else (_GE,),
        ),
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
        Stage(
            "acoustic",
            "acoustic",
            "sentence",
            (
                _CODES,
                _PHONES,
                _GE,
                *((_GE_TEXT,) if speaker else ()),
                Port("noise", "float32", (1, "I", "F"), "standard normal; its length sets the speed"),
                Port("noise_scale", "float32", (), "0 speaks the mean"),
            ),
            (_LATENT,),
        ),
        Stage(
            "vocoder",
            "vocoder",
            "sentence",
            (_LATENT, _GE),
            (
                Port(
                    "audio",
                    "float32",
                    (1, "N"),
                    "samples in [-1, 1], N = F·hop (a few more where an upsampling's kernel - rate is odd)",
                ),
            ),
        ),
    )
    return {stage.name: stage for stage in table}


def frames(codes: int, speed: float) -> int:
    """Latent frames F for `codes` semantic codes.

    2T at speed 1; int(2T / speed) + 1 at every other speed (upstream's own rounding).
    """
    full = FRAMES_PER_CODE * codes
    return full if speed == 1 else int(full / speed) + 1
