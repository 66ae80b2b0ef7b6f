"""Cost as work grows: what is measured and how it is shown, never how fast anything is."""

import json

import pytest
from click.testing import CliRunner

from gsvexport.bench import bench_sweep
from gsvexport.bench.growth import AXES
from gsvexport.cli.say import bench as command
from gsvexport.compiler.inputs import export_source
from gsvexport.errors import InputError
from gsvexport.report.growth import growth
from gsvexport.synthetic import write_voice


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    base = tmp_path_factory.mktemp("sweep")
    return export_source(write_voice(base / "voice"), base / "source").path


@pytest.fixture
def quick(monkeypatch):
    """Seconds that are known: each code takes 1 ms, and every 100 of them 10 ms more."""
    asked = []

    def call(function, *, threads, folder, prompt, tokens, phones, sentences=1):
        asked.append((tokens, phones, prompt))
        seconds = tokens / 1000 + tokens**2 / 1e6 + phones / 1e5
        return {"sentence_s": seconds * (1 + sentences) / 2, "memory": {"peak_mb": 100.0 + tokens}}

    monkeypatch.setattr("gsvexport.bench.growth.call", call)
    return asked


def test_every_point_is_measured_beside_the_straight_line(source, quick):
    found = bench_sweep(source, threads=1, prompt=10)
    assert [one.value for one in found.axes["tokens"]] == list(AXES["tokens"][1])
    assert [one.value for one in found.axes["phones"]] == list(AXES["phones"][1])
    assert [(one.value, one.straight) for one in found.axes["sentences"]] == [
        (1, 1),
        (2, 0.75),
        (4, 0.625),
        (8, 0.5625),
    ]
    assert (100, 20, 10) in quick
    codes = found.axes["tokens"]
    assert codes[0].straight == 1
    assert codes[-1].straight == pytest.approx(codes[-1].sentence_s / (20 * codes[0].sentence_s))
    assert codes[-1].straight > 1 > found.axes["phones"][-1].straight
    assert "1000" in found.table()


def test_what_does_not_fit_is_left_out(source, quick):
    assert [one.value for one in bench_sweep(source, threads=1, prompt=3500).axes["tokens"]][-1] == 500


def test_the_page_draws_every_point_and_takes_no_markup():
    text = growth("<b>voice", {"codes": [(50, 1.0, 1.0), (100, 3.0, 2.0)]}, "a\n<i>b")
    assert text.count("<circle") == 2
    assert text.count("<polyline") == 2
    assert "<b>" not in text
    assert "<i>" not in text
    assert "a\n&lt;i&gt;b" in text


def test_the_command_line_writes_table_json_and_page(source, quick, tmp_path):
    page = tmp_path / "growth.html"
    run = CliRunner().invoke(command, [str(source), "--sweep", "--html", str(page), "--threads", "1"])
    assert run.exit_code == 0, run.output
    assert "line" in run.stdout
    assert "<svg" in page.read_text(encoding="utf-8")
    run = CliRunner().invoke(command, [str(source), "--sweep", "--json", "--threads", "1", "-q"])
    assert set(json.loads(run.stdout)["axes"]) == {"tokens", "phones", "sentences"}


@pytest.mark.parametrize("wrong", [["--sweep", "--against", "true"], ["--sweep", "--runs", "3"], ["--html", "a.html"]])
def test_options_that_do_not_go_together_are_refused(source, wrong):
    assert isinstance(CliRunner().invoke(command, [str(source), *wrong]).exception, InputError)


def test_one_point_is_really_measured(source, monkeypatch):
    monkeypatch.setattr(
        "gsvexport.bench.growth.AXES",
        {"tokens": ("codes", (5,)), "phones": ("phones", (6,)), "sentences": ("sentences", (2,))},
    )
    found = bench_sweep(source, threads=1, prompt=3)
    assert all(row[0].sentence_s > 0 for row in found.axes.values())
