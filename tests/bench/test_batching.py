"""The table of `python -m gsvexport.bench.batching`, on a tiny source."""

import re
import sys

from gsvexport.bench import batching
from gsvexport.compiler.source import write_source
from gsvexport.synthetic import write_voice
from gsvexport.voice.voice import read_voice


def test_every_way_of_speaking_is_in_the_table(tmp_path, monkeypatch, capsys):
    source = write_source(read_voice(write_voice(tmp_path / "voice")), tmp_path / "source")
    monkeypatch.setattr(sys, "argv", ["batching", str(source.path), "--threads", "1", "--tokens", "4", "--rounds", "1"])
    batching.main()
    said = capsys.readouterr().out
    assert "one sentence at a time here" in said  # a source
    assert re.search(r"\d+ codes of 8 sentences in a batch: [\d.]+ s, [\d.]+ x \(processor [\d.]+ x\)", said)
    ways = ("one after the other", "stages overlap", "side by side")
    assert all(f"a text of 4 sentences, {way}: " in said for way in ways)
