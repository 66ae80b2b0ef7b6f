"""The files to run a server by: what they say is what the command takes."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import jsonschema
import pytest
import yaml

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


CONTAINER = {
    "type": "object",
    "required": ["name", "image", "resources"],
    "additionalProperties": False,
    "properties": {
        "name": {"pattern": "^[a-z0-9-]{1,63}$"},
        "image": {"pattern": r"^[\w./-]+:\d[\w.-]*$"},
        "env": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "additionalProperties": False,
                "properties": {
                    "name": {"pattern": "^[A-Z_]+$"},
                    "value": {"type": "string"},
                    "valueFrom": {
                        "type": "object",
                        "required": ["secretKeyRef"],
                        "additionalProperties": False,
                        "properties": {"secretKeyRef": {"type": "object", "required": ["name", "key"]}},
                    },
                },
            },
        },
        "ports": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["containerPort", "name"],
                "properties": {"containerPort": {"type": "integer"}, "name": {"pattern": "^[a-z-]{1,15}$"}},
            },
        },
        "resources": {
            "type": "object",
            "required": ["limits", "requests"],
            "additionalProperties": False,
            "properties": {
                name: {
                    "type": "object",
                    "required": ["cpu", "memory"],
                    "additionalProperties": False,
                    "properties": {
                        "cpu": {"type": "string", "pattern": "^[0-9]+m?$"},
                        "memory": {"type": "string", "pattern": "^[0-9]+(Mi|Gi)$"},
                    },
                }
                for name in ("limits", "requests")
            },
        },
        "volumeMounts": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "mountPath"],
                "additionalProperties": False,
                "properties": {"name": {}, "mountPath": {"pattern": "^/"}, "readOnly": {"type": "boolean"}},
            },
        },
    },
}
POD = {
    "type": "object",
    "required": ["spec"],
    "additionalProperties": False,
    "properties": {
        "spec": {
            "type": "object",
            "required": ["containers"],
            "additionalProperties": False,
            "properties": {
                "containers": {"type": "array", "minItems": 1, "items": CONTAINER},
                "volumes": {"type": "array", "items": {"type": "object", "required": ["name", "secret"]}},
            },
        }
    },
}
START = {"type": "object", "additionalProperties": {"type": "string"}}  # KubeRay takes strings alone
COUNT = {"type": "integer", "minimum": 0}
# What of the RayService of KubeRay (ray.io/v1) the file uses; whatever else stands there is a mistake in writing.
RAY_SERVICE = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayService"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "required": ["serveConfigV2", "rayClusterConfig"],
            "additionalProperties": False,
            "properties": {
                "serveConfigV2": {"type": "string"},
                "rayClusterConfig": {
                    "type": "object",
                    "required": ["rayVersion", "headGroupSpec"],
                    "additionalProperties": False,
                    "properties": {
                        "rayVersion": {"type": "string"},
                        "enableInTreeAutoscaling": {"type": "boolean"},
                        "headGroupSpec": {
                            "type": "object",
                            "required": ["rayStartParams", "template"],
                            "additionalProperties": False,
                            "properties": {"rayStartParams": START, "template": POD},
                        },
                        "workerGroupSpecs": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "required": ["groupName", "rayStartParams", "template"],
                                "additionalProperties": False,
                                "properties": {
                                    "groupName": {"pattern": "^[a-z0-9-]+$"},
                                    "replicas": COUNT,
                                    "minReplicas": COUNT,
                                    "maxReplicas": COUNT,
                                    "rayStartParams": START,
                                    "template": POD,
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


def ray_service():
    return yaml.safe_load((FOLDER / "kuberay.yaml").read_text())


def test_kubernetes_gets_a_ray_service():
    value = ray_service()
    jsonschema.validate(value, RAY_SERVICE)
    cluster = value["spec"]["rayClusterConfig"]
    version = re.search(r"ray\[serve\]==([\d.]+)", (ROOT / "pyproject.toml").read_text())[1]
    image = (FOLDER / "Containerfile.ray").read_text()
    assert cluster["rayVersion"] == version
    assert f"rayproject/ray:{version}-" in image
    assert "GSVEXPORT_CONFIG=/home/ray/gsvexport " in image  # a folder that is written to, too
    pods = [one["template"]["spec"] for one in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    for pod in pods:
        (container,) = pod["containers"]
        assert container["env"][0]["name"] == f"{PREFIX}API_KEY"
        assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in pod["volumes"]}
        assert f"ln -s {container['volumeMounts'][0]['mountPath']}/trusted-keys /home/ray/gsvexport/" in image
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    cluster["headGroupSpec"]["rayStartParms"] = cluster["headGroupSpec"].pop("rayStartParams")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, RAY_SERVICE)


def test_ray_serve_takes_what_the_ray_service_deploys():
    schema = pytest.importorskip("ray.serve.schema", reason="the extra ray is not installed")
    value = ray_service()
    config = schema.ServeDeploySchema.model_validate(yaml.safe_load(value["spec"]["serveConfigV2"]))
    (application,) = config.applications
    module, name = application.import_path.split(":")
    assert callable(getattr(importlib.import_module(module), name))
    with pytest.raises(InputError, match="no API key"):
        read_settings(application.args)
    settings = read_settings(application.args, environment={f"{PREFIX}API_KEY": "k" * 32})
    assert config.http_options.request_timeout_s > settings.deadline
    (group,) = value["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    room = int(limits["cpu"]) // settings.threads  # replicas in a pod
    assert room * group["maxReplicas"] >= settings.most_replicas
    assert room * settings.memory < int(limits["memory"].removesuffix("Gi")) * 2**30
