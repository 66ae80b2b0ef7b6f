"""The files to run a server by: what they say is what the command takes."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from gsvexport.cli.serve import serve
from gsvexport.errors import InputError
from gsvexport.serve.settings import PREFIX, Settings, read_settings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "serve"
UNIT = FOLDER / "gsvexport.service"


def instructions():
    """The container file as (instruction, arguments)."""
    text = re.sub(r"\\\n", " ", (FOLDER / "Containerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(None, 1)) for line in lines]


def command(line):
    """The options of a line that runs `gsvexport serve`."""
    program, name, *arguments = line
    assert program.endswith("/bin/gsvexport")
    assert name == "serve"
    return serve.make_context("serve", list(arguments)).params


def test_the_settings_are_those_that_are_known():
    file = read_settings({}, FOLDER / "serve.toml")
    assert file.voices == ("/srv/voices",)
    usual = Settings(voices=file.voices)
    assert file == usual  # what stands there is what goes without it


def test_the_container_file():
    found = instructions()
    names = [name for name, _ in found]
    for name, what in found:
        if name == "FROM":
            image = what.split()[0]
            assert "/" in image
            assert re.search(r":\d[\w.-]+$", image), f"{image} is not pinned"
        elif name == "COPY" and "--from" not in what:
            *sources, _ = what.split()
            assert all((ROOT / one).exists() for one in sources), what
        elif name in ("ENTRYPOINT", "CMD", "VOLUME"):
            json.loads(what)
        assert name != "ADD"
        assert not re.search(r"curl|wget|sudo|--privileged|API_KEY", what)
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert dict(found)["USER"] not in ("0", "root")
    given = command(json.loads(dict(found)["ENTRYPOINT"]))
    copied = [what.split() for name, what in found if name == "COPY" and str(given["config"]) in what]
    assert copied == [["examples/serve/serve.toml", str(given["config"])]]
    environment = dict(one.split("=", 1) for name, what in found if name == "ENV" for one in what.split())
    with pytest.raises(InputError, match="no API key"):  # of a container that nobody gave one
        read_settings({}, FOLDER / "serve.toml", environment)
    settings = read_settings({}, FOLDER / "serve.toml", {**environment, f"{PREFIX}API_KEY": "k" * 32})
    assert settings.host == "0.0.0.0"
    assert dict(found)["EXPOSE"] == str(settings.port)
    assert f"127.0.0.1:{settings.port}/readyz" in dict(found)["HEALTHCHECK"]


def test_the_unit():
    unit = ConfigParser(strict=False, interpolation=None, comment_prefixes="#")
    unit.optionxform = str
    text = re.sub(r"^Environment=", "Environment0=", UNIT.read_text(), count=1, flags=re.MULTILINE)
    unit.read_string(text)
    service = unit["Service"]
    given = command(shlex.split(service["ExecStart"]))
    assert str(given["config"]) in UNIT.read_text().partition("[Unit]")[0]  # told how it comes there
    assert int(service["TimeoutStopSec"]) > Settings().grace
    assert int(service["LimitNOFILE"]) > 2 * Settings().connections
    assert "-HUP" in service["ExecReload"]
    assert "GSVEXPORT_CONFIG=%S/" in service["Environment0"]
    assert "GSVEXPORT_CACHE=%C/" in service["Environment0"]
    with_key = [line.removeprefix("#") for line in UNIT.read_text().splitlines() if "api-key" in line and "=" in line]
    names = [one.split("=")[1] for one in with_key if one.startswith("Environment")]
    assert [name.removeprefix(PREFIX).lower() for name in names] == ["api_key_file"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_takes_the_unit(tmp_path):
    here = tmp_path / UNIT.name
    program = shutil.which("true")
    here.write_text(UNIT.read_text().replace("/opt/gsvexport/bin/gsvexport", program))
    done = subprocess.run(["systemd-analyze", "verify", here], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    here.write_text(here.read_text().replace("ProtectSystem=strict", "ProtectSystme=strict"))
    done = subprocess.run(["systemd-analyze", "verify", here], capture_output=True, text=True)
    assert "ProtectSystme" in done.stderr  # it would say so
