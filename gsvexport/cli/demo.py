"""What `make demo` ends with: what was made, what was proved, and how to hear it.

python -m gsvexport.cli.demo ARTIFACT VERIFIED.json SOUND PAGE TEXT
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from gsvexport.cli.echo import echo
from gsvexport.errors import GsvError
from gsvexport.report.margins import used
from gsvexport.report.stored import read_stored
from gsvexport.untrusted.reading import LARGEST_JSON, parse_json, read_bytes
from gsvexport.verify.report import Report

_PLAYERS = {  # what plays a file here and then ends
    "aplay": "aplay {}",
    "paplay": "paplay {}",
    "afplay": "afplay {}",
    "ffplay": "ffplay -nodisp -autoexit {}",
    "powershell": "powershell -c (New-Object Media.SoundPlayer {}).PlaySync()",
}


def ending(
    artifact: Path, verified: Report, sound: Path, page: Path, text: str, which: Callable[[str], object] = shutil.which
) -> str:
    """The last lines. `verified` is what this machine measured, `which` finds programs.

    Raises:
        ArtifactError: the artifact cannot be read.
    """
    stored = read_stored(artifact)
    built = stored.report or Report(())
    return "\n".join(
        (
            "",
            f"made    {artifact}  {stored.size / 1e6:.1f} MB: {stored.voice} for {stored.target}",
            f"proved  built:    {_counts(built)}",
            f"        here:     {_counts(verified)}",
            f"        nearest:  {_nearest(verified)}",
            f"says    {text}",
            f"hear    {_player(sound, which)}",
            f"look    {page}, in a browser: every check, spectrograms, players",
            "",
        )
    )


def _counts(report: Report) -> str:
    """How the checks went."""
    counts = {name: sum(check.status == name for check in report.checks) for name in ("pass", "fail", "not_run")}
    return f"{counts['pass']} checks passed, {counts['fail']} failed, {counts['not_run']} not run"


def _nearest(report: Report) -> str:
    """The check that has the least room left."""
    shares = [(share, one) for one in report.checks if (share := used(one)) is not None and one.status == "pass"]
    if not shares:
        return "no check has a limit"
    share, check = max(shares, key=lambda pair: pair[0])
    sign = "at most" if check.direction == "max" else "at least"
    where = f"{check.stage}.{check.metric} = {check.worst:g}"
    return f"{where}, {sign} {check.limit:g} ({share:.0%} of its limit used)"


def _player(sound: Path, which: Callable[[str], object]) -> str:
    found = next((line for name, line in _PLAYERS.items() if which(name)), None)
    return found.format(shlex.quote(str(sound))) if found else f"open {sound} in any player"


def main(arguments: list[str]) -> int:
    """Print the ending; returns an exit code, those of gsvexport."""
    artifact, verified, sound, page = map(Path, arguments[:4])
    try:
        report = Report.from_json(parse_json(read_bytes(verified, LARGEST_JSON)), str(verified))
        echo(ending(artifact, report, sound, page, arguments[4]), nl=False)
    except GsvError as error:
        echo(f"gsvexport: {error}", err=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
