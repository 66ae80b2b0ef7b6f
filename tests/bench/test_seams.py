"""What early sound costs, on a voice of random weights: the mechanics, not the figures."""

import sys

import numpy as np

from gsvexport.bench import seams
from gsvexport.compiler.inputs import export_source
from gsvexport.runtime.pipeline import load
from gsvexport.synthetic import write_voice


def test_each_look_ahead_is_measured_against_the_whole_sentence(tmp_path, monkeypatch, capsys):
    source = export_source(write_voice(tmp_path / "voice"), tmp_path / "source").path
    with load(source) as voice:
        found = seams.seams(voice, np.arange(1, 40)[np.newaxis], seed=3)
        monkeypatch.setattr(seams, "_AHEAD", (1000,))
        [(distance, snr, click)] = seams.seams(voice, np.arange(1, 40)[np.newaxis], seed=3).values()
    assert list(found) == [2, 4, 8, 16, 32]
    assert (distance, click) == (0, 0)  # every code is awaited: one window, the whole sentence
    assert snr > 100
    assert found[2][0] > 0
    assert found[2][1] < snr
    monkeypatch.setattr(sys, "argv", ["seams", str(source), "--sentences", "1", "--threads", "1"])
    seams.main()
    assert "latent SNR" in capsys.readouterr().out
