"""Every kind of damage in growing strength: what does each gate notice, and does one refuse what nobody hears?

PESQ is the witness. A damage that it hears clearly must be refused by a gate of the sound, one that it does not hear by
none. `gsvexport.verify.sensitivity` makes a table of it, `--self-test` fails where the table is wrong.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.backends import Opener
from gsvexport.verify import checks, damage
from gsvexport.verify.cases import Case, Runnable
from gsvexport.verify.gates import Gates
from gsvexport.verify.report import Check
from gsvexport.verify.sounding import chains, speak

if TYPE_CHECKING:
    from gsvexport.runtime.pipeline import LoadedVoice

Array = NDArray[Any]
Progress = Callable[[str], None]

FINE, BAD = 4.55, 3.6  # mean PESQ: above, nobody hears it; below, everybody does
WITNESS = ("pesq", "pesq_mean")


@dataclass(frozen=True)
class Kind:
    """One kind of damage: what becomes of a stage's output, or of the weights of stages, by its strength.

    `strengths` grow; `unit` says how one reads. PESQ is no `judged` witness of what it levels out or cannot hear (it
    compares 50 to 7000 Hz of signals that it has brought to one level).
    """

    name: str
    unit: str
    strengths: tuple[float, ...]
    change: Callable[[Array, float], Array]
    stage: str = "vocoder"
    weights: bool = False
    judged: bool = True


@dataclass(frozen=True)
class Trial:
    """What the gates said of one damage: `values` of all checks by metric, and the metrics that `fired`.

    `pairs` are the sounds, intact and damaged, [N] each.
    """

    kind: Kind
    strength: float
    values: dict[str, float]
    fired: tuple[str, ...]
    pairs: tuple[checks.Pair, ...] = field(default=(), repr=False, compare=False)

    @property
    def pesq(self) -> float | None:
        """Mean PESQ; None where it did not run."""
        return self.values.get("pesq_mean")

    @property
    def name(self) -> str:
        """For a table."""
        return f"{self.kind.name}, {self.strength:g} {self.kind.unit}".rstrip()

    @property
    def problem(self) -> str:
        """What is wrong with the gates, if anything."""
        others = [name for name in self.fired if name not in WITNESS]
        if self.pesq is None or not self.kind.judged:
            return ""
        if self.pesq >= FINE and others:
            return f"{', '.join(others)} refuses it, and PESQ is {self.pesq:.2f}"
        if self.pesq < BAD and not others:
            return f"only PESQ, {self.pesq:.2f}, notices it"
        return ""


def climb(
    source: Path, voice: LoadedVoice, cases: Sequence[Case], gates: Gates, say: Progress = lambda _: None
) -> Iterator[Trial]:
    """Every damage that the voice has the stages for, on the way from codes to sound of `cases`.

    Raises:
        EnvironmentProblem: the extra `compile` is not installed.
    """
    from gsvexport.runtime.pipeline import LoadedVoice, load

    for kind in KINDS:
        if kind.stage not in voice.stages:
            continue
        regions = damage.weights(source, {kind.stage: voice.model.files[kind.stage]}, ()) if kind.weights else []
        regions = [region for region in regions if len(region[3]) > 1]
        for strength in kind.strengths:
            say(f"{kind.name}, {strength:g} {kind.unit}".rstrip())
            change = partial(_changed, kind, strength)
            if kind.weights:
                with tempfile.TemporaryDirectory() as work:
                    folder = damage.patched(source, Path(work) / "source", dict.fromkeys(regions, change))
                    with load(folder) as bad:
                        pairs = heard(bad, cases)
            else:
                with LoadedVoice(source, opener=_opener(kind.stage, change)) as bad:
                    pairs = heard(bad, cases)
            yield _trial(kind, strength, checks.of_sound(gates, pairs, voice.rate), pairs)


def _changed(kind: Kind, strength: float, array: Array) -> Array:
    return kind.change(array, strength)


def heard(voice: Runnable, cases: Sequence[Case]) -> tuple[checks.Pair, ...]:
    """The sound of each case from its codes on, expected and found, [N] each."""
    return tuple(
        (chain["vocoder"].outputs["audio"].reshape(-1), speak(voice, chain)["audio"].reshape(-1))
        for chain in chains(cases)
    )


def _trial(kind: Kind, strength: float, found: Sequence[Check], pairs: tuple[checks.Pair, ...]) -> Trial:
    values = {check.metric: check.value for check in found if check.value is not None}
    return Trial(kind, strength, values, tuple(check.metric for check in found if check.status == "fail"), pairs)


def _opener(stage: str, change: Callable[[Array], Array]) -> Opener:
    """Graphs of which one stage's only output is changed, without its batch axis."""

    def changed(outputs: Any) -> dict[str, Array]:
        return {name: change(array[0])[None] for name, array in outputs.items()}

    return damage.opener({stage: changed})


def _rounded(weights: Array, bits: float) -> Array:
    """Symmetric integers of so many bits, one scale for the tensor."""
    scale = float(np.abs(weights).max()) / (2 ** (bits - 1) - 1) or 1.0
    return np.asarray(np.round(weights / scale) * scale, np.float32)


def _perturbed(weights: Array, share: float) -> Array:
    """Normal noise of a share of the tensor's own deviation."""
    random = np.random.Generator(np.random.PCG64(weights.size))
    return np.asarray(weights + share * weights.std() * random.standard_normal(weights.shape), np.float32)


def _shaped(samples: Array, db: float) -> Array:
    """Noise with the spectrum of the speech."""
    random = np.random.Generator(np.random.PCG64(1))
    spectrum = np.convolve(np.abs(np.fft.rfft(samples)), np.ones(401) / 401, "same")
    noise = np.fft.irfft(np.fft.rfft(random.standard_normal(samples.size)) * spectrum, samples.size)
    return _mixed(samples, noise, db)


def _followed(samples: Array, db: float) -> Array:
    """White noise that is as loud as the speech at each moment: what coarse numbers do to a signal."""
    random = np.random.Generator(np.random.PCG64(2))
    envelope = np.sqrt(np.convolve(np.square(samples, dtype=np.float64), np.ones(401) / 401, "same"))
    return _mixed(samples, random.standard_normal(samples.size) * envelope, db)


def _hum(samples: Array, db: float) -> Array:
    """A tone of 256 samples, as a vocoder gives that starts anew with each frame."""
    return _mixed(samples, np.sin(2 * np.pi * np.arange(samples.size) / 256), db)


def _mixed(samples: Array, noise: Array, db: float) -> Array:
    level = np.sqrt(np.mean(np.square(samples, dtype=np.float64)) / max(float(np.mean(noise**2)), 1e-20))
    return np.asarray(samples + noise * level * 10 ** (-db / 20), np.float32)


def _low_passed(samples: Array, share: float) -> Array:
    """Without what lies above 1 - `share` of the band."""
    spectrum = np.fft.rfft(samples)
    spectrum[int(spectrum.size * (1 - share)) :] = 0
    return np.asarray(np.fft.irfft(spectrum, samples.size), np.float32)


def _coarse(samples: Array, bits: float) -> Array:
    """Integers of so many bits for the whole range of ±1, as an integer output layer gives."""
    return np.asarray(np.round(samples * 2 ** (bits - 1)) / 2 ** (bits - 1), np.float32)


def _noisy(latent: Array, db: float) -> Array:
    return damage.noise(latent, db)


_WEIGHTS = (0.005, 0.02, 0.05, 0.1, 0.2)
KINDS: tuple[Kind, ...] = (
    Kind("white noise", "dB", (60, 50, 40, 30, 20), damage.noise),
    Kind("noise of the speech's spectrum", "dB", (50, 40, 30, 20), _shaped),
    Kind("noise that follows the speech", "dB", (50, 40, 30, 20), _followed),
    Kind("hum", "dB", (60, 40, 30, 20), _hum),
    Kind("µ-law", "bits", (11, 9, 7, 5), lambda x, bits: damage.mu_law(x, int(bits))),
    Kind("integer output", "bits", (15, 12, 10, 8), _coarse),
    Kind("without the highest", "of the band", (0.1, 0.3, 0.6), _low_passed, judged=False),
    Kind("louder", "dB", (0.2, 1, 3, 25), damage.gain, judged=False),
    Kind("faster", "times", (1.0005, 1.005, 1.03), damage.faster_in_place, judged=False),
    Kind("noise on the latent", "dB", (40, 25, 15, 8), _noisy, "acoustic"),
    Kind("noise on the features", "dB", (40, 25, 15, 8), _noisy, "features"),
    Kind("noise on the vocoder's weights", "σ", _WEIGHTS, _perturbed, "vocoder", weights=True),
    Kind("noise on weights before the vocoder", "σ", _WEIGHTS, _perturbed, "acoustic", weights=True),
    Kind("noise on weights before the vocoder", "σ", _WEIGHTS, _perturbed, "features", weights=True),
    Kind("vocoder's weights of one scale", "bits", (10, 8, 6, 4), _rounded, "vocoder", weights=True),
)
