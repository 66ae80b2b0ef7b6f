"""The commands. They turn arguments into calls and results into text; nothing is decided here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gsvexport.artifact.tools import OURS, tool_version
from gsvexport.cli.bake import bake, given_by, reference_options
from gsvexport.cli.doctor import doctor
from gsvexport.cli.echo import echo
from gsvexport.cli.init import init
from gsvexport.cli.inspect import inspect
from gsvexport.cli.keys import key, sign
from gsvexport.cli.listen import listen
from gsvexport.cli.numbers import Finite
from gsvexport.cli.onboard import onboard
from gsvexport.cli.phrases import phrases
from gsvexport.cli.progress import shows_progress
from gsvexport.cli.registry import gc, publish, pull, withdraw
from gsvexport.cli.release import release
from gsvexport.cli.say import bench, say
from gsvexport.cli.serve import serve
from gsvexport.cli.slim import slim
from gsvexport.cli.unpack import unpack
from gsvexport.progress import Progress, note, step

if TYPE_CHECKING:
    from gsvexport.verify.report import Report

_EPILOG = """\b
Exit codes:
  0    done
  2    wrong arguments, or an output that exists already
  3    a voice that is broken, hostile or not supported
  4    a target that is unknown or contradicts itself
  5    an artifact that missed a verification limit
  6    an artifact that is damaged, not signed by whom it should, or made for another machine
  7    the machine: a full disk, a missing package, no permission
  8 9  a graph transformation or a backend failed
  70   a defect in gsvexport
  130  interrupted by Ctrl-C

\b
Environment:
  GSVEXPORT_CACHE   folder for what is made once (default: ~/.cache/gsvexport)
  GSVEXPORT_CONFIG  folder for keys (default: ~/.config/gsvexport)
  GSVEXPORT_DEBUG   1 shows where in the code an error comes from
"""
_TARGETS_CORE = "the target's"
_PATH = click.Path(path_type=Path)
_target = click.option(
    "-t", "--target", "targets", multiple=True, required=True, metavar="NAME", help="A device's name, or a TOML file."
)
_percent = Finite(0)
_margin = click.option(
    "--margin", type=_percent, default=10, show_default=True, metavar="PERCENT", help="Of its limit a check may lose."
)
_growth = click.option(
    "--growth", type=_percent, default=5, show_default=True, metavar="PERCENT", help="The artifact may be larger."
)
_level = click.option(
    "--level", type=click.IntRange(2, 3), default=2, show_default=True, help="3 also lets it speak, and listens."
)
_any_machine = click.option("--any-machine", is_flag=True, help="Also what was made for another processor.")
_heard = click.option("--heard", type=_PATH, metavar="SCORES", help="What people heard: listen --results -o wrote it.")
_force = click.option("--force", is_flag=True, help="Replace outputs that exist.")
_key = click.option(
    "--key", metavar="KEY", help="This key must have signed it: a trusted one's name, a file, or base64."
)


def _version(context: click.Context, option: click.Parameter, asked: bool) -> None:
    if asked:
        echo(f"{OURS} {tool_version(OURS)}")
        context.exit()


class _Group(click.Group):
    def format_usage(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage("gsvexport", "--target NAME [VOICE] [-o DIR]")
        formatter.write_usage("gsvexport", "COMMAND …", prefix="       ")

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)  # in the order of use, not of the alphabet


@click.group(
    cls=_Group,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def cli() -> None:
    """Compile a GPT-SoVITS voice into one verified artifact per device.

    VOICE is a folder with a voice.toml, a voice.toml, or an exported source; without it, the built-in demo voice.

    \b
    Examples:
      gsvexport --target x86-64 -o dist/              the demo voice, ready to speak
      gsvexport --target x86-64 voices/alice -o dist/
      gsvexport say dist/demo-x86-64.gsv "Hello there!" -o hello.wav
    """


@cli.command()
@_target
@click.argument("voice", required=False, type=_PATH)
@click.option("-o", "--out", type=_PATH, default=Path(), show_default="this folder", help="Folder for the artifacts.")
@click.option("--strict", is_flag=True, help="Refuse a calibration set that misses phones or has a single rate.")
@click.option(
    "--compress",
    type=click.Choice(["none", "fast", "release"]),
    show_default="GSVEXPORT_COMPRESS, or fast",
    help="Of the file.",
)
@click.option(
    "--engine",
    type=click.Choice(["on-device", "ahead-of-time"]),
    show_default="the target's",
    help="Where NVIDIA engines are built; ahead of time takes TensorRT for RTX.",
)
@_level
@reference_options(required=False)
@_force
@shows_progress
def build(
    targets: tuple[str, ...],
    voice: Path | None,
    out: Path,
    strict: bool,
    compress: str | None,
    engine: str | None,
    level: int,
    reference: tuple[Path, ...],
    reference_text: str | None,
    language: str | None,
    force: bool,
    progress: Progress,
) -> None:
    """Compile VOICE for each target (the default).

    Writes VOICE-TARGET.gsv, verified against the voice's ONNX source. Finished steps are kept in the cache, so a build
    that was interrupted goes on where it was.
    """
    from gsvexport.compiler.build import build as make

    given = given_by(reference, reference_text, language)
    made = make(
        voice,
        targets,
        out,
        force=force,
        strict=strict,
        level=level,
        compress=compress,
        engine=engine,
        reference=given,
        progress=progress,
    )
    for path in made:
        echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


cli.add_command(init)
cli.add_command(slim)


@cli.command()
@click.argument("name", required=False)
def targets(name: str | None) -> None:
    """List the devices, or show one profile and its plan."""
    from gsvexport.cli.targets import target_list, target_page

    echo(target_page(name) if name else target_list(), nl=False)


@cli.command()
@_target
@click.argument("voice", required=False, type=_PATH)
@click.option("--keys", is_flag=True, help="Show the key of each step, which names its result in the cache.")
@click.option("--explain", is_flag=True, help="Say why, and estimate memory and speed.")
def plan(targets: tuple[str, ...], voice: Path | None, keys: bool, explain: bool) -> None:
    """Show what a build would do, without doing it.

    For devices that finish their artifacts themselves it also shows what each release of their compiler would say to
    the graphs, as far as that is known; for this the ONNX source is written to the cache.
    """
    from gsvexport.compiler import explain as reasons
    from gsvexport.compiler.build import verdicts
    from gsvexport.compiler.inputs import open_voice
    from gsvexport.compiler.plan import check, make_plan
    from gsvexport.compiler.student import of_targets
    from gsvexport.target.target import read_targets

    chosen = read_targets(targets)
    for target in chosen:
        check(target)

    def noted(said: str) -> None:
        if not step(said).phase:
            echo(said, err=True)

    each = of_targets(open_voice(voice), chosen, progress=noted)
    plans = [make_plan(target, opened.subject) for target, opened in zip(chosen, each, strict=True)]
    sizes = {opened.path: reasons.sizes(opened) for opened in each} if explain else {}
    pages = [
        one.text(keys=keys) + verdicts(one, opened) + (reasons.explain(one, sizes[opened.path]) if explain else "")
        for one, opened in zip(plans, each, strict=True)
    ]
    echo("\n".join(pages), nl=False)


@cli.command()
@click.argument("voice", required=False, type=_PATH)
@click.option("-o", "--out", type=_PATH, required=True, help="Folder to write; it must not exist.")
@_force
@shows_progress
def source(voice: Path | None, out: Path, force: bool, progress: Progress) -> None:
    """Export only the ONNX source of VOICE.

    One graph for each stage, for no backend in particular, and one file that holds every weight once.
    """
    from gsvexport.compiler.inputs import export_source

    written = export_source(voice, out, force=force, progress=progress)
    echo(f"{written.path}  {', '.join(written.model.files)}  digest {written.digest}")


@cli.command()
@click.argument("artifact", type=_PATH)
@click.option("--source", type=_PATH, help="Compare with this ONNX source, too.")
@click.option("--teacher", type=_PATH, metavar="VOICE", help="A student: compare with the voice it was made of, too.")
@_level
@click.option(
    "--seeds", type=click.IntRange(1), default=1, show_default=True, help="Level 3: times it says each sentence."
)
@click.option("--sentences", type=_PATH, metavar="FILE", help="Level 3: say these, one a line, not the built-in ones.")
@click.option("--recogniser", type=_PATH, metavar="DIR", help="Level 3: hear words with this Whisper (CTranslate2).")
@click.option(
    "--require", "required", multiple=True, metavar="WHAT", help="A metric or a level (pesq, L3) that must run."
)
@click.option("--self-test", is_flag=True, help="Show that the gates fire: damage the source in known ways instead.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
@click.option(
    "--emulate",
    is_flag=False,
    flag_value=_TARGETS_CORE,
    metavar="[CORE]",
    help="Run it on an emulated aarch64 core (after ARTIFACT; default: the target's), as far as one is set up.",
)
@_key
@_heard
@click.option("--against", type=_PATH, metavar="BASELINE", help="Fail where ARTIFACT is worse than this one, run here.")
@_margin
@_growth
@shows_progress
@_any_machine
def verify(
    artifact: Path,
    source: Path | None,
    teacher: Path | None,
    level: int,
    seeds: int,
    sentences: Path | None,
    recogniser: Path | None,
    required: tuple[str, ...],
    self_test: bool,
    as_json: bool,
    emulate: str | None,
    key: str | None,
    heard: Path | None,
    against: Path | None,
    margin: float,
    growth: float,
    progress: Progress,
    any_machine: bool,
) -> int:
    """Check ARTIFACT on this machine, or on an emulated one.

    Checks signatures and every byte, runs every stage and compares it with the golden vectors inside. With --level 3
    and --source, both say sentences that the voice was not made with, and their speech is compared: words, quality,
    pace, speaker. Words are heard by Whisper tiny.en, or by a larger one, or one of the voice's language, in the folder
    that --recogniser or GSVEXPORT_RECOGNISER names.

    With --against, a regression gate: BASELINE, an earlier artifact of the same voice, is run here on the same inputs,
    and ARTIFACT fails where it is worse by more than --margin of a limit, lost a check, or grew by more than --growth.

    \b
    Examples:
      gsvexport verify dist/alice-x86-64.gsv --source alice-source/ --level 3 --require L3 --require pesq
      gsvexport verify dist/alice-x86-64.gsv --against released/alice-x86-64.gsv --margin 10     in CI

    Exit code 5 when a limit is missed, 6 when it is damaged or --key did not sign it. Checks that cannot be made here
    are shown as not run. Exit code 7 when nothing could be emulated.
    """
    from gsvexport.cli import proof
    from gsvexport.cli.keys import signed_by
    from gsvexport.cli.reports import judged_by, show_report, taught_by, verify_against
    from gsvexport.compiler.pack import verify_packed
    from gsvexport.errors import EnvironmentProblem, GateFailed, InputError
    from gsvexport.report.rule import Tolerance
    from gsvexport.verify.depth import Depth

    if heard is not None and (against is not None or self_test):
        raise InputError("--heard is for the report of one artifact", fix="use compare --heard to compare two")
    depth = Depth(level, seeds, sentences, required, recogniser)
    if teacher is not None and (self_test or emulate is not None):
        raise InputError("--teacher is for an artifact that runs here", fix="leave out --self-test and --emulate")
    if self_test:
        return proof.self_test(artifact, source, depth, emulate, against, progress=progress)
    progress(note(f"{artifact} is {signed_by(artifact, key)}"))
    if emulate is None:
        taught = taught_by(teacher, source, progress) if teacher is not None else None
        here = partial(verify_packed, source=source, teacher=taught, any_machine=any_machine, depth=depth)
        check = partial(_checked, here, artifact, key)
    else:
        core = None if emulate == _TARGETS_CORE else emulate
        check = partial(_checked, proof.emulated, artifact, key, core=core, source=source, depth=depth)
    if against is not None:
        tolerance = Tolerance(margin / 100, growth / 100)
        return verify_against(artifact, against, tolerance, check, as_json=as_json, progress=progress)
    report = judged_by(check(artifact, progress=progress), artifact, heard)
    show_report(report, as_json=as_json)
    if report.passed:
        return 0
    nothing = emulate is not None and all(check.status == "not_run" for check in report.checks)
    return EnvironmentProblem.exit_code if nothing else GateFailed.exit_code


def _checked(run: Callable[..., Report], artifact: Path, key: str | None, path: Path, **what: Any) -> Report:
    """A check of one of the artifacts; that `key` signed is asked of the one that is verified, not of a baseline."""
    return run(path, key=key if path == artifact else None, **what)


@cli.command()
@click.argument("artifact", type=_PATH)
@click.option("-o", "--out", type=_PATH, show_default="beside ARTIFACT", help="Device report, or artifact, to write.")
@click.option("--compiled", type=_PATH, metavar="FILE", help="Coral: what edgetpu_compiler wrote elsewhere.")
@click.option(
    "--cache",
    type=click.Choice(["auto", "read-only", "in-place"]),
    default="auto",
    show_default=True,
    help="What T2S does with its cache; in-place takes TensorRT 10.15, and auto chooses it there.",
)
@click.option("--allow-unsigned", is_flag=True, help="RTX: use engines in ARTIFACT that no trusted key signed.")
@_key
@shows_progress
@_any_machine
def finalize(
    artifact: Path,
    out: Path | None,
    compiled: Path | None,
    cache: str,
    allow_unsigned: bool,
    key: str | None,
    progress: Progress,
    any_machine: bool,
) -> int:
    """On the device: build what only it can build, then verify.

    NVIDIA: builds the TensorRT engines of ARTIFACT, each in a process of its own, checks them with the golden vectors,
    measures them and writes a device report. Finished engines are kept in the cache, and made again where the GPU,
    TensorRT, CUDA or the artifact is another one.

    Coral: on any x86-64 host with edgetpu_compiler, or with --compiled, writes ARTIFACT anew with the compiled file in
    it, as NAME-compiled.gsv.

    Exit code 5 when a check fails, 6 when ARTIFACT was made for another device.
    """
    from gsvexport.device.complete import complete, completing
    from gsvexport.device.finish import finish
    from gsvexport.errors import GateFailed, InputError

    if module := completing(artifact):
        if cache != "auto":
            raise InputError(f"{artifact} has no engine that writes a cache in place", fix="leave --cache out")
        report, place = complete(artifact, module, out=out, compiled=compiled, key=key, progress=progress)
        echo(f"{module.summary(report)}\n{module.how_to_send(place)}")
        return 0
    if compiled is not None:
        raise InputError(f"{artifact} has nothing that edgetpu_compiler compiles", fix="leave --compiled out")
    how: dict[str, Any] = {"out": out, "cache": cache, "any_machine": any_machine, "key": key}
    report, _, told = finish(artifact, **how, allow_unsigned=allow_unsigned, progress=progress)
    echo(told)
    return 0 if report["passed"] else GateFailed.exit_code


cli.add_command(inspect)


@cli.command()
@click.argument("baseline", type=_PATH)
@click.argument("candidate", type=_PATH)
@_margin
@_growth
@click.option("--other-voice", is_flag=True, help="Also two voices, on one target.")
@_heard
@click.option("--all", "everything", is_flag=True, help="Show what came out the same, too.")
@click.option("--json", "as_json", is_flag=True, help="The comparison as JSON.")
def compare(
    baseline: Path,
    candidate: Path,
    margin: float,
    growth: float,
    other_voice: bool,
    heard: Path | None,
    everything: bool,
    as_json: bool,
) -> int:
    """Is CANDIDATE worse than BASELINE? Nothing is run.

    Puts the reports and manifests of two artifacts of one voice side by side: sizes by stage, precisions, digests, and
    every check with both values and the share of its limit that it uses up.

    CANDIDATE is worse where a check fails, is gone, did not run or has no limit any more, where it uses up more than
    --margin of the baseline's limit beyond what the baseline does, and where the file grew by more than --growth.

    \b
    Example, in CI:
      gsvexport compare released/alice-x86-64.gsv dist/alice-x86-64.gsv --growth 2

    Exit code 0 when it is no worse, 5 with the reasons when it is, 2 for two different voices.
    """
    from gsvexport.cli import reports
    from gsvexport.report.rule import Tolerance

    tolerance = Tolerance(margin / 100, growth / 100)
    return reports.compare(
        baseline, candidate, tolerance, other_voice=other_voice, everything=everything, as_json=as_json, heard=heard
    )


cli.add_command(listen)
cli.add_command(say)
cli.add_command(phrases)
cli.add_command(serve)
cli.add_command(bench)


@cli.command()
@click.option("--prune", is_flag=True, help="Remove finished steps, unpacked artifacts and leftovers.")
@click.option("--older-than", type=Finite(0, 36_500), default=0, metavar="DAYS", help="Only what was not used since.")
def cache(prune: bool, older_than: float) -> None:
    """Show, or prune, what is kept to be made only once."""
    from gsvexport.cli.show import cache_page, prune_cache

    echo(prune_cache(older_than) if prune else cache_page(), nl=False)


for _command in (doctor, bake, unpack, release, key, sign, publish, withdraw, pull, gc, onboard):
    cli.add_command(_command)
