from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy_voice_double import DIMS, SPECTROGRAM, Damage, Make, NumpySessionDouble, Outputs

from gsvexport.files import canonical_json
from gsvexport.model import Model, SamplingDefaults, Spectrogram
from gsvexport.runtime.pipeline import LoadedVoice


@pytest.fixture
def make_voice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """`make_voice(damage, ...)` writes the folder of a scripted voice that `gsvexport.load` then opens.

    An artifact of a baked voice drops the cloning stages, its source keeps them: `cloning=True`.
    """
    damages: dict[Path, Damage] = {}

    def open_session(path: Path, *, threads: int | None = None) -> NumpySessionDouble:
        return NumpySessionDouble(path.stem, damages[path.parent])

    monkeypatch.setattr("gsvexport.backends.onnxruntime.session.open_session", open_session)

    def make(damage: Damage | None = None, *, baked: bool = True, cloning: bool = False) -> Path:
        damage = damage or Damage()
        folder = tmp_path / f"voice{len(damages)}"
        names = ("prefill", "step", "acoustic", "vocoder", *(("prompt", "reference") if cloning or not baked else ()))
        constants: Outputs = {}
        if baked:
            ge = NumpySessionDouble("reference", damage).run({"spectrogram": SPECTROGRAM})["ge"]
            constants = {"prompt": np.arange(20)[None], "prompt_phones": np.arange(9)[None], "ge": ge}
        model = Model(
            name="double",
            language="en",
            version="v2",
            symbols="v2",
            rate=32000,
            hop=640,
            eos=128,
            dims=DIMS,
            spectrogram=Spectrogram(),
            sampling=SamplingDefaults(),
            files={name: f"{name}.onnx" for name in names},
            baked={name: f"{name}.npy" for name in constants},
        )
        folder.mkdir()
        (folder / "model.json").write_text(canonical_json(model.to_json()))
        for name, array in constants.items():
            np.save(folder / f"{name}.npy", array)
        damages[folder] = damage
        return folder

    return make


@pytest.fixture
def loaded(make_voice: Make) -> LoadedVoice:
    return LoadedVoice(make_voice())
