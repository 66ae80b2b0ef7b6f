"""The command line. Importing it costs click alone; each command imports what it needs when it runs."""

from __future__ import annotations

import difflib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from gsvexport.errors import GsvError

INTERRUPTED, TERMINATED, DEFECT, USAGE = 130, 143, 70, 2


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and leave the process with its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code. Every failure is one message on standard error."""
    try:
        from gsvexport.cli.commands import cli

        result = cli.main(_with_default(arguments, cli), prog_name="gsvexport", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.UsageError as error:
        error.show()
        return USAGE
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("gsvexport: interrupted; nothing unfinished was left behind", err=True)
        return INTERRUPTED
    except GsvError as error:
        _debug()
        click.echo(f"gsvexport: {error}", err=True)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at exit
        return 0
    except Exception as error:
        _debug()
        click.echo(
            f"gsvexport: a defect in gsvexport: {type(error).__name__}: {error}\n"
            "  fix:   please report it, with what GSVEXPORT_DEBUG=1 in the environment prints for the same command",
            err=True,
        )
        return DEFECT


def _with_default(arguments: Sequence[str], group: click.Group) -> list[str]:
    """Without a command's name, the command is `build`; what is nearly one, and no voice that exists, is a slip."""
    first = arguments[0] if arguments else "--help"
    known = first in group.commands or first in ("--help", "-h", "--version")
    if known:
        return list(arguments or ["--help"])
    meant = difflib.get_close_matches(first, group.commands, 1)
    if meant and not first.startswith("-") and not os.path.exists(first):
        raise click.UsageError(f"there is no command '{first}'; did you mean '{meant[0]}'?")
    return ["build", *arguments]


def _stop(number: int, frame: Any) -> NoReturn:
    """Unwind, so that what is unfinished gets removed; a second signal would leave the rest of it behind."""
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(TERMINATED)


def _debug() -> None:
    if os.environ.get("GSVEXPORT_DEBUG"):
        traceback.print_exc()
