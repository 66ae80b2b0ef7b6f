"""What do the gates of sound notice, and what do they refuse that nobody hears? A table that limits follow from.

    python -m gsvexport.verify.sensitivity SOURCE… [--artifact SOURCE ARTIFACT]… [-o FILE.md]

Every kind of damage is done to each source in growing strength (`ladder`), and each artifact is held against its source
on the same codes and noise. PESQ is the witness; P.808, STOI and mel-cepstral distortion are shown beside it, and are
no gates: what they add stands in the table.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import EnvironmentProblem, printable
from gsvexport.files import atomic_file
from gsvexport.verify import audio, checks, golden, ladder, ruler, said, speech
from gsvexport.verify.gates import METRICS, WAVEFORM, resolve
from gsvexport.verify.report import meets

Array = NDArray[Any]
PRECISIONS = ("fp16", "int8", "int4-weights")
EDGE = 4.4  # mean PESQ: where a careful listener begins to notice
GATED = (
    *("sound_share", "pesq_mean", "pesq", "f0_cents", "voicing_error"),
    *("silence_change", "rms_change_db", "clipping_rise"),
)
MEASURES = {"sound_share": "loudness", "log_mel_l1": "log-mel L1", "mr_stft": "STFT", "snr_db": "SNR"}
_CEPSTRA = 13


def mel_cepstral_distortion(pairs: Sequence[checks.Pair], rate: int) -> float:
    """Mean MCD in dB over the frames: (10/ln 10)·√(2·Σ Δc²) of cepstra 1 to 13 of the log-mel spectrum.

    Kubichek, Mel-cepstral distance measure, 1993; here of 80 bands, orthonormal DCT-II, without alignment.
    """
    order = np.arange(1, _CEPSTRA + 1)[:, None]
    basis = np.sqrt(2 / audio.MELS) * np.cos(np.pi * order * (np.arange(audio.MELS) + 0.5) / audio.MELS)
    frames = [(audio.log_mel(x, rate) - audio.log_mel(r, rate)) @ basis.T for r, x in pairs]
    distances = np.sqrt(2 * np.sum(np.concatenate(frames) ** 2, axis=1))
    return float(10 / np.log(10) * distances.mean())


def stoi(pairs: Sequence[checks.Pair], rate: int) -> float | None:
    """Mean short-time objective intelligibility, by the package `pystoi`; None without it."""
    try:
        from pystoi import stoi as score
    except ImportError:
        return None
    return float(np.mean([score(speech.narrow(r, rate), speech.narrow(x, rate), speech.RATE) for r, x in pairs]))


class Table:
    """Rows of one source: trials with everything that was measured of them."""

    def __init__(self, source: Path, say: Callable[[str], None]) -> None:
        from gsvexport.runtime.pipeline import load

        self.rows: list[tuple[ladder.Trial, dict[str, float]]] = []
        self.builds: list[tuple[str, dict[str, float]]] = []
        try:
            self._dnsmos: speech.Dnsmos | None = speech.Dnsmos()
        except EnvironmentProblem:
            self._dnsmos = None
        with load(source) as voice:
            self.name, self.rate = voice.model.name, voice.rate
            self.ruler = ruler.measure(voice, say)
            self.cases = golden.cases(voice, said(voice.model), baked_prompt=True)
            self.gates = {precision: resolve(precision, None, self.ruler) for precision in PRECISIONS}
            if self.ruler.unit is None:
                return
            for trial in ladder.climb(source, voice, self.cases, self.gates["int8"], say):
                self.rows.append((trial, {**trial.values, **self._beside(trial.pairs)}))

    def add(self, artifact: Path, say: Callable[[str], None]) -> None:
        """An artifact of this source, on the same codes and noise."""
        from gsvexport.runtime.pipeline import load

        say(str(artifact.name))
        with load(artifact, any_machine=True) as voice:
            pairs = ladder.heard(voice, self.cases)
        found = checks.of_sound(self.gates["int8"], pairs, self.rate)
        values = {check.metric: check.value for check in found if check.value is not None}
        self.builds.append((artifact.stem, {**values, **self._beside(pairs)}))

    def _beside(self, pairs: Sequence[checks.Pair]) -> dict[str, float]:
        found = {"mcd": mel_cepstral_distortion(pairs, self.rate)}
        if (heard := stoi(pairs, self.rate)) is not None:
            found["stoi"] = heard
        if self._dnsmos:
            narrow = [tuple(speech.narrow(one, self.rate) for one in pair) for pair in pairs]
            scores = [(self._dnsmos(r), self._dnsmos(x)) for r, x in narrow]
            found["p808"] = float(np.mean([x[0] - r[0] for r, x in scores]))
            found["ovr"] = float(np.mean([x[1] - r[1] for r, x in scores]))
        return found

    def refused(self, values: dict[str, float], precision: str) -> list[str]:
        """The gates of a precision that these values miss."""
        limits = {metric: self.gates[precision].limit("pipeline", metric) for metric in GATED}
        return [
            metric
            for metric, limit in limits.items()
            if limit is not None and metric in values and not meets(values[metric], limit, METRICS[metric].direction)
        ]

    def lines(self) -> Iterator[str]:
        """Markdown."""
        yield f"### {self.name}\n"
        own = self.ruler
        if own.loudness is None or own.log_mel is None or own.mr_stft is None or own.unit is None:
            yield f"No ruler: {own.reason}. Absolute limits stand in, and nothing is shown here.\n"
            return
        yield (
            f"Another seed of the source, {own.n} sentences: loudness {own.loudness.mean:g} ± {own.loudness.spread:g} "
            f"(the unit is {own.unit:g}), log-mel {own.log_mel.mean:g} ± {own.log_mel.spread:g}, "
            f"STFT {own.mr_stft.mean:g} ± {own.mr_stft.spread:g}, pitch {own.own('f0_cents'):g} cents, "
            f"voicing {own.own('voicing_error'):g}.\n"
        )
        yield "| what | PESQ | share | log-mel | STFT | SNR dB | STOI | MCD dB | ΔP808 | ΔOVR | FP16 / INT8 refuse by |"
        yield "|---|---|---|---|---|---|---|---|---|---|---|"
        rows = [*self.builds, *((trial.name, values) for trial, values in self.rows)]
        for name, values in rows:
            numbers = [
                _number(values.get("pesq_mean"), 2),
                _number(values["sound_share"], 3),
                _number(values["log_mel_l1"] / own.log_mel.mean, 2),
                _number(values["mr_stft"] / own.mr_stft.mean, 2),
                _number(values["snr_db"], 1),
                *(_number(values.get(key), digits) for key, digits in (("stoi", 3), ("mcd", 2))),
                *(_number(values.get(key), 2) for key in ("p808", "ovr")),
            ]
            refused = [", ".join(self.refused(values, precision)) or "-" for precision in ("fp16", "int8")]
            told = refused[0] if refused[0] == refused[1] else " / ".join(refused)
            yield f"| {name} | {' | '.join(numbers)} | {told} |"
        yield ""
        yield from self._by_gate()
        yield from self._by_measure()

    def _by_gate(self) -> Iterator[str]:
        yield "| gate (INT8) | limit | notices, at the mildest | refuses, of the damages with PESQ ≥ 4.55 |"
        yield "|---|---|---|---|"
        fine = [(t, v) for t, v in self.rows if t.kind.judged and v.get("pesq_mean", 0) >= ladder.FINE]
        for metric in GATED:
            fired = [(t, v) for t, v in self.rows if metric in self.refused(v, "int8")]
            mildest = max(fired, key=lambda row: row[1].get("pesq_mean", 0.0), default=None)
            what = f"{mildest[0].name} (PESQ {_number(mildest[1].get('pesq_mean'), 2)})" if mildest else "**nothing**"
            wrong = sum(metric in self.refused(v, "int8") for _, v in fine)
            limit = self.gates["int8"].limit("pipeline", metric)
            yield f"| {metric} | {limit:g} | {what} | {wrong} of {len(fine)} |"
        yield ""

    def _by_measure(self) -> Iterator[str]:
        """Where PESQ passes `EDGE` in each kind of damage, by several measures: the narrower, the better a limit."""
        yield f"| measure | at PESQ {EDGE:g}: least, median, most over kinds | spread (log2) | kinds |"
        yield "|---|---|---|---|"
        for metric, name in MEASURES.items():
            found = [value for kind in ladder.KINDS if kind.judged and (value := self._crossing(kind, metric))]
            if found:
                low, middle, high = np.min(found), np.median(found), np.max(found)
                spread = np.std(np.log2(found))
                unit = " dB of noise" if metric == "snr_db" else ""
                yield f"| {name}{unit} | {low:.3g}, {middle:.3g}, {high:.3g} | {spread:.2f} | {len(found)} |"
        yield ""

    def _crossing(self, kind: ladder.Kind, metric: str) -> float | None:
        """The value at which PESQ is `EDGE`, between two strengths on a logarithmic axis."""
        points = [
            (values["pesq_mean"], 10 ** (-values[metric] / 20) if metric == "snr_db" else values[metric])
            for trial, values in self.rows
            if trial.kind is kind and "pesq_mean" in values
        ]
        for (before, low), (after, high) in itertools.pairwise(points):
            if before >= EDGE > after and low > 0 and high > 0:
                part = (before - EDGE) / (before - after)
                return float(np.exp((1 - part) * np.log(low) + part * np.log(high)))
        return None


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


@click.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--artifact", "artifacts", nargs=2, multiple=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "out", type=click.Path(path_type=Path))
def main(sources: Sequence[Path], artifacts: Sequence[tuple[Path, Path]], out: Path | None) -> None:
    """Damage SOURCES in every known way and show what each gate notices."""
    pages = []
    for source in sources:
        table = Table(source, lambda text: click.echo(printable(text), err=True))
        for of, artifact in artifacts:
            if of.resolve() == source.resolve():
                table.add(artifact, lambda text: click.echo(printable(text), err=True))
        pages.append("\n".join(table.lines()))
    text = "\n".join(pages)
    if out is None:
        click.echo(printable(text))
    else:
        with atomic_file(out, force=True) as work:
            work.write_bytes(text.encode())


assert set(WAVEFORM).isdisjoint(GATED)
if __name__ == "__main__":
    sys.exit(main())
