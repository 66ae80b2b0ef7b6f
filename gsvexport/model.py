"""What a runtime must know about an exported voice: the `model.json` shared by a source and an artifact.

Reading it needs nothing but the standard library, so a device can.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gsvexport.errors import ArtifactError
from gsvexport.stages import FRAMES_PER_CODE, SYMBOL_COUNTS, VERSIONS, Port, Stage, stages
from gsvexport.untrusted import reading, schema

SCHEMA = 1
LARGEST = 1 << 20  # bytes of a `model.json`; real ones have 2000
_SIZE = schema.whole(1, 1 << 20)
_NAME = schema.text(200, re.compile(r"[^\x00-\x1f\x7f]+"))
_DIMS = dict.fromkeys(("D", "V", "I", "G", "phones", "text_phones", "codes", "positions"), _SIZE)
_SHAPE = schema.record(
    {
        "schema": schema.one_of(SCHEMA),
        "name": _NAME,
        "language": schema.text(16, re.compile("[a-z]+")),
        "version": schema.one_of(*VERSIONS),
        "symbols": schema.one_of(*SYMBOL_COUNTS),
        "rate": schema.whole(1000, 768_000),
        "hop": _SIZE,
        "eos": schema.whole(0, 1 << 20),
        "dims": schema.record(
            {**_DIMS, "L": schema.whole(1, 256), "H": schema.whole(1, 1024)}, {"tokens": schema.whole(0, 1 << 24)}
        ),
        "spectrogram": schema.record(
            {
                "rate": schema.whole(1000, 768_000),
                "n_fft": schema.whole(2, 1 << 16),
                "hop": schema.whole(1, 1 << 16),
                "window": schema.whole(1, 1 << 16),
            }
        ),
        "sampling": schema.record(
            {
                "top_k": schema.whole(1, 1 << 31),
                "top_p": schema.number(0, 1),
                "temperature": schema.number(0, 100),
                "repetition_penalty": schema.number(0.01, 100),
            }
        ),
        "files": schema.table(schema.text(200), 32),
    },
    {
        "baked": schema.table(schema.text(200), 32),
        "baked_key": schema.optional(schema.text(64)),
        "vocoder_context": schema.optional(schema.rows(schema.whole(0, 1 << 20), 2, least=2)),
        "vocabulary": schema.optional(schema.text(200)),
    },
)


@dataclass(frozen=True)
class SamplingDefaults:
    """Upstream's API defaults, or what the checkpoint's own config says."""

    top_k: int = 15
    top_p: float = 1.0
    temperature: float = 1.0
    repetition_penalty: float = 1.35


@dataclass(frozen=True)
class Spectrogram:
    """Parameters of the reference spectrogram: `rate` in Hz, the others in samples."""

    rate: int = 32000
    n_fft: int = 2048
    hop: int = 640
    window: int = 2048


@dataclass(frozen=True)
class Dims:
    """Sizes of one voice, in the axis letters of `stages.py`.

    `I` are the channels of noise and of what the vocoder is given: in v3 and v4 the bands of a mel. `phones` counts
    embedding rows, `codes` codebook rows, `positions` rows of the position table, `tokens` those of BERT's table (0
    without BERT).
    """

    L: int
    D: int
    H: int
    V: int
    I: int  # noqa: E741 - the axis letter of the stage table
    G: int
    phones: int
    text_phones: int
    codes: int
    positions: int
    tokens: int = 0


@dataclass(frozen=True)
class Model:
    """One voice as the runtime sees it.

    `rate` is the output sample rate in Hz, `hop` the samples for each latent (or mel) frame, `baked` maps the name of a
    stored constant to its file (`.npy`, relative to the folder of `model.json`), `files` the file of each stage.
    `baked_key` is SHA-256 over the SoVITS weights and the reference: it changes when either does. `vocoder_context` is
    how many latent frames before and after a frame its sound depends on. `vocabulary` is the file with stage `bert`'s
    tokens.
    """

    name: str
    language: str
    version: str
    symbols: str
    rate: int
    hop: int
    eos: int
    dims: Dims
    spectrogram: Spectrogram
    sampling: SamplingDefaults
    files: dict[str, str]
    baked: dict[str, str] = field(default_factory=dict)
    baked_key: str | None = None
    vocoder_context: tuple[int, int] | None = None
    vocabulary: str | None = None

    @property
    def stages(self) -> dict[str, Stage]:
        """The stages that this folder holds, with the voice's own sizes in place of L, D, V, I and G."""
        sizes = asdict(self.dims)
        table = stages(self.version)
        return {name: _resolve(table[name], sizes) for name in table if name in self.files}

    @property
    def code_rate(self) -> float:
        """Semantic codes a second: 25 in upstream's voices.

        A code is two latent frames; v3 and v4 stretch those to frames of a mel before they sound.
        """
        mel = VERSIONS[self.version].mel
        frames, latents = (1, 1) if mel is None else mel.stretch
        return self.rate / self.hop / FRAMES_PER_CODE * latents / frames

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `canonical_json`."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, value: Any, where: str) -> Model:
        """Rebuild from `to_json`'s value; `where` names the file in errors.

        Raises:
            ArtifactError: unknown schema or version, or everything that no description has.
        """
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            found = value.get("schema") if isinstance(value, dict) else type(value).__name__
            raise ArtifactError(
                f"{where} is not a model description that this release reads",
                found=f"schema {found}",
                limit=f"schema {SCHEMA}",
                fix="build it again, or install the gsvexport that wrote it",
            )
        fields = {key: item for key, item in value.items() if key != "schema"}
        if problems := schema.findings(value, _SHAPE):
            raise ArtifactError(f"{where} does not hold a model description", problems=problems)
        model = cls(
            **{
                **fields,
                "dims": Dims(**fields["dims"]),
                "spectrogram": Spectrogram(**fields["spectrogram"]),
                "sampling": SamplingDefaults(**fields["sampling"]),
                "vocoder_context": tuple(fields["vocoder_context"]) if fields.get("vocoder_context") else None,
            }
        )
        if problems := model._problems():
            raise ArtifactError(f"{where} does not hold a model description", problems=problems)
        return model

    def _problems(self) -> list[str]:
        """What is wrong beyond types and ranges."""
        names = (*self.files.values(), *self.baked.values(), *([self.vocabulary] if self.vocabulary else ()))
        problems = [f"a file name leads out of the folder: {name!a}" for name in names if not reading.safe_name(name)]
        known = stages(self.version)
        problems += [f"{self.version} has no stage {name!a}" for name in self.files if name not in known]
        if self.dims.D % self.dims.H:
            problems.append(f"a width of {self.dims.D} is no multiple of {self.dims.H} heads")
        if self.eos >= self.dims.V:
            problems.append(f"end of speech is code {self.eos} of {self.dims.V}")
        if self.spectrogram.window > self.spectrogram.n_fft or self.spectrogram.hop > self.spectrogram.n_fft:
            problems.append("the spectrogram's window or hop is longer than its transform")
        return problems


def read_model(folder: Path) -> Model:
    """Read `model.json` of a source or an unpacked artifact.

    Raises:
        ArtifactError: absent, not JSON, or not a description of this schema.
    """
    path = folder / "model.json"
    try:
        value = reading.read_json(reading.inside(folder, path.name), limit=LARGEST)
    except FileNotFoundError:
        raise ArtifactError(f"{folder} holds no model.json", fix="pass a .gsv artifact or a source directory") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} {reading.why(error)}", fix="get it again, or build it again") from error
    return Model.from_json(value, str(path))


def _resolve(stage: Stage, sizes: dict[str, int]) -> Stage:
    def port(item: Port) -> Port:
        shape = tuple(sizes.get(axis, axis) if isinstance(axis, str) else axis for axis in item.shape)
        return Port(item.name, item.dtype, shape, item.meaning)

    return Stage(stage.name, stage.role, stage.when, tuple(map(port, stage.inputs)), tuple(map(port, stage.outputs)))
