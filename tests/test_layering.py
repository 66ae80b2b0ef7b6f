"""The direction of imports, read from the syntax tree: a module imports what stands in an earlier layer, or its own."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "gsvexport"
LAYERS = (
    ("errors",),
    ("reading", "schema"),
    ("external", "files", "held", "progress"),
    ("stages", "tables"),
    ("model", "target", "artifact", "text", "demo"),
    ("audio", "fbank", "loudness"),
    ("cloning",),
    ("voice",),
    ("synthetic",),
    ("graphs",),
    ("source",),
    ("passes",),
    ("backends",),
    ("carried",),
    ("runtime",),
    ("registry",),
    ("emulate",),
    ("calibrate",),
    ("verify",),
    ("plan", "store"),
    ("inputs",),
    ("explain",),
    ("pack", "shrink", "unpacking"),
    ("finish", "complete"),
    ("emulate",),
    ("build",),
    ("bench", "report", "reproduce", "rebake"),
    ("release",),
    ("cli",),
    ("train",),
    ("crosscheck",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FACADE = {"__init__.py", "__main__.py"}  # the public names, found lazily, and `python -m`
# May not be imported when a module of the device side is: a device has numpy and its backend's runtime.
DEVICE = (
    *(
        "errors.py",
        "reading.py",
        "schema.py",
        "files.py",
        "stages.py",
        "model.py",
        "text",
        "runtime",
        "artifact",
        "registry",
    ),
    *("backends/__init__.py", "cloning.py", "fbank.py"),
)
COMPILE_ONLY = {"onnx", "onnx_ir", "onnxscript", "safetensors", "torch", "soundfile", "filelock", "click"}
TORCH = ("voice/networks", "synthetic", "train")
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


def test_a_wrong_import_would_be_seen(tmp_path):
    module = tmp_path / "errors.py"
    module.write_text("from gsvexport.cli import main\ndef f():\n    import torch\n")
    assert sorted(imports(module)) == [(1, "gsvexport.cli.main"), (3, "torch")]
    assert imports(module, top_level=True) == [(1, "gsvexport.cli.main")]
