"""What examples/ shows works, and every command that a page or an example names is one that exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import wave

import click
import numpy as np
import pytest
from building import ROOT, command, gsvexport
from passes.graphs import graph, normal, operators
from passes.graphs import run as run_graph

from gsvexport.cli import _with_default
from gsvexport.cli.commands import cli
from gsvexport.compiler.inputs import export_source
from gsvexport.passes.base import run_passes
from gsvexport.synthetic import write_voice
from gsvexport.target.target import read_target

EXAMPLES = ROOT / "examples"
_COMMAND = re.compile(r"^(gsvexport(?: .+)?)$")
_INLINE = re.compile(r"`([^`]+)`")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    base = tmp_path_factory.mktemp("examples")
    voice = write_voice(base / "alice", "v2")
    done = gsvexport(base / "cache", "--target", "x86-64", voice, "-o", base / "out", "-q")
    assert done.returncode == 0, done.stderr
    return base, next((base / "out").glob("*.gsv"))


def run(base, line, *, folder):
    environment = command(base / "cache")[1]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(("script", "said"), [("speak.py", "Hello."), ("stages.py", "HH AH0 L OW1 .")])
def test_an_example_speaks(built, tmp_path, script, said):
    base, artifact = built
    done = run(base, [sys.executable, EXAMPLES / script, artifact, said, "out.wav"], folder=tmp_path)
    assert done.returncode == 0, done.stderr
    with wave.open(str(tmp_path / "out.wav")) as file:
        assert file.getnframes() > file.getframerate() / 10


def test_the_example_pass_keeps_what_a_graph_computes(built, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    from a_pass import DropIdentity

    nodes = [("Identity", ["x"], ["a"], {}), ("Add", ["a", "x"], ["b"], {}), ("Identity", ["b"], ["y"], {})]
    model = graph(nodes, {"x": [2]}, {"y": [2]}, {})
    result = run_passes(model, [DropIdentity()])
    assert operators(result.model) == {"Add": 1}
    np.testing.assert_array_equal(run_graph(result.model, {"x": normal(2)})["y"], 2 * normal(2))
    stage = export_source(built[0] / "alice", tmp_path / "source").path / "vocoder.onnx"
    done = run(built[0], [sys.executable, EXAMPLES / "a_pass.py", stage], folder=tmp_path)
    assert "drop-identity: 0 changes" in done.stdout, done.stderr


def test_the_example_board_is_a_target():
    assert read_target(str(EXAMPLES / "my-board.toml")).limits.seconds == 15


def test_another_teams_makefile_makes_a_release(built, tmp_path):
    base, _ = built
    line = ["make", "-f", EXAMPLES / "Makefile", f"GSVEXPORT={sys.executable} -m gsvexport", "TARGETS=x86-64"]
    done = run(base, [*line, f"VOICES={base / 'alice'}", "FLAGS=--quiet --compress fast"], folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "dist" / "release" / "overview.html").is_file()


def pages():
    return (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))


def code_lines(text):
    """(number, line) of code: lines of a fenced block, lines that four spaces indent, and code within a sentence. A
    line that ends with a backslash goes on in the next one."""
    fenced, begun = False, None
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
            continue
        if not fenced and not line.startswith("    "):
            yield from ((number, code) for code in _INLINE.findall(line))
            continue
        line = (begun[1] + line.lstrip()) if begun else line.strip()
        begun = (begun[0] if begun else number, line.removesuffix("\\")) if line.endswith("\\") else None
        if not begun:
            yield number, line


def shown(pattern):
    for path in pages():
        for number, line in code_lines(path.read_text(encoding="utf-8")):
            if found := pattern.match(line):
                yield pytest.param(found[1], id=f"{path.name}:{number}")
    for path in sorted(path for path in EXAMPLES.rglob("*") if path.is_file() and path.suffix != ".pyc"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if found := pattern.match(re.sub(r"^(?:    | *- run: |\$\()", "", line)):
                yield pytest.param(found[1], id=f"{path.name}:{number}")


@pytest.mark.parametrize("line", [*shown(_COMMAND)])
def test_a_shown_command_has_only_options_that_exist(line):
    line = re.split(r"\s+#|\s{3,}|;|\s\||&&|…\)?$", line)[0].replace("[", "").replace("]", "").replace("…", "")
    first, *rest = shlex.split(line)[1:] or ["--help"]
    if first.isupper():  # a word that stands for any command
        return
    name, *arguments = _with_default([first, *rest], cli)
    if name.startswith("-"):
        return
    found = cli.get_command(click.Context(cli), name)
    if found is None:
        raise click.UsageError(f"no command {name}")
    while isinstance(found, click.Group) and arguments and not arguments[0].startswith("-"):
        found = found.commands[arguments.pop(0)]
    options = {text for parameter in found.params for text in parameter.opts if text.startswith("-")}
    options |= {"-h", "--help"}
    assert {one.split("=")[0] for one in arguments if one.startswith("-") and len(one) > 1} <= options


@pytest.mark.parametrize("line", [*shown(re.compile(r"^(make(?: .*)?)$"))])
def test_a_shown_make_has_a_rule(line):
    words = shlex.split(line, comments=True)[1:]
    file = ROOT / (words.pop(words.index("-f") + 1) if "-f" in words else "Makefile")
    names = {word for word in words if "=" not in word and not word.startswith(("-", "…"))}
    rules = re.findall(r"^([a-z0-9 -]+):", file.read_text(encoding="utf-8"), re.M)
    assert names <= {rule for found in rules for rule in found.split()}
    used = set(re.findall(r"\$\$?\((?:value )?([A-Z_]+)\)", file.read_text(encoding="utf-8")))
    assert {word.partition("=")[0] for word in words if "=" in word} <= used


@pytest.mark.parametrize("line", [*shown(re.compile(r"^(?:PYTHONPATH=\S+ )?python3? (-m gsvexport\S*|\S+/\S+\.py)"))])
def test_a_shown_python_program_is_there(line):
    module = line.removeprefix("-m ").replace(".", "/") if line.startswith("-m ") else line
    places = (ROOT / f"{module}.py", ROOT / module / "__main__.py", ROOT / module)
    assert any(place.is_file() for place in places), line


@pytest.mark.parametrize("line", [*shown(re.compile(r"^pip install .*?'?\.\[([^\]]+)\]"))])
def test_a_shown_extra_is_one(line):
    extras = re.findall(r"^([a-z0-9-]+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    assert set(line.split(",")) <= set(extras)


@pytest.mark.parametrize(
    "text",
    [
        "Say `gsvexport say A.gsv hello`.",
        "    gsvexport say A.gsv hello",
        "```sh\ngsvexport say \\\n  A.gsv hello\n```",
        "1. one\n\n    ```\n    gsvexport say A.gsv hello\n    ```",
    ],
)
def test_a_command_is_found_wherever_a_page_shows_it(text):
    assert [line for _, line in code_lines(text)] == ["gsvexport say A.gsv hello"]


def test_an_option_that_does_not_exist_would_be_seen():
    with pytest.raises(AssertionError):
        test_a_shown_command_has_only_options_that_exist("gsvexport say A.gsv --louder")
    with pytest.raises(click.UsageError):
        test_a_shown_command_has_only_options_that_exist("gsvexport sya A.gsv")
