"""A Ctrl-C in the middle of opening a file stays a Ctrl-C: it must not become an error of that file."""

import sys

import pytest

from gsvexport.untrusted.reading import opened


def interrupted(step, work):
    """Run `work` with a KeyboardInterrupt at its `step`-th bytecode; returns whether it had as many."""
    seen = 0

    def trace(frame, event, arg):
        nonlocal seen
        frame.f_trace_opcodes = True
        seen += 1
        if seen == step:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return seen >= step


def test_at_whichever_step_a_file_is_opened(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"data")
    steps = 1
    while True:
        try:
            if not interrupted(steps, lambda: opened(path).close()):
                break
        except KeyboardInterrupt:
            pass
        except OSError as error:
            pytest.fail(f"interrupted at step {steps}: {error!r}")
        steps += 1
    assert steps > 20
