"""A voice from a raw recording: what is baked is what the networks make of it, and nothing else can take its place."""

from __future__ import annotations

import json
import shutil
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import gsvexport
from gsvexport.compiler.source import open_source, rebake, write_source
from gsvexport.errors import InputError, VoiceError
from gsvexport.signal.audio import decode
from gsvexport.synthetic import write_voice
from gsvexport.synthetic.pretrained import write_pretrained
from gsvexport.voice.profile import ReferenceTable
from gsvexport.voice.voice import read_voice

TEXT = "Hello there, how are you?"


def record(path, seconds=3.4, rate=24000, seed=0, peak=0.6):
    """A voiced sound of its own for each seed."""
    random = np.random.default_rng(seed)
    time = np.arange(int(rate * seconds)) / rate
    phase = 2 * np.pi * np.cumsum(100 + 30 * seed + 20 * np.sin(2 * np.pi * time)) / rate
    tone = sum(np.sin(order * phase + random.uniform(0, 6)) / order for order in range(1, 30))
    values = tone * (1.1 + np.sin(2 * np.pi * 3 * time))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(values / np.abs(values).max() * peak * 32767).astype("<i2").tobytes())
    return path


def table(audio, text: str | None = TEXT, language="en"):
    return ReferenceTable((Path(audio),), text, language, None, None, ())


@pytest.fixture(scope="module", params=["v2", "v2Pro"])
def folder(request, tmp_path_factory, networks):
    """A voice without a reference, with every network that its version takes."""
    folder = write_voice(tmp_path_factory.mktemp(request.param), request.param, reference=False)
    names = {name: networks[0] / path for name, path in networks[1].items()}
    lines = ["[pretrained]", *(f'{name} = "{path}"' for name, path in names.items())]
    with open(folder / "voice.toml", "a", encoding="utf-8") as file:
        file.write("\n" + "\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def cloning(folder, tmp_path_factory):
    """Its source, which holds the cloning stages, and what it says of a recording."""
    path = tmp_path_factory.mktemp("cloning") / "source"
    write_source(read_voice(folder), path)
    return path


def test_a_raw_recording_is_baked_as_the_stages_say(folder, cloning, tmp_path):
    audio = record(tmp_path / "ref.wav")
    made = write_source(read_voice(folder, table(audio)), tmp_path / "source")
    with gsvexport.load(made.path) as baked, gsvexport.load(cloning) as voice:
        samples, rate = decode(audio)
        other = voice.clone(samples[:, 0], rate, TEXT)
        assert set(baked.baked) == set(other.baked) >= {"prompt", "prompt_phones", "ge"}
        for name, array in other.baked.items():
            np.testing.assert_allclose(baked.baked[name], array, atol=2e-5, err_msg=name)
        # 3.4 s and 0.6 s of silence at 25 codes a second; HuBERT's windows lose one
        assert baked.baked["prompt"].shape == (1, 99)
        assert np.unique(baked.baked["prompt"]).size > 1
        spoken = [one.synthesize(TEXT, seed=3, max_tokens=15).samples for one in (baked, other)]
        np.testing.assert_allclose(spoken[0], spoken[1], atol=1e-3)
        with pytest.raises(InputError, match="cannot speak without"):
            voice.synthesize(TEXT)


@pytest.mark.parametrize("folder", ["v2Pro"], indirect=True)  # which bakes all that v2 does
def test_a_new_reference_on_the_same_weights_is_what_an_export_would_give(folder, tmp_path):
    one, two = record(tmp_path / "one.wav"), record(tmp_path / "two.wav", seed=1)
    voice = read_voice(folder, table(one))
    first = write_source(voice, tmp_path / "first")
    again = rebake(first, read_voice(folder, table(two)).reference, tmp_path / "again")
    fresh = write_source(read_voice(folder, table(two)), tmp_path / "fresh")
    assert open_source(again.path, verify=True).digest == again.digest
    assert again.model == fresh.model
    assert again.model.baked_key not in (None, first.model.baked_key)
    assert again.meta["files"] == fresh.meta["files"]
    assert not list(again.path.glob("**/*.partial"))


@pytest.mark.parametrize("folder", ["v2"], indirect=True)  # the same for every version
def test_the_key_changes_with_the_weights_and_with_every_part_of_the_reference(folder, cloning, tmp_path):
    source, one = open_source(cloning), record(tmp_path / "one.wav")
    reference = read_voice(folder, table(one)).reference
    quieter = record(tmp_path / "two.wav", peak=0.5)
    keys = {
        "the same": rebake(source, reference, tmp_path / "a"),
        "another text": rebake(source, read_voice(folder, table(one, "Goodbye then.")).reference, tmp_path / "b"),
        "another level": rebake(source, replace(reference, audio=(quieter,)), tmp_path / "d"),
        "other weights": rebake(replace(source, meta=source.meta | {"sovits": "0" * 64}), reference, tmp_path / "e"),
    }
    found = [made.model.baked_key for made in keys.values()]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(("seconds", "told"), [(2.9, "lasts 2.90 s"), (10.1, "lasts 10.10 s")])
def test_a_recording_that_upstream_refuses_is_refused(folder, tmp_path, seconds, told):
    audio = record(tmp_path / "ref.wav", seconds, rate=8000)
    with pytest.raises(VoiceError) as error:
        read_voice(folder, table(audio))
    assert told in str(error.value)
    assert "3 to 10 s" in str(error.value)
    assert read_voice(folder, table(audio, None)).reference.phones is None  # without a prompt any length does


def test_without_networks_a_raw_recording_is_refused_with_what_to_add(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "voice")
    toml = tmp_path / "voice/voice.toml"
    toml.write_text(toml.read_text().split("[pretrained]")[0])
    with pytest.raises(VoiceError) as error:
        read_voice(tmp_path / "voice", table(record(tmp_path / "ref.wav")))
    assert "chinese-hubert-base" in str(error.value)
    if "v2Pro" in str(folder):
        assert "pretrained_eres2netv2w24s4ep4.ckpt" in str(error.value)


def test_clone_tells_everything_that_is_wrong(cloning):
    with gsvexport.load(cloning) as voice:
        noise = np.random.default_rng(0).standard_normal(32000).astype(np.float32) * 0.1
        for arguments, told in (
            ((noise, 16000, TEXT), "2.00 s"),
            ((noise[None], 16000, TEXT), "one channel"),
            ((noise * np.nan, 16000, TEXT), "finite"),
            (((noise * 1000).astype(np.int16), 16000, TEXT), "whole numbers"),
            ((noise, 0, TEXT), "rate is 0"),
        ):
            with pytest.raises(InputError) as error:
                voice.clone(*arguments)
            assert told in str(error.value)
        assert set(voice.clone(noise, 16000).baked) <= {"ge", "ge_text"}  # without a prompt


@pytest.mark.parametrize("folder", ["v2"], indirect=True)  # the same for every version
def test_mandarin_gets_its_features_from_bert(folder, tmp_path):
    audio = record(tmp_path / "ref.wav")
    made = write_source(read_voice(folder, table(audio, "你好,世界.", "zh")), tmp_path / "source")
    with gsvexport.load(made.path) as voice:
        features = voice.baked["prompt_bert"]
        assert features.shape == (1, 1024, voice.baked["prompt_phones"].shape[1])
        assert np.abs(features).max(axis=1).min() > 0  # every phone of it, signs as well
        np.testing.assert_array_equal(features[..., 0], features[..., 1])  # both phones of 你
        fed = []
        run = voice.run
        voice.run = lambda stage, feeds: fed.append((stage, feeds)) or run(stage, feeds)
        generate = voice.generate
        seen = []
        voice.generate = lambda row, bert, *rest: seen.append(bert) or generate(row, bert, *rest)
        voice.synthesize("你好.", language="zh", max_tokens=2)
        assert next(stage for stage, _ in fed) == "bert"
        assert np.abs(seen[0]).max(axis=1).min() > 0
        voice.synthesize("Hello.", language="en", max_tokens=2)
        assert seen[1] is None
    meta = json.loads((made.path / "source.json").read_text())
    assert {"ssl", "bert", "prompt", "reference"} <= set(meta["stages"])


def test_networks_without_a_use_are_not_exported(tmp_path):
    folder = write_voice(tmp_path / "voice", reference=False)
    name = write_pretrained(tmp_path / "voice", ("speaker",))["speaker"]
    with open(folder / "voice.toml", "a", encoding="utf-8") as file:
        file.write(f'\n[pretrained]\nspeaker = "{name}"\n')
    assert read_voice(folder).pretrained.stages == ()  # v2 takes no speaker embedding
