"""What `pip install` gives: sdist and wheel are built, and the wheel speaks, far from the checkout it was made in.

Nothing is downloaded: the wheel is built without isolation, and its new environment borrows this one's packages.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from building import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
LEFT_OUT = shutil.ignore_patterns(".*", "build", "dist", "__pycache__", "*.egg-info")


def run(*command, cwd, **environment):
    """Run it where no variable and no folder leads back to the checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GSVEXPORT"))}
    kept["GSVEXPORT_DEMO"] = "small"
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The sdist, the wheel that is built from it alone, and the files of the package they came from."""
    base = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, base / "checkout", ignore=LEFT_OUT)
    run(sys.executable, "-m", "build", "--no-isolation", "-o", base / "dist", base / "checkout", cwd=base)
    files = {path.relative_to(base / "checkout").as_posix() for path in (base / "checkout/gsvexport").rglob("*.*")}
    return SimpleNamespace(
        sdist=base / "dist" / f"gsvexport-{VERSION}.tar.gz",
        wheel=base / "dist" / f"gsvexport-{VERSION}-py3-none-any.whl",
        files={name for name in files if (base / "checkout" / name).is_file()},
    )


@pytest.fixture(scope="module")
def installed(made, tmp_path_factory):
    """The folder of the programs of a new environment that has the wheel."""
    base = tmp_path_factory.mktemp("installed")
    builder = venv.EnvBuilder(with_pip=False)
    builder.create(base / "venv")
    python = Path(builder.ensure_directories(base / "venv").env_exe)
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", made.wheel, cwd=base)
    places = [place for place in sys.path if Path(place).name in ("site-packages", "dist-packages")]
    own = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=base).strip()
    (Path(own) / "borrowed.pth").write_text("\n".join(places), encoding="utf-8")  # their own .pth files are not read
    where = run(python, "-c", "import gsvexport; print(gsvexport.__file__)", cwd=base).strip()
    assert Path(where).is_relative_to(base / "venv")
    return python.parent


def test_the_wheel_holds_every_file_of_the_package_and_the_data_beside_it(made):
    inside = {name for name in zipfile.ZipFile(made.wheel).namelist() if ".dist-info/" not in name}
    data = {f"gsvexport/{path.relative_to(ROOT).as_posix()}" for path in ROOT.glob("targets/*.toml")}
    data |= {f"gsvexport/{path.relative_to(ROOT).as_posix()}" for path in ROOT.glob("calibration/*.toml")}
    assert len(data) > 40
    assert {name for name in inside if "." in Path(name).name} == made.files | data
    assert "gsvexport/py.typed" in inside


def test_the_sdist_holds_what_explains_and_tests_it(made):
    with tarfile.open(made.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "Makefile", "setup.py", "targets/x86-64.toml", "calibration/en.toml"} <= names
    assert {"docs/threat-model.md", "examples/speak.py", "tests/test_wheel.py"} <= names
    assert not [name for name in names if name.endswith(".pyc")]


def test_the_wheel_compiles_the_demo_voice_and_speaks_outside_of_the_checkout(installed, tmp_path):
    gsvexport, own = installed / "gsvexport", {"GSVEXPORT_CACHE": str(tmp_path / "cache")}
    assert run(gsvexport, "--version", cwd=tmp_path) == f"gsvexport {VERSION}\n"
    told = run(gsvexport, "--target", "x86-64-int8", cwd=tmp_path, **own)
    assert told.startswith("demo-x86-64-int8.gsv  ")
    run(gsvexport, "say", "demo-x86-64-int8.gsv", "Good morning.", "-o", "morning.wav", cwd=tmp_path, **own)
    assert (tmp_path / "morning.wav").read_bytes()[:4] == b"RIFF"
