"""What was measured, as a table of fixed width for a person and as JSON for machines."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

SCHEMA = 1

# Figure -> what a person calls it, and its unit. JSON names end with the unit instead.
_ROWS = {
    "load_s": ("load, memory-mapped", "s"),
    "import_s": ("import of the runtime", "s"),
    "prefill_s": ("prefill", "s"),
    "step_ms": ("step", "ms"),
    "sampling_ms": ("sampling, for each step", "ms"),
    "acoustic_s": ("acoustic (or features, cfm)", "s"),
    "vocoder_s": ("vocoder", "s"),
    "sovits_s": ("acoustic + vocoder", "s"),
    "sentence_s": ("the sentence, in one piece", "s"),
    "first_audio_s": ("first audio, in windows", "s"),
    "streamed_s": ("the sentence, in windows", "s"),
    "rtf": ("RTF", "s/s"),
    "peak_mb": ("peak resident memory", "MB"),
    "anonymous_mb": ("resident, anonymous", "MB"),
    "mapped_mb": ("resident, mapped files", "MB"),
}
_SIZES = {"disk_mb": ("on disk", "MB"), "weights_mb": ("weights on disk", "MB")}
_LIMITS = {
    "read_gbs": ("memory read", "GB/s"),
    "copy_gbs": ("memory copy, both ways", "GB/s"),
    "gemm_numpy_gmacs": ("float32 product, numpy", "GMAC/s"),
    "gemm_fp32_gmacs": ("float32 product, ONNX Runtime", "GMAC/s"),
    "gemm_int8_gmacs": ("8-bit product, ONNX Runtime", "GMAC/s"),
}
_WORK = {
    "step_read_mb": ("step reads weights of", "MB"),
    "step_at_least_ms": ("step at least", "ms"),
    "vocoder_float_gmac": ("vocoder computes in float", "GMAC"),
    "vocoder_integer_gmac": ("vocoder computes on integers", "GMAC"),
    "vocoder_at_least_s": ("vocoder at least", "s"),
}
_METHOD = (
    "runs: subjects in turn; each run is a new process that loads the voice and speaks the sentence twice, to warm up",
    "  and to be measured.",
    "sentence: synthesize() with its checks, prefill, steps, sampling, acoustic and vocoder. Its codes are fixed:",
    "  scores that favour them replace those that the network computes, so no sentence ends early.",
    "load: from the unpacked folder until every graph that speaks is open; the files may be in the page cache.",
    "step, sampling: median and p90 of all steps, range of the runs' medians. Others: over the runs.",
    "in windows: the same sentence by stream(), while its codes are still being written. In one piece, the first audio",
    "  is the whole sentence. RTF: the sentence in one piece, for each second of sound.",
    "peak: VmHWM of the process; resident: RssAnon and RssFile when the second sentence is spoken. MB are 10^6 bytes.",
    "at least: weights of a step / best memory read; the vocoder's convolutions / best product of their kind.",
)


@dataclass(frozen=True)
class Figure:
    """One quantity measured `n` times: median, 90th percentile (nearest rank), smallest and largest value."""

    median: float
    p90: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """Over single values."""
        ranked = sorted(values)
        nearest = ranked[-(-9 * len(ranked) // 10) - 1]
        return cls(statistics.median(ranked), nearest, ranked[0], ranked[-1], len(ranked))

    @classmethod
    def of_groups(cls, groups: Sequence[Sequence[float]]) -> Figure:
        """Over the values of all groups; `low` and `high` are those of the groups' medians, `n` counts values."""
        whole, medians = cls.of([value for group in groups for value in group]), [*map(statistics.median, groups)]
        return cls(whole.median, whole.p90, min(medians), max(medians), whole.n)


@dataclass(frozen=True)
class Subject:
    """One measured voice: `figures` by name, `sizes` on disk, and the `work` that its graphs hold where it is known."""

    name: str
    figures: dict[str, Figure]
    sizes: dict[str, float]
    work: dict[str, float]
    role: str = "baseline"  # of those that follow the first; "against" for another program


@dataclass(frozen=True)
class Bench:
    """All measurements of one call. What is compared with the first subject follows it: a baseline, another program."""

    command: str
    machine: dict[str, Any]
    workload: dict[str, float]
    subjects: tuple[Subject, ...]
    limits: dict[str, Figure]

    @property
    def ratios(self) -> dict[str, float]:
        """How many times as much the second subject takes of each quantity, medians compared; empty without one."""
        return self.ratios_of(self.subjects[1]) if len(self.subjects) > 1 else {}

    def ratios_of(self, other: Subject) -> dict[str, float]:
        """How many times as much `other` takes of each quantity as the first subject."""
        mine, its = ({**_medians(one), **one.sizes} for one in (self.subjects[0], other))
        return {name: its[name] / mine[name] for name in mine if name in its and mine[name] > 0}

    def bounds(self, subject: Subject) -> dict[str, float]:
        """What this machine's best bandwidth and best products leave as the least time of a step and of the vocoder."""
        work, best = subject.work, {name: figure.high for name, figure in self.limits.items()}
        found = {}
        if "step_read_mb" in work:
            found["step_at_least_ms"] = work["step_read_mb"] / best["read_gbs"]
        if "vocoder_float_gmac" in work and "gemm_int8_gmacs" in best:
            float_peak = max(best["gemm_fp32_gmacs"], best["gemm_numpy_gmacs"])
            integers = work["vocoder_integer_gmac"] / best["gemm_int8_gmacs"]
            found["vocoder_at_least_s"] = work["vocoder_float_gmac"] / float_peak + integers
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values; every name ends with its unit, a ratio has none."""
        return {
            "schema": SCHEMA,
            "command": self.command,
            "machine": self.machine,
            "workload": self.workload,
            "subjects": [{**asdict(one), "bounds": self.bounds(one)} for one in self.subjects],
            "ratios": self.ratios,
            "limits": {name: asdict(figure) for name, figure in self.limits.items()},
            "method": list(_METHOD),
        }

    def table(self) -> str:
        """Pages for a person: the command, the machine, every figure with its unit, and how it was measured."""
        machine, work = self.machine, self.workload
        features = " ".join(machine["features"]) or machine["arch"]
        spoken = f"{work['tokens']} codes = {work['audio_s']:g} s of sound"
        packages = ("gsvexport", "onnxruntime", "numpy", "python")
        about = {
            "machine": f"{machine['cpu']}, {machine['cores']} cores ({features}), load {machine['load']}",
            "versions": ", ".join(f"{name} {machine[name]}" for name in packages),
            "sentence": f"{spoken}, after {work['prompt']} prompt codes and {work['phones']} phones",
            "threads": str(work["threads"]),
        }
        about |= {one.role if at else "subject": one.name for at, one in enumerate(self.subjects)}
        lines = [f"$ {self.command}", *(f"{name:<10}{text}" for name, text in about.items())]
        lines += ["", *_lines(self._measured()), "", *_lines(self._allowed()), "", *_METHOD]
        return "\n".join(lines) + "\n"

    def _measured(self) -> list[list[str]]:
        subject, others = self.subjects[0], self.subjects[1:]
        rows = [["", "unit", "median", "p90", "range", "n"]]
        for other in others:
            rows[0] += [other.role, "range", "ratio"]
        for name, (title, unit) in _ROWS.items():
            if (figure := subject.figures.get(name)) is None:
                continue
            row = [title, unit, _digits(figure.median), _digits(figure.p90), _range(figure), str(figure.n)]
            for other in others:
                its = other.figures.get(name)
                row += [_digits(its.median), _range(its), self._ratio(other, name)] if its else ["", "", ""]
            rows.append(row)
        for name, (title, unit) in _SIZES.items():
            if name in subject.sizes:
                row = [title, unit, _digits(subject.sizes[name]), "", "", ""]
                for other in others:
                    has = name in other.sizes
                    row += [_digits(other.sizes[name]), "", self._ratio(other, name)] if has else ["", "", ""]
                rows.append(row)
        return rows

    def _ratio(self, other: Subject, name: str) -> str:
        ratios = self.ratios_of(other)
        return f"{ratios[name]:.2f}" if name in ratios else ""

    def _allowed(self) -> list[list[str]]:
        rows = [["what the machine allows", "unit", "median", "p90", "range", "n"]]
        for name, (title, unit) in _LIMITS.items():
            if name in self.limits:
                figure = self.limits[name]
                rows.append([title, unit, _digits(figure.median), _digits(figure.p90), _range(figure), str(figure.n)])
        known = [{**one.work, **self.bounds(one)} for one in self.subjects]
        for name, (title, unit) in _WORK.items():
            if name in known[0]:
                row = [title, unit, _digits(known[0][name]), "", "", ""]
                for other in known[1:]:
                    row += [_digits(other[name]), "", ""] if name in other else ["", "", ""]
                rows.append(row)
        if not known[0]:
            rows.append(["work was not counted: that needs the package onnx", "", "", "", "", ""])
        return rows


def _medians(subject: Subject) -> dict[str, float]:
    return {name: figure.median for name, figure in subject.figures.items()}


def _range(figure: Figure) -> str:
    return f"{_digits(figure.low)}-{_digits(figure.high)}"


def _digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    size = abs(value)
    return f"{value:.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3}f}"


def _lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of fixed width: names to the left, numbers to the right."""
    widths = (30, 7, 8, 8, 15, 6, *(max(map(len, rows)) // 3 * (11, 15, 7)))
    return [
        "".join(
            cell.ljust(width) if at < 2 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in rows
    ]
