"""The page: well-formed, self-contained, escaped, complete, and the same for the same artifact."""

import base64
import io
import re
import wave
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from report.crafted import HOSTILE, REPORT_A, SNR, artifact, check, idle, manifest

from gsvexport.artifact.manifest import StageEntry
from gsvexport.report.charts import log_bars, own_bar, size_bars
from gsvexport.report.listen import Sound
from gsvexport.report.markup import Html, element
from gsvexport.report.page import Here, page
from gsvexport.report.players import gain_db
from gsvexport.report.stored import read_stored
from gsvexport.verify.checks import of_sound
from gsvexport.verify.gates import resolve
from gsvexport.verify.report import Report
from gsvexport.verify.ruler import Distance, Ruler

VOID = {"meta", "img", "br", "line", "rect"}
RATE = 32000


class Parsed(HTMLParser):
    """Elements with their attributes, and the text that is shown; open and close must match."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.shown, self.open = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag in VOID, tag
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.shown.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.shown).split())


def tone(seconds=0.4, level=0.3):
    return (level * np.sin(np.arange(int(seconds * RATE)) * 0.05)).astype(np.float32)


def noisy(amount=0.01):
    return tone() + np.random.default_rng(0).normal(0, amount, tone().size).astype(np.float32)


@pytest.fixture
def stored(tmp_path):
    return read_stored(artifact(tmp_path / "a.gsv"))


SOUNDS = (Sound("Vocoder", "golden", RATE, noisy(), tone()), Sound("Said alone", "no source", RATE, tone()))
HERE = Here(Report((SNR,), {"on": "a test"}), SOUNDS)


def test_every_check_is_on_the_page_with_its_status_value_and_reason(tmp_path):
    absent = idle("pesq", reason="the package 'pesq' is not installed")
    report = Report((*REPORT_A.checks, absent, check("log_mel_l1", 0.2, "pipeline")))
    shown = Parsed(page(read_stored(artifact(tmp_path / "a.gsv", report)), Here()))
    rows = shown.text.partition("Every check, as it was when the artifact was built")[2]
    for one in report.checks:
        assert f"{one.stage} {one.metric}" in rows
        assert one.value is None or f"{one.value:.4g}" in rows
    assert "NOT RUN the package 'pesq' is not installed" in rows
    assert rows.count("FAIL") == 1
    assert sum(attributes.get("class") == "not_run" for tag, attributes in shown.elements if tag == "tr") == 1


@pytest.mark.parametrize(
    ("report", "here", "word"),
    [
        (REPORT_A, Here(), "PASSED"),
        (REPORT_A, HERE, "PASSED"),
        (Report((SNR, check("log_mel_l1", 0.2))), Here(), "FAILED"),
        (REPORT_A, Here(Report((check("snr_db", 3.0),))), "FAILED"),
        (Report((idle("snr_db"),)), HERE, "NOT VERIFIED"),
        (Report((SNR, idle("log_mel_l1"))), HERE, "PASSED"),
        (None, HERE, "NOT VERIFIED"),
    ],
)
def test_the_verdict_is_the_worst_of_then_and_now_and_comes_first(tmp_path, report, here, word):
    shown = Parsed(page(read_stored(artifact(tmp_path / "a.gsv", report)), here))
    others = {"PASSED", "FAILED", "NOT VERIFIED"} - {word}
    first = shown.text.partition("Most of a limit used")[0]
    assert word in first
    assert not [other for other in others if other in first]
    (verdict,) = (
        attributes["class"] for tag, attributes in shown.elements if attributes.get("class", "")[:7] == "verdict"
    )
    assert verdict.split()[1] == {"PASSED": "pass", "FAILED": "fail", "NOT VERIFIED": "not_run"}[word]


def test_what_a_pass_does_not_rest_on_stands_beside_it(tmp_path):
    report = replace(REPORT_A, elsewhere="x86-64")
    shown = Parsed(
        page(read_stored(artifact(tmp_path / "a.gsv", report)), Here(elsewhere="riscv64", problem="no kernel"))
    )
    first = shown.text.partition("Most of a limit used")[0]
    assert "Ran on x86-64, not on what it was made for." in first
    assert "It was not run for this page: no kernel" in first
    assert re.search(r"Nothing was checked of L0 package.*L4 on the device", first)


def test_it_needs_no_network_and_runs_no_script(stored):
    text = page(stored, HERE)
    shown = Parsed(text)
    assert not {"script", "link", "iframe", "object", "embed", "form"} & {tag for tag, _ in shown.elements}
    for _, attributes in shown.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    assert "url(" not in text
    assert "@import" not in text
    (policy,) = (one["content"] for _, one in shown.elements if one.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "script" not in policy


def test_hostile_names_stay_text(tmp_path):
    profile = {"name": HOSTILE, "title": HOSTILE, "device": {"arch": HOSTILE, "core": HOSTILE, "features": []}}
    entry = StageEntry("vocoder.onnx", HOSTILE, HOSTILE, (HOSTILE,))
    made = manifest(HOSTILE, stages={"vocoder": entry}, tools={HOSTILE: HOSTILE}, target=HOSTILE, weights=())
    made = replace(made, target=profile, version=HOSTILE)
    report = Report(
        tuple(replace(one, stage=HOSTILE, metric=HOSTILE, against=HOSTILE, reason=HOSTILE) for one in (SNR,))
    )
    stored = read_stored(artifact(tmp_path / "a.gsv", replace(report, elsewhere=HOSTILE), made=made))
    here = Here(
        report, (Sound(HOSTILE, HOSTILE, RATE, tone(), tone()), Sound(HOSTILE, "", RATE, problem=HOSTILE)), HOSTILE
    )
    text = page(stored, here)
    honest = Parsed(page(replace(stored, manifest=manifest(), report=REPORT_A), HERE))
    shown = Parsed(text)
    assert not {"script"} & {tag for tag, _ in shown.elements}
    assert {tag for tag, _ in shown.elements} <= {tag for tag, _ in honest.elements} | {"p", "article"}
    assert all(
        set(attributes) <= {name for _, one in honest.elements for name in one} for _, attributes in shown.elements
    )
    assert 'alert("x")' in shown.text  # shown, and shown as it is
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", text)


def test_the_same_artifact_and_the_same_run_give_the_same_bytes(stored):
    assert page(stored, HERE) == page(read_stored(stored.path), HERE)
    assert "2026" not in page(stored, HERE)


def test_players_hold_the_sounds_and_the_difference_says_its_gain(stored):
    shown = Parsed(page(stored, HERE))
    players = [one for tag, one in shown.elements if tag == "audio"]
    assert [one["aria-label"] for one in players][:2] == ["Source (FP32)", "Artifact"]
    gain = gain_db(noisy().astype(np.float64) - tone())
    assert players[2]["aria-label"] == f"Difference, amplified by {gain:.0f} dB"
    assert len(players) == 4
    read = []
    for one in players:
        with wave.open(io.BytesIO(base64.b64decode(one["src"].partition(",")[2]))) as sound:
            assert (sound.getframerate(), sound.getsampwidth(), sound.getnchannels()) == (RATE, 2, 1)
            read.append(np.frombuffer(sound.readframes(sound.getnframes()), "<i2") / 32767)
    np.testing.assert_allclose(read[0], tone(), atol=1e-4)
    np.testing.assert_allclose(read[2], (read[1] - read[0]) * 10 ** (gain / 20), atol=0.02)
    assert 0.2 < np.max(np.abs(read[2])) <= 0.5


def test_equal_sounds_have_no_difference_to_hear(stored):
    shown = Parsed(page(stored, Here(sounds=(Sound("Vocoder", "", RATE, tone(), tone()),))))
    assert "No sample differs" in shown.text
    assert "identical" in shown.text
    assert gain_db(np.zeros(5)) is None


def test_a_sound_that_could_not_be_made_says_why(stored):
    shown = Parsed(page(stored, Here(sounds=(Sound("Vocoder", "", RATE, problem="3 of 9 samples are NaN"),))))
    assert "3 of 9 samples are NaN" in shown.text
    assert not [tag for tag, _ in shown.elements if tag == "audio"]


def test_what_was_decided_and_what_weights_are_stored_as_is_drawn(stored):
    text = Parsed(page(stored, Here())).text
    assert "Returned to float: last, 4% of the multiplications." in text
    assert "All together use 50% of the gates; 70% were allowed." in text
    assert "13 → float" in text
    assert "prefill + step" in text.partition("Weights by stage and kind")[2]


def test_an_artifact_of_before_decisions_were_recorded_says_so(tmp_path):
    old = manifest(stages={"vocoder": StageEntry("vocoder.onnx", "onnxruntime", "int8")}, weights=())
    text = Parsed(page(read_stored(artifact(tmp_path / "a.gsv", made=old)), Here())).text
    assert "was not recorded" in text
    assert "No precision of this artifact was decided" in text


def test_bars_are_as_long_as_their_numbers():
    widths = [float(w) for w in re.findall(r'<rect x="88" y="\d+" width="([\d.]+)"', log_bars(BARS, title="t"))]
    assert widths[0] == pytest.approx(widths[1] / 2, abs=0.2)  # 0.01 and 0.1 on an axis from 0.001 on
    assert widths[2] == 0.0
    sizes = size_bars({"a": {"int8": 100, "fp32": 300}}, title="t")
    parts = [float(w) for w in re.findall(r'width="([\d.]+)"', sizes)]
    assert parts[0] == pytest.approx(3 * parts[1], rel=0.01)


BARS = (("a", 0.01, None, "pass", ""), ("b", 0.1, 0.001, "fail", ""), ("c", 0.0, None, "info", ""))


def test_markup_escapes_everything_but_markup():
    assert element("b", "<i>", Html("<i></i>"), None, title='"x"') == '<b title="&quot;x&quot;">&lt;i&gt;<i></i></b>'
    assert element("p", ["a", ["b"]], class_="c", data_label=None) == '<p class="c">ab</p>'


RULED = resolve("int8", None, Ruler(4, *(Distance(mean, 0.0) for mean in (0.4, 0.28, 1.0, 25.0, 0.08))))


def test_the_voices_own_variation_stands_beside_what_the_artifact_moves(tmp_path):
    sound = tone(1.2)
    checks = of_sound(RULED, [(sound, sound + noisy(0.001)[0] * 0.01)], RATE)
    shown = Parsed(page(read_stored(artifact(tmp_path / "a.gsv", Report(tuple(checks)))), Here()))
    part = shown.text.partition("Beside the voice's own variation")[2].partition("Sizes")[0]
    for metric, own in (("sound_share", "another seed 1"), ("log_mel_l1", "another seed 0.28")):
        assert f"{metric} = " in part
        assert own in part
    assert "limit 0.5" in part
    titles = [attributes.get("title", "") for tag, attributes in shown.elements if "own" in attributes.get("class", "")]
    assert any("another seed of the source 1" in title for title in titles)


def test_a_voice_without_a_ruler_has_no_such_part(stored):
    assert "Beside the voice's own variation" not in Parsed(page(stored, Here())).text


def test_source_artifact_and_source_with_another_seed_can_be_heard_side_by_side(stored):
    sound = Sound("Said", "the source's codes", RATE, noisy(), tone(), noisy(0.05))
    shown = Parsed(page(stored, Here(Report((SNR,), {}), (sound,))))
    players = [attributes["aria-label"] for tag, attributes in shown.elements if tag == "audio"]
    assert players[:2] == ["Source (FP32)", "Artifact"]
    assert "Source (FP32), another noise seed" in players
    assert "by another noise seed of the source by" in shown.text


def test_a_bar_holds_its_limit_and_another_seed():
    inside = own_bar(0.3, 0.5, 1.0)
    assert "width:28.6%" in inside
    assert "left:47.6%" in inside
    assert "left:95.2%" in inside
    assert 'class="kept"' in inside
    assert 'class="over"' in own_bar(0.6, 0.5, 1.0)
    assert own_bar(0.1, None, 0.28).count("<u") == 1
