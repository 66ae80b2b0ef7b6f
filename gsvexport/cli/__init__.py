"""The command line. Importing it costs click alone; each command imports what it needs when it runs."""

from __future__ import annotations

import _thread
import contextlib
import difflib
import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import click

from gsvexport.cli.echo import echo, readable
from gsvexport.errors import EnvironmentProblem, GsvError

INTERRUPTED, TERMINATED, DEFECT, USAGE, MACHINE = 130, 143, 70, 2, EnvironmentProblem.exit_code

_asked: int | None = None  # the signal that asked this process to stop
_AGAIN = 0.05  # seconds


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and leave the process with its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    sys.unraisablehook = _lost
    if sys.platform != "win32":
        with contextlib.suppress(ValueError, OSError):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # ulimit -f: an error to tell, not an end without a word
    readable()
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code. Every failure is one message on standard error."""
    try:
        with _stop_comes_first():
            from gsvexport.cli.commands import cli

            result = cli.main(_with_default(arguments, cli), prog_name="gsvexport", standalone_mode=False)
            _flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.UsageError as error:
        _usage(error)
        return USAGE
    except click.ClickException as error:
        _say(f"Error: {error.format_message()}")
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _say("gsvexport: interrupted; nothing unfinished was left behind")
        # Where it interrupted an eval(), Python remembers that, and kills itself in the end; another eval() forgets it.
        eval("None")
        return INTERRUPTED
    except GsvError as error:
        _debug()
        _say(f"gsvexport: {error}")
        return error.exit_code
    except MemoryError:
        _debug()
        _say("gsvexport: memory ran out\n  fix:   close other programs, or use a machine with more memory")
        return MACHINE
    except OSError as error:
        _debug()
        return _machine(error)
    except Exception as error:
        _debug()
        _say(
            f"gsvexport: a defect in gsvexport: {type(error).__name__}: {error}\n"
            "  fix:   please report it, with what GSVEXPORT_DEBUG=1 in the environment prints for the same command"
        )
        return DEFECT


def _machine(error: OSError) -> int:
    """What the machine did not do, and nothing above has words for; the exit code."""
    if isinstance(error, BrokenPipeError):
        _silence()  # or Python complains once more at exit
        return 0
    known = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk's quota is used up",
        errno.EFBIG: "a file became larger than is allowed here (ulimit -f)",
        errno.EMFILE: "too many files are open (ulimit -n)",
        errno.ENFILE: "the system has too many files open",
        errno.EBADF: "standard output, or another file that is written to, is closed",
        errno.EIO: "a disk, or a device, failed",
    }
    place = f": {error.filename}" if error.filename else ""
    fix = "free some space, or write to another place" if error.errno in known else "look at that, and try again"
    _say(f"gsvexport: {known.get(error.errno or 0, error.strerror or type(error).__name__)}{place}\n  fix:   {fix}")
    _silence()
    return MACHINE


def _flush() -> None:
    """Write out what was printed, while an error of it can still be told."""
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()


def _silence() -> None:
    """Let nothing more be written to standard output: it is closed, full, or nobody reads it."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _say(text: str) -> None:
    """A message on standard error, as far as there is one."""
    with contextlib.suppress(OSError, ValueError):
        echo(text, err=True)


def _usage(error: click.UsageError) -> None:
    usage = f"{error.ctx.get_usage()}\n" if error.ctx is not None else ""
    _say(f"{usage}Error: {error.format_message()}")


def _with_default(arguments: Sequence[str], group: click.Group) -> list[str]:
    """Without a command's name, the command is `build`; what is nearly one, and no voice that exists, is a slip."""
    first = arguments[0] if arguments else "--help"
    known = first in group.commands or first in ("--help", "-h", "--version")
    if known:
        return list(arguments or ["--help"])
    meant = difflib.get_close_matches(first, group.commands, 1)
    if meant and not first.startswith("-") and not os.path.exists(first):
        raise click.UsageError(f"there is no command '{first}'; did you mean '{meant[0]}'?")
    targeted = any(one == "-t" or one.startswith(("--target", "-t=")) for one in arguments)
    if not first.startswith("-") and not targeted and not os.path.exists(first):
        raise click.UsageError(
            f"there is no command '{first}', and no voice there; gsvexport --help lists the commands"
        )
    return ["build", *arguments]


def _stop(number: int, frame: Any) -> NoReturn:
    """Unwind, so that what is unfinished gets removed; a second signal would leave the rest of it behind."""
    global _asked
    _asked = number
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    raise _end(number)


def _end(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(TERMINATED)


@contextlib.contextmanager
def _stop_comes_first() -> Iterator[None]:
    """Whatever fails because it was stopped, a library that was in the middle of something say, was stopped."""
    try:
        yield
    except Exception as error:
        if _asked is None:
            raise
        raise _end(_asked) from error


def _lost(found: sys.UnraisableHookArgs) -> None:
    """Stop once more where the exception of a stop got lost: a finalizer or a callback of a C library cannot raise."""
    if _asked is None or not isinstance(found.exc_value, (KeyboardInterrupt, SystemExit)):
        sys.__unraisablehook__(found)
        return
    signal.signal(_asked, _stop)
    again = threading.Timer(_AGAIN, _thread.interrupt_main, (_asked,))
    again.daemon = True
    again.start()


def _debug() -> None:
    if os.environ.get("GSVEXPORT_DEBUG"):
        traceback.print_exc()
