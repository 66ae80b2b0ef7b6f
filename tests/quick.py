"""Which test modules `make quick` runs: those that build nothing, emulate nothing and start no command line.

Nobody keeps a list. A module is left out where it, or a helper of tests/ or a fixture that it uses, reaches for one of
`BUILDS`, as its text shows; so a new module is in or out by what it does. What is slow for another reason says so with
`pytestmark = pytest.mark.slow`.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parent
# Modules, or names in them, that make voices, graphs or artifacts, run them, or load what takes seconds to load.
BUILDS = (
    "building",
    "faster_whisper",
    "gsvexport.bench",
    "gsvexport.calibrate.calibrate",
    "gsvexport.compiler.build",
    "gsvexport.compiler.inputs",
    "gsvexport.compiler.rebake",
    "gsvexport.compiler.reproduce",
    "gsvexport.compiler.source",
    "gsvexport.demo",
    "gsvexport.emulate",
    "gsvexport.graphs",
    "gsvexport.runtime.pipeline.load",
    "gsvexport.slim.run",
    "gsvexport.synthetic",
    "gsvexport.train",
    "gsvexport.verify.recogniser",
    "gsvexport.verify.speaker",
    "gsvexport.voice.networks",
    "moto",
    "subprocess",
    "torch",
    "transformers",
)


def is_quick(path: Path) -> bool:
    """Whether a test module builds nothing."""
    return not builds(path) and not (_wanted(path) & _fixtures_that_build(path.parent))


@functools.cache
def builds(path: Path) -> bool:
    """Whether a module, or one of tests/ that it takes names from, reaches for something that builds."""
    return any(_heavy(name, path.parent) for name in _imported(path))


def _heavy(name: str, folder: Path) -> bool:
    """Whether a dotted name is, or comes from, something that builds."""
    if any(name == one or name.startswith(f"{one}.") for one in BUILDS):
        return True
    module, _, taken = name.rpartition(".")
    for place in (TESTS, folder):
        if module and (file := place.joinpath(*module.split(".")).with_suffix(".py")).is_file():
            return taken in _names_that_build(file)
        if (file := place.joinpath(*name.split(".")).with_suffix(".py")).is_file():
            return bool(_names_that_build(file))
    return False


@functools.cache
def _names_that_build(path: Path) -> frozenset[str]:
    """The functions and classes of a helper module, fixtures among them, that reach for something that builds, by
    themselves or by another one."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    heavy = {alias for alias, name in _aliases(tree) if _heavy(name, path.parent)}
    while True:
        found = {
            node.name
            for node in tree.body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))
            and heavy & (_used(node, path.parent) | _arguments(node))
        }
        if found <= heavy:
            return frozenset(heavy)
        heavy |= found


def _fixtures_that_build(folder: Path) -> set[str]:
    """Names of fixtures in the conftest.py files that hold for a folder."""
    files = (one / "conftest.py" for one in (folder, *folder.parents) if one.is_relative_to(TESTS))
    return {name for file in files if file.is_file() for name in _names_that_build(file)}


@functools.cache
def _wanted(path: Path) -> frozenset[str]:
    """Names of arguments of all functions of a module: the fixtures are among them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(name for node in ast.walk(tree) for name in _arguments(node))


def _arguments(node: ast.AST) -> set[str]:
    return {one.arg for one in node.args.args} if isinstance(node, ast.FunctionDef) else set()


def _used(node: ast.AST, folder: Path) -> set[str]:
    """Names in the text of a function, and of what it imports itself."""
    names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return names | {alias for alias, name in _aliases(node) if _heavy(name, folder)}


def _imported(path: Path) -> Iterator[str]:
    for _, name in _aliases(ast.parse(path.read_text(encoding="utf-8"))):
        yield name


def _aliases(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(name here, dotted name) of all that is imported; `import a.b` brings `a`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((one.asname or one.name.partition(".")[0], one.name) for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((one.asname or one.name, f"{node.module}.{one.name}") for one in node.names)
