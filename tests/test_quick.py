"""What `make quick` leaves out, computed from what test modules say they use."""

import pytest
import quick
from building import ROOT


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(quick, "TESTS", tmp_path)
    (tmp_path / "making.py").write_text(
        "from gsvexport.synthetic import write_voice\ndef voice(path): return write_voice(path)\n"
        "def other(path): return voice(path)\ndef words(): return 'none'\n"
    )
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "conftest.py").write_text(
        "import pytest\nfrom making import other\n"
        "@pytest.fixture\ndef source(tmp_path): return other(tmp_path)\n"
        "@pytest.fixture\ndef opened(source): return source\n"
        "@pytest.fixture\ndef number(): return 3\n"
    )
    return tmp_path / "room" / "test_new.py"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import numpy\nfrom gsvexport.errors import GsvError\ndef test_a(number): pass\n", True),
        ("from making import words\n", True),
        ("from making import voice\n", False),
        ("from making import other\n", False),
        ("import making\n", False),
        ("def test_a(source): pass\n", False),
        ("def test_a(opened): pass\n", False),
        ("import subprocess\n", False),
        ("def test_a():\n    import torch\n", False),
        ("from gsvexport.compiler.build import build\n", False),
        ("from gsvexport.compiler import build\n", False),
        ("from building import gsvexport\n", False),
    ],
)
def test_a_new_module_is_in_or_out_by_what_it_does(place, text, expected):
    place.write_text(text)
    assert quick.is_quick(place) == expected


def test_it_is_a_good_part_of_the_tests_and_builds_nothing():
    modules = sorted((ROOT / "tests").rglob("test_*.py"))
    chosen = {path.relative_to(ROOT / "tests").as_posix() for path in modules if quick.is_quick(path)}
    assert len(chosen) > len(modules) / 3
    assert {"verify/test_metrics.py", "target/test_target.py", "text/test_english.py"} <= chosen
    assert not {"compiler/test_build.py", "emulate/test_arm_kernels.py", "test_wheel.py", "cli/test_cli.py"} & chosen
