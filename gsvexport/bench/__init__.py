"""How fast and how large a voice is on this machine, beside a baseline and beside what the machine could do at best.

`bench` measures, `report` shows. Each subject is measured in processes of its own, one for each run (`child`,
`subject`), so that one's memory is not another's; nothing measured is judged here.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gsvexport.artifact.trust import Key
from gsvexport.bench.against import asked, parsed
from gsvexport.bench.child import call
from gsvexport.bench.growth import Sweep, sweep
from gsvexport.bench.machine import describe
from gsvexport.bench.report import Bench, Figure, Subject
from gsvexport.errors import ArtifactError, InputError
from gsvexport.model import Model, read_model
from gsvexport.progress import Progress, counted
from gsvexport.stages import MAX_TOKENS, VERSIONS, frames, mel_mask, speaking
from gsvexport.target.machine import check_machine

__all__ = ["Bench", "Figure", "Subject", "Sweep", "bench", "bench_sweep"]

_RUNS = 100


def bench(
    path: Path,
    baseline: Path | None = None,
    *,
    threads: int = 2,
    runs: int = 5,
    tokens: int = 100,
    prompt: int = 125,
    phones: int = 70,
    against: str | None = None,
    against_timeout: float = 600.0,
    any_machine: bool = False,
    key: Key | None = None,
    progress: Progress | None = None,
) -> Bench:
    """Measure an artifact (or a source), and a baseline in turn with it, run by run.

    Each speaks `tokens` codes (25 are a second) after `prompt` codes and `phones` phones. Where the package `onnx` is
    installed, the work of the stages is counted in their graphs, too. `against` is the command of another program that
    is asked in turn with them (see `against.py`); an answer may take `against_timeout` seconds. `any_machine` takes
    artifacts for other machines; `key` has to have signed the first one.

    Raises:
        InputError: arguments out of range (all listed), or a path that does not exist.
        ArtifactError: neither an artifact nor a source, a damaged one, or one for another machine.
        BackendError: a subject could not be measured; says what its process said.
    """
    say = progress or (lambda _: None)
    other = parsed(against) if against is not None else None
    given = [path] if baseline is None else [path, baseline]
    folders = [_folder(one, any_machine, key if one is path else None) for one in given]
    models = [read_model(folder) for folder in folders]
    _check(models, threads=threads, runs=runs, tokens=tokens, prompt=prompt, phones=phones)
    machine = describe()
    # Before and after, because a machine that others use is not always as fast.
    limits = [_limits(threads, say)]
    results: list[list[dict[str, Any]]] = [[] for _ in folders]
    others: list[dict[str, float]] = []
    each = len(folders) + (other is not None)
    count = runs * each
    for run in range(runs):
        for folder, name, found in zip(folders, given, results, strict=True):
            number = sum(map(len, results)) + len(others) + 1
            say(counted(f"run {run + 1} of {runs}: {name.name}", "measuring", number, count))
            arguments = {"folder": str(folder.resolve()), "tokens": tokens, "prompt": prompt, "phones": phones}
            found.append(call("gsvexport.bench.subject:measure", threads=threads, **arguments))
        if other is not None:
            say(counted(f"run {run + 1} of {runs}: {other[0]}", "measuring", (run + 1) * each, count))
            request = {"threads": threads, "tokens": tokens, "phones": phones, "prompt": prompt, "run": run}
            others.append(asked(other, {**request, "audio_s": results[0][0]["audio_s"]}, against_timeout))
    limits.append(_limits(threads, say))
    return Bench(
        command=_command(given, threads, runs, tokens, prompt, phones, against),
        machine=machine,
        workload={
            "threads": threads,
            "runs": runs,
            "tokens": tokens,
            "prompt": prompt,
            "phones": phones,
            "audio_s": results[0][0]["audio_s"],
        },
        subjects=(
            *(
                Subject(name.name, _figures(found), _sizes(name, folder), _work(folder, model, tokens))
                for name, folder, model, found in zip(given, folders, models, results, strict=True)
            ),
            *([Subject(against, _told(others), {}, {}, "against")] if against is not None else []),
        ),
        limits={name: Figure.of([rate for one in limits for rate in one[name]]) for name in limits[0]},
    )


def bench_sweep(
    path: Path,
    *,
    threads: int = 2,
    prompt: int = 125,
    any_machine: bool = False,
    key: Key | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Cost of an artifact (or a source) as codes and phones grow; see `sweep.py`.

    Raises: as `bench`.
    """
    folder = _folder(path, any_machine, key)
    model = read_model(folder)
    _check([model], threads=threads, runs=1, tokens=2, prompt=prompt, phones=1)
    line = ["gsvexport", "bench", str(path), "--sweep", "--threads", str(threads), "--prompt", str(prompt)]
    return sweep(folder, shlex.join(line), threads, prompt=prompt, most=model.dims.positions, progress=progress)


def _limits(threads: int, say: Progress) -> dict[str, list[float]]:
    say("what the machine allows")
    return call("gsvexport.bench.machine:limits", threads=threads)


def _folder(path: Path, any_machine: bool, key: Key | None = None) -> Path:
    """The folder of a source or of an unpacked artifact, which has to be one for this machine, unless any is taken."""
    from gsvexport.artifact.container import unpacked
    from gsvexport.artifact.manifest import MANIFEST
    from gsvexport.artifact.trust import prove

    if not path.exists():
        raise InputError(f"{path} does not exist", fix="pass a .gsv artifact or a source directory")
    if path.is_dir() and not (path / MANIFEST).is_file():
        if key is not None:
            raise InputError(f"{path} is no artifact, so nobody signed it", fix="leave --key out, or name a .gsv")
        return path
    proven = prove(path, key)
    if not any_machine:
        check_machine(proven.manifest.target, path)
    return path if path.is_dir() else unpacked(path, proven.text)


def _check(models: list[Model], **given: int) -> None:
    """All arguments against what every subject can take, before anything runs."""
    positions = min(model.dims.positions for model in models)
    limits = {
        "threads": (1, 1024),
        "runs": (1, _RUNS),
        "tokens": (2, min(MAX_TOKENS, positions - max(0, given["prompt"]))),  # the first code takes no step
        "prompt": (0, positions - 2),
        "phones": (1, positions),
    }
    problems = [
        f"{name} = {given[name]}; it must be {low} to {high}"
        for name, (low, high) in limits.items()
        if not low <= given[name] <= high
        # A prompt that fills all positions leaves no room for tokens: that is one problem, not two.
        and not (name == "tokens" and high < low and given["tokens"] >= low)
    ]
    if problems:
        raise InputError("this cannot be measured", problems=problems)
    for model in models:
        if missing := [stage for stage in speaking(model.version) if stage not in model.files]:
            raise ArtifactError(f"{model.name} cannot speak", problems=[f"it holds no stage {one}" for one in missing])


def _figures(results: list[dict[str, Any]]) -> dict[str, Figure]:
    """Every quantity over the runs; a step's median and p90 are over all steps, its range is that of the runs."""

    def over(quantity: Callable[[dict[str, Any]], float]) -> Figure:
        return Figure.of([quantity(result) for result in results])

    figures = {
        "load_s": over(lambda one: one["load_s"]),
        "import_s": over(lambda one: one["import_s"]),
        "prefill_s": over(lambda one: one["prefill_s"]),
        "step_ms": Figure.of_groups([one["step_ms"] for one in results]),
        "sampling_ms": Figure.of_groups([one["sampling_ms"] for one in results]),
        "acoustic_s": over(lambda one: one["acoustic_s"]),
        "vocoder_s": over(lambda one: one["vocoder_s"]),
        "sovits_s": over(lambda one: one["acoustic_s"] + one["vocoder_s"]),
        "sentence_s": over(lambda one: one["sentence_s"]),
        "rtf": over(lambda one: one["sentence_s"] / one["audio_s"]),
    }
    for name in ("first_audio_s", "streamed_s"):
        if all(name in one for one in results):
            figures[name] = over(lambda one, name=name: one[name])  # type: ignore[misc]
    for name in ("peak_mb", "anonymous_mb", "mapped_mb"):
        if all(one["memory"][name] is not None for one in results):
            figures[name] = over(lambda one, name=name: one["memory"][name])  # type: ignore[misc]
    return figures


def _told(answers: list[dict[str, float]]) -> dict[str, Figure]:
    """The figures of another program that it told every time."""
    names = [name for name in answers[0] if all(name in one for one in answers)]
    return {name: Figure.of([one[name] for one in answers]) for name in names}


def _sizes(path: Path, folder: Path) -> dict[str, float]:
    """MB (10^6 bytes) on disk: of what was given, and of the weights in it."""
    files = [path] if path.is_file() else [one for one in folder.rglob("*") if one.is_file()]
    sizes = {"disk_mb": sum(one.stat().st_size for one in files) / 1e6}
    if weights := list(folder.glob("*.safetensors")):
        sizes["weights_mb"] = sum(one.stat().st_size for one in weights) / 1e6
    return sizes


def _work(folder: Path, model: Model, tokens: int) -> dict[str, float]:
    """What can be counted in the graphs; nothing without the package `onnx`, or for a backend with other files."""
    from gsvexport.bench.work import convolution_macs, weight_bytes

    step, vocoder = (folder / model.files[stage] for stage in ("step", "vocoder"))
    if step.suffix != ".onnx" or vocoder.suffix != ".onnx":
        return {}
    try:
        found = {"step_read_mb": weight_bytes(step) / 1e6}
        mel = VERSIONS[model.version].mel
        length = {"F": frames(tokens, 1)} if mel is None else {"M": mel_mask(tokens, 1, mel)[0]}
        macs = convolution_macs(vocoder, length)
    except ImportError:
        return {}
    if macs is not None:
        found["vocoder_float_gmac"], found["vocoder_integer_gmac"] = (count / 1e9 for count in macs)
    return found


def _command(
    given: list[Path], threads: int, runs: int, tokens: int, prompt: int, phones: int, against: str | None
) -> str:
    """The command line that measures this again, every option said."""
    line: list[object] = ["gsvexport", "bench", given[0]]
    line += ["--baseline", given[1]] if len(given) > 1 else []
    line += ["--against", against] if against is not None else []
    line += ["--threads", threads, "--runs", runs, "--tokens", tokens, "--prompt", prompt, "--phones", phones]
    return shlex.join(map(str, line))
