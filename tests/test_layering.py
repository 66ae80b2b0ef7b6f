"""The direction of imports, read from the syntax tree: a module imports what stands in an earlier layer, or its own."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "gsvexport"
LAYERS = (
    ("errors", "stages"),
    ("system",),
    ("untrusted",),
    ("files", "progress"),
    ("model", "target", "artifact", "text"),
    ("signal",),
    ("voice",),
    ("synthetic", "graphs", "passes"),
    ("npu",),
    ("backends", "demo"),
    ("runtime", "registry"),
    ("calibrate",),
    ("verify",),
    ("compiler",),
    ("device", "emulate", "bench", "report", "crosscheck", "train"),
    ("release", "serve", "slim", "phrases"),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FACADE = {"__init__.py", "__main__.py"}  # the public names, found lazily, and `python -m`
# May not be imported when a module of the device side is: a device has numpy and its backend's runtime.
DEVICE = (
    *(
        "errors.py",
        "system",
        "files.py",
        "stages.py",
        "model.py",
        "untrusted",
        "text",
        "runtime",
        "artifact",
        "registry",
    ),
    *("backends/__init__.py", "backends/declaration.py", "npu/windows.py", "signal/cloning.py", "signal/fbank.py"),
)
COMPILE_ONLY = {"onnx", "onnx_ir", "onnxscript", "safetensors", "torch", "soundfile", "click"}
TORCH = ("voice/networks", "synthetic", "train", "slim")
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).as_posix() not in FACADE)


def imports(path, *, top_level=False):
    """(line, dotted name) of everything a module imports; `top_level` leaves out functions and TYPE_CHECKING blocks."""
    found = []
    pending = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
        skip = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        )
        if not (top_level and skip):
            pending += ast.iter_child_nodes(node)
    return found


def layer(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules(package=PACKAGE):
    """Every module by its dotted name, facades left out: what they hand on is imported lazily."""
    found = {}
    for path in package.rglob("*.py"):
        name = ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
        if name not in (package.name, f"{package.name}.__main__"):
            found[name] = path
    return found


def arrows(found):
    """Module → the modules that it imports, anywhere in its text."""
    to = {}
    for name, path in found.items():
        targets = set()
        for _, wanted in imports(path):
            while wanted and wanted not in found:
                wanted = wanted.rpartition(".")[0]
            targets |= {wanted} - {"", name}
        to[name] = targets
    return to


def circles(to):
    """The sets of names that lead to each other (Tarjan's strongly connected components of more than one)."""
    order, low, stack, found = {}, {}, [], []

    def visit(name):
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in sorted(to.get(name, ())):
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            at = stack.index(name)
            if len(part := stack[at:]) > 1:
                found.append(sorted(part))
            del stack[at:]

    for name in sorted(to):
        if name not in order:
            visit(name)
    return found


def rooms(to):
    """The same arrows between rooms: the folders and loose files of the package, each backend a room of its own."""

    def room(name):
        parts = name.split(".")
        inner = parts[1] == "backends" and len(parts) > 2 and (PACKAGE / "backends" / parts[2]).is_dir()
        return ".".join(parts[1 : 3 if inner else 2])

    found = {room(name): set() for name in to}
    for name, others in to.items():
        found[room(name)] |= {room(other) for other in others} - {room(name)}
    return found


def floors(found):
    """How many floors rooms without circles stand on: each above all that it imports."""
    level = {}

    def of(room):
        if room not in level:
            level[room] = 1 + max((of(other) for other in found[room]), default=0)
        return level[room]

    return max(map(of, found), default=0)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_run_one_way(path):
    own = layer(path)
    assert own in RANK, f"{own} has no place in LAYERS"
    for line, name in imports(path):
        if name.startswith("gsvexport.") and (other := name.split(".")[1]) != own and other in RANK:
            assert RANK[other] < RANK[own], f"{path}:{line}: {own} imports {other}, which stands above it"


def test_backends_do_not_import_each_other():
    for path in (PACKAGE / "backends").glob("*/*.py"):
        for line, name in imports(path):
            parts = name.split(".")
            if parts[:2] == ["gsvexport", "backends"] and len(parts) > 2 and (PACKAGE / "backends" / parts[2]).is_dir():
                assert parts[2] == path.parent.name, f"{path}:{line}: imports backend {parts[2]}"


def test_the_device_side_needs_nothing_of_the_compile_side():
    files = [
        file
        for name in DEVICE
        for file in ([PACKAGE / name] if name.endswith(".py") else (PACKAGE / name).rglob("*.py"))
    ]
    files += (PACKAGE / "backends").glob("*/session.py")
    assert len(files) > 10
    for path in files:
        for line, name in imports(path):
            assert name.split(".")[0] not in COMPILE_ONLY, f"{path}:{line}: the device side imports {name}"


def test_torch_stays_where_it_belongs():
    for path in MODULES:
        if not path.relative_to(PACKAGE).as_posix().startswith(TORCH):
            assert not [line for line, name in imports(path) if name.split(".")[0] == "torch"], f"{path} imports torch"


def test_ray_is_imported_where_it_is_asked_for():
    found = {path for path in MODULES if "ray" in {name.split(".")[0] for _, name in imports(path)}}
    assert {path.relative_to(PACKAGE).as_posix() for path in found} == {
        "serve/cluster.py",
        "serve/replica.py",
        "system/cluster.py",
    }
    wanted = {"gsvexport.serve.cluster", "gsvexport.serve.replica"}
    for path in set(MODULES) - found:
        names = {name.rpartition(".")[0] for _, name in imports(path, top_level=True)}
        assert not names & wanted, f"{path} imports Ray although nobody asked for it"


def test_there_are_no_circles():
    to = arrows(modules())
    assert circles(to) == []
    assert circles(rooms(to)) == []


def test_a_circle_would_be_seen(tmp_path):
    package = tmp_path / "gsvexport"
    package.mkdir()
    (package / "a.py").write_text("from gsvexport import b\n")
    (package / "b.py").write_text("def f():\n    from gsvexport.c import g\n")
    (package / "c.py").write_text("import gsvexport.a\n")
    (package / "d.py").write_text("import gsvexport.a\n")
    assert circles(arrows(modules(package))) == [["gsvexport.a", "gsvexport.b", "gsvexport.c"]]


def test_a_wrong_import_would_be_seen(tmp_path):
    module = tmp_path / "errors.py"
    module.write_text("from gsvexport.cli import main\ndef f():\n    import torch\n")
    assert sorted(imports(module)) == [(1, "gsvexport.cli.main"), (3, "torch")]
    assert imports(module, top_level=True) == [(1, "gsvexport.cli.main")]


if __name__ == "__main__":  # python tests/test_layering.py: the house in figures
    houses = arrows(modules())
    found = rooms(houses)
    lines = [
        f"{len(houses)} modules, {sum(map(len, houses.values()))} arrows, circles: {circles(houses) or 'none'}",
        f"{len(found)} rooms on {floors(found)} floors, {sum(map(len, found.values()))} arrows",
        *(f"  {name} → {', '.join(sorted(found[name]))}" for name in sorted(found)),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
