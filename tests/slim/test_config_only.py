"""Upstream's training configurations at reduced sizes, and what such a voice will cost."""

import json
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml
from slim.conftest import SOVITS

from gsvexport.cli import run
from gsvexport.errors import VoiceError
from gsvexport.slim import config
from gsvexport.slim.recipe import read_recipe
from gsvexport.slim.shape import of, refuse_version, slimmer
from gsvexport.synthetic import write_voice
from gsvexport.voice.voice import read_voice


@pytest.fixture(scope="module", params=["v2", "v2ProPlus"])
def folder(request, tmp_path_factory):
    """A voice without a reference: nothing has to speak."""
    return write_voice(tmp_path_factory.mktemp("voice") / "alice", request.param, reference=False)


def test_the_configurations_have_the_sizes_of_the_recipe(folder, tmp_path, capsys):
    arguments = ["slim", str(folder), "--recipe", "tiny", "--config-only", "-o", str(tmp_path / "configs")]
    assert run([*arguments, "-t", "raspberry-pi-5"]) == 0
    out = capsys.readouterr().out
    voice = read_voice(folder)
    after = slimmer(of(voice), read_recipe("tiny"))
    first, second = (tmp_path / "configs" / name for name in config.names(voice.version))
    s1, s2 = yaml.safe_load(first.read_text()), json.loads(second.read_text())
    model = s1["model"]
    assert (model["n_layer"], model["hidden_dim"], model["embedding_dim"], model["head"]) == (
        after.t2s.layers,
        after.t2s.width,
        after.t2s.width,
        after.t2s.heads,
    )
    assert s1["optimizer"] == {"lr": 0.01, "lr_init": 1e-5, "lr_end": 1e-4, "warmup_steps": 2000, "decay_steps": 40000}
    assert s2["model"]["upsample_initial_channel"] == after.sovits.upsample_initial
    assert s2["model"]["filter_channels"] == after.sovits.filter
    assert s2["model"]["p_dropout"] == (0.1 if voice.version == "v2" else 0.0)
    assert {"v2": "s2.json", "v2ProPlus": "s2v2ProPlus.json"}[voice.version] == second.name
    assert f"SoVITS: {after.parameters[1]:,} weights" in out
    assert "raspberry-pi-5" in out
    assert "a token reads" in out
    assert run(arguments) == 2  # it exists


def test_the_vocoders_work_is_counted_by_hand():
    def dims(**sizes):
        stages = {"upsample_rates": (4, 2), "upsample_kernels": (8, 4), "upsample_initial": 8, "inter": 6}
        blocks = {"resblock": "2", "resblock_kernels": (3,), "resblock_dilations": ((1, 3),)}
        return replace(SOVITS, **stages, **blocks, **sizes)

    # 50 frames: entry 8×6×7, up 8→4 by 4; at 200: two convolutions 4×4×3, up 4→2; at 400: 2×2×3, exit.
    by_hand = (
        50 * 8 * 6 * 7 + 50 * 8 * 4 * 8 + 200 * 2 * 4 * 4 * 3 + 200 * 4 * 2 * 4 + 400 * 2 * 2 * 2 * 3 + 400 * 2 * 7
    )
    assert config.vocoder_work(dims()) == by_hand


def test_no_torch_is_needed(folder, tmp_path):
    code = "import sys; sys.modules['torch'] = None; from gsvexport.cli import run; sys.exit(run(sys.argv[1:]))"
    arguments = ["slim", str(folder), "--recipe", "prune-30", "--config-only", "-o", str(tmp_path / "configs")]
    found = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_what_does_not_go_together_is_refused(folder, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert run(["slim", str(folder), "--recipe", "tiny", "-t", "raspberry-pi-5", "-o", out]) == 2
    assert "add --config-only" in capsys.readouterr().err
    assert run(["slim", str(folder), "--recipe", "tiny", "--config-only", "--work", out, "-o", out]) == 2
    assert run(["slim", str(folder), "--recipe", "tiny", "--config-only", "-t", "no-such", "-o", out]) == 4
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("version", ["v3", "v4"])
def test_a_version_without_other_sizes_is_refused(version):
    with pytest.raises(VoiceError, match=f"a {version} voice cannot be made smaller"):
        refuse_version(SimpleNamespace(version=version, path="voice.toml"))
