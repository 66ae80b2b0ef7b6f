"""v3 and v4 from a raw recording: the prompt brings its mel with it, baked or cloned on the device."""

from __future__ import annotations

import numpy as np
import pytest
from test_bake import TEXT, record

import gsvexport
from gsvexport.compiler.inputs import export_source
from gsvexport.signal.audio import decode
from gsvexport.synthetic import write_voice


@pytest.fixture(scope="module", params=["v3", "v4"])
def work(request, tmp_path_factory, networks):
    work = tmp_path_factory.mktemp(request.param)
    folder = write_voice(work / "voice", request.param, reference=False)
    toml = folder / "voice.toml"
    hubert = f'hubert = "{networks[0] / networks[1]["hubert"]}"'
    toml.write_text(toml.read_text().replace("[pretrained]\n", f"[pretrained]\n{hubert}\n"))
    assert hubert in toml.read_text()
    record(work / "one.wav", seconds=3.4)
    return work


def test_a_clone_speaks_as_the_same_recording_baked_would(work):
    cloning = export_source(work / "voice", work / "cloning").path
    toml = work / "voice" / "voice.toml"
    reference = f'\n[reference]\naudio = "{work / "one.wav"}"\ntext = "{TEXT}"\nlanguage = "en"\n'
    toml.write_text(toml.read_text() + reference)
    baked = export_source(work / "voice", work / "baked").path
    samples, rate = decode(work / "one.wav")
    how = {"phones": [51, 12, 62, 67, 3], "max_tokens": 8, "steps": 2, "seed": 1}
    with gsvexport.load(cloning) as voice, gsvexport.load(baked) as expected:
        other = voice.clone(samples[:, 0], rate, TEXT, language="en")
        assert other.baked.keys() == expected.baked.keys()
        for name, array in expected.baked.items():
            np.testing.assert_allclose(other.baked[name], array, atol=1e-4, err_msg=name)
        found, wanted = other.synthesize(**how), expected.synthesize(**how)
    assert found.samples.size == wanted.samples.size > 0
    np.testing.assert_allclose(found.samples, wanted.samples, atol=1e-3)
