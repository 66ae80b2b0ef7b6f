"""Blind tests: the page in a real browser, results from strangers, and a gate over a panel.

All raters here are made up: they are programs, and no figure of theirs says anything of a voice.
"""

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
from report import browser as chromium
from report.crafted import REPORT_A

from gsvexport.errors import ArtifactError, InputError
from gsvexport.files import canonical_json
from gsvexport.report.margins import mos_basis, people_decide
from gsvexport.report.panel import heard as human
from gsvexport.report.panel.key import Condition, Key, read_key
from gsvexport.report.panel.page import page_of
from gsvexport.report.panel.results import RESULTS, collect, read
from gsvexport.report.panel.scores import ENOUGH_RATERS, score
from gsvexport.report.panel.sounds import Stimuli, _low_passed
from gsvexport.report.panel.table import scores_page
from gsvexport.report.terminal import report_page
from gsvexport.verify.paired import crossed, estimate
from gsvexport.verify.report import Check

RATE = 16000
CONDITIONS = (
    Condition("the reference", "reference"),
    Condition("anchor: low-pass 3.5 kHz", "anchor"),
    Condition("anchor: noise, 15 dB", "anchor"),
    Condition("good.gsv", "artifact", "a" * 64),
    Condition("bad.gsv", "artifact", "b" * 64),
)
QUALITY = {0: 4.4, 1: 2.2, 2: 1.6, 3: 4.4, 4: 3.4}  # what our made-up raters think of each condition


def stimuli(sentences=2, seconds=0.06):
    random = np.random.default_rng(0)

    def sounds():
        return tuple(
            tuple((0.1 * random.standard_normal(int(seconds * RATE))).astype(np.float32) for _ in range(sentences))
            for _ in CONDITIONS
        )

    return Stimuli(CONDITIONS, tuple(f"Sentence {n}." for n in range(sentences)), sounds(), sounds(), RATE)


@pytest.fixture(scope="module")
def eight():
    return page_of(stimuli(8, 0.01), 3, ("mushra", "mos", "abx"), "wav")[0]


def rater(key, name, seed, kind="honest", quality=None):
    """The file of a made-up rater: an honest one has a taste of its own and is unsure, the others do not listen."""
    random, quality = np.random.default_rng(seed), quality or QUALITY
    taste = random.normal(0, 0.3)

    def mos(sound):
        if kind == "random":
            return int(random.integers(1, 6))
        return int(np.clip(np.rint(quality[key.sounds[sound].condition] + taste + random.normal(0, 0.5)), 1, 5))

    def scale(sound):
        if kind == "random":
            return int(random.integers(0, 101))
        if kind == "all the same":
            return 70
        place = key.sounds[sound].condition
        return 100 if place == 0 else int(np.clip(20 * quality[place] + random.normal(0, 6), 0, 99))

    return {
        "kind": RESULTS,
        "schema": 1,
        "test": key.test,
        "rater": name,
        "seconds": 900,
        "mushra": [[[sound, scale(sound)] for sound in one.rated] for one in key.mushra],
        "mos": [[sound, mos(sound)] for sound in key.mos],
        "abx": [{"trial": trial, "x": "a", "answer": str(random.choice(["a", "b"]))} for trial in range(len(key.abx))],
    }


def panel(key, count, quality=None, first=0):
    return [rater(key, f"rater{n}", n, quality=quality) for n in range(first, first + count)]


def heard(key, values):
    return score(key, [read(one, key, "a result") for one in values])


def by_name(found):
    return {row.name: row for row in found.rows}


def test_a_made_up_panel_goes_through_the_gate(eight):
    found = heard(eight, panel(eight, 20))
    rows = by_name(found)
    assert (found.raters, found.dropped) == (20, ())
    assert rows["good.gsv"].check.status == "pass"
    assert rows["bad.gsv"].check.status == "fail"
    assert not found.passed
    assert rows["bad.gsv"].fall.value == pytest.approx(1.0, abs=0.2)
    assert rows["bad.gsv"].fall.low < rows["bad.gsv"].fall.value < rows["bad.gsv"].fall.high
    assert rows["the reference"].mushra.value == 100
    assert rows["anchor: low-pass 3.5 kHz"].mos.value < 3
    assert rows["good.gsv"].found.n == 160
    page = scores_page(found)
    assert "bad.gsv: the MOS fell by" in page
    assert "FAIL" in page


def test_who_clicks_at_random_is_thrown_out_and_changes_nothing(eight):
    honest = panel(eight, 20)
    careless = [rater(eight, f"random{n}", 100 + n, "random") for n in range(10)]
    careless += [rater(eight, "same", 7, "all the same")]
    found = heard(eight, honest + careless)
    assert found.raters == 20
    assert len(found.dropped) == 11
    assert "below 90 in" in found.dropped[0]
    assert found.rows == heard(eight, honest).rows


def test_the_published_rule_to_the_letter(eight):
    """More than 15 % of 8 questions are 2."""
    from gsvexport.report.panel.scores import unreliable

    for wrong, kept in ((0, True), (1, True), (2, False)):
        value = rater(eight, "r", 1)
        for scale in value["mushra"][:wrong]:
            for row in scale:
                if eight.role(row[0]) == "reference":
                    row[1] = 89
        assert (unreliable(eight, read(value, eight, "r")) == "") is kept


def test_too_few_or_undecided_people_do_not_judge(eight):
    few = by_name(heard(eight, panel(eight, ENOUGH_RATERS - 1)))
    assert all(few[name].check.status == "not_run" for name in ("good.gsv", "bad.gsv"))
    assert "12 and 60 are needed" in few["bad.gsv"].check.reason
    unsure = by_name(heard(eight, panel(eight, 12, QUALITY | {4: 4.2})))["bad.gsv"].check
    assert unsure.status == "not_run"
    assert "more raters have to say" in unsure.reason
    unscreened = page_of(stimuli(8, 0.01), 3, ("mos",), "wav")[0]
    assert "cannot be screened" in by_name(heard(unscreened, panel(unscreened, 20)))["bad.gsv"].check.reason


def test_the_interval_is_over_people_and_sentences():
    random = np.random.default_rng(0)
    table = random.normal(0, 1, (20, 1)) + random.normal(0, 0.1, (20, 8))
    crossed_width, naive = crossed(table), estimate(table.reshape(-1).tolist())
    assert crossed_width.n == 160
    assert crossed_width.high - crossed_width.low > 2 * (naive.high - naive.low)
    assert crossed(table) == crossed_width
    holes = np.where(random.random((20, 8)) < 0.3, np.nan, table)
    assert crossed(holes).n == np.count_nonzero(~np.isnan(holes))
    assert np.isnan(crossed(np.full((2, 2), np.nan)).value)


def test_the_report_says_who_judges_the_mos(eight, tmp_path):
    found = heard(eight, panel(eight, 20))
    scores = tmp_path / "scores.json"
    scores.write_text(canonical_json(found.to_json()))
    objective = Check(3, "free_run", "p808_drop", "source", 0.2, 0.1, "max", 24, "fail", baseline=3.0)
    report = replace(REPORT_A, checks=(*REPORT_A.checks, objective))
    assert "objective scores (DNSMOS P.808)" in mos_basis(report)
    assert "objective scores" in report_page(report)
    people = human.judged(report, "a" * 64, scores)
    assert people_decide(people)
    assert "human scores: 160 pairs" in report_page(people)
    [figure] = [one for one in people.checks if one.metric == "p808_drop"]
    assert (figure.status, figure.limit, figure.value) == ("info", None, 0.2)
    assert not human.judged(report, "b" * 64, scores).passed
    with pytest.raises(ArtifactError, match="has not heard this artifact"):
        human.judged(report, "c" * 64, scores)
    scores.write_text(canonical_json(heard(eight, panel(eight, 3)).to_json()))
    few = human.judged(report, "a" * 64, scores)
    assert objective in few.checks  # the model goes on judging
    assert "people have heard it, but 3 raters count" in mos_basis(few)


def test_scores_that_were_made_up_by_hand_are_refused(eight, tmp_path):
    value = json.loads(json.dumps(heard(eight, panel(eight, 20)).to_json()))
    row = next(one for one in value["rows"] if one["digest"] == "b" * 64)
    for change in ({"status": "pass"}, {"metric": "p808_drop"}, {"limit": 2.0}, {"extra": 1}):
        broken = {**value, "rows": [{**row, "check": {**row["check"], **change}}]}
        (tmp_path / "scores.json").write_text(json.dumps(broken))
        with pytest.raises(ArtifactError):
            human.read_scores(tmp_path / "scores.json")


def _spoilt(value):
    yield {**value, "test": "0" * 64}
    yield {**value, "rater": "../../etc"}
    yield {**value, "rater": "<script>"}
    yield {**value, "mos": value["mos"][1:]}
    yield {**value, "mos": [*value["mos"][1:], value["mos"][1]]}
    yield {**value, "mos": [[sound, 6] for sound, _ in value["mos"]]}
    yield {**value, "mos": [[sound, 4.5] for sound, _ in value["mos"]]}
    yield {**value, "mushra": value["mushra"][:1]}
    yield {**value, "mushra": [[[sound, 101] for sound, _ in row] for row in value["mushra"]]}
    yield {**value, "abx": [{**one, "answer": "c"} for one in value["abx"]]}
    yield {**value, "abx": value["abx"] * 2}
    yield {**value, "more": 1}
    yield {**value, "seconds": -1}
    yield []
    yield None


def test_files_of_strangers_are_bounded_checked_and_tied_to_the_page(eight, tmp_path):
    good = rater(eight, "good", 1)
    files = []

    def put(name, text):
        files.append(tmp_path / name)
        files[-1].write_text(text)

    put("page.html.key.json", canonical_json(eight.to_json()))
    put("good.json", json.dumps(good))
    put("again.json", json.dumps(good))  # sent twice: counts once
    for number, bad in enumerate(_spoilt(good)):
        put(f"bad{number}.json", json.dumps(bad))
    put("huge.json", json.dumps({**good, "rater": "x" * 600_000}))
    put("deep.json", "[" * 100_000)
    put("text.json", "hello")
    put("two1.json", json.dumps(rater(eight, "two", 1)))
    put("two2.json", json.dumps(rater(eight, "two", 2)))
    key, answers, unused = collect(files)
    assert key == eight
    assert [one.rater for one in answers] == ["good"]
    assert len(unused) == len(list(_spoilt(good))) + 4
    assert any("two different results" in one for one in unused)
    key, answers, _ = collect([tmp_path / "good.json"])  # the key is found beside it
    assert len(answers) == 1
    with pytest.raises(ArtifactError, match="no file holds the results"):
        collect([tmp_path / "bad0.json"], tmp_path / "page.html.key.json")


def test_a_changed_key_is_refused(eight, tmp_path):
    path = tmp_path / "page.html.key.json"
    value = eight.to_json()
    for change in ({"mos": value["mos"][1:]}, {"test": "0" * 64}, {"abx": [[0, 5000]]}, {"mos": [1999]}):
        path.write_text(canonical_json({**value, **change}))
        with pytest.raises(ArtifactError):
            read_key(path)
    path.write_text(canonical_json(value))
    assert read_key(path) == eight


def test_the_page_is_blind_self_contained_and_the_same_every_time():
    key, text = page_of(stimuli(), 5, ("mushra", "mos", "abx"), "wav")
    assert (key, text) == page_of(stimuli(), 5, ("mushra", "mos", "abx"), "wav")
    assert page_of(stimuli(), 6, ("mushra", "mos", "abx"), "wav")[0].sounds != key.sounds
    for word in ("good.gsv", "bad.gsv", "anchor", "a" * 64, "http://", "https://", "src="):
        assert word not in text
    assert len(key.mushra) == 2
    assert len(key.mos) == 10
    assert len(key.abx) == 4
    for scale in key.mushra:
        assert [key.role(one) for one in scale.rated].count("reference") == 1
        assert key.sounds[scale.open].data in {key.sounds[one].data for one in scale.rated}
    assert Key.from_json(json.loads(json.dumps(key.to_json())), "key") == key


def test_the_low_anchor_keeps_what_bs_1534_says():
    noise = np.random.default_rng(0).standard_normal(64000).astype(np.float32)
    change = np.abs(np.fft.rfft(_low_passed(noise, 32000))) / np.abs(np.fft.rfft(noise))
    hertz = np.fft.rfftfreq(64000, 1 / 32000)
    assert np.abs(20 * np.log10(change[hertz <= 3490])).max() < 0.1
    assert change[hertz >= 4000].max() < 10 ** (-50 / 20)


def take(page, key, choose):
    """Sit through a whole test with the keyboard alone; `choose(kind, condition)` answers."""
    page.press("Enter")
    while (kind := page.value("screens[state.at].kind")) != "end":
        at = page.value("state.at")
        if kind == "mushra":
            page.press("r")
            page.wait("document.querySelectorAll('.play[data-heard]').length === 1")
            for place, sound in enumerate(page.value("screens[state.at].rated")):
                page.press(str(place + 1))
                page.wait(f"document.querySelectorAll('.play[data-heard]').length === {place + 2}")
                assert page.value("document.querySelector('.next').disabled")
                page.press("End" if choose(kind, key.sounds[sound].condition) == 100 else "Home")
        elif kind == "mos":
            page.press(" ")
            page.wait("document.querySelectorAll('.play[data-heard]').length === 1")
            page.press(str(choose(kind, key.sounds[page.value("screens[state.at].sound")].condition)))
        else:
            for count, letter in enumerate("abx"):
                page.press(letter)
                page.wait(f"document.querySelectorAll('.play[data-heard]').length === {count + 1}")
            page.press("1")
        page.wait("!document.querySelector('button.next').disabled")
        page.press("Enter")
        page.wait(f"state.at === {at + 1}")
    return page.value("document.querySelector('textarea').value")


@pytest.mark.skipif(chromium.browser() is None, reason="no Chromium or Chrome on this machine")
@pytest.mark.parametrize("width", [400, 1200])
def test_a_real_browser_plays_the_test_through_by_keyboard(tmp_path, width):
    key, text = page_of(stimuli(1), 5, ("mushra", "mos", "abx"), "flac")
    file = tmp_path / "page.html"
    file.write_text(text)
    with chromium.opened() as page:
        page.open(f"{file.as_uri()}#rater=ann", width)

        def choose(kind, condition):
            return (100 if condition == 0 else 0) if kind == "mushra" else round(QUALITY[condition])

        wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        for place in range(page.value("screens.length - 1")):  # every screen fits
            page.value(f"state.at = {place}; show()")
            assert page.value(wide), page.value("screens[state.at].kind")
            small = "[...document.querySelectorAll('main button')].filter((b) => b.offsetHeight < 44).length"
            assert page.value(small) == 0
        page.value("state.at = 0; state.answers = {}; show()")
        value = json.loads(take(page, key, choose))
        assert page.value(wide)
        data = page.value("fetch(document.querySelector('a.next').href).then((r) => r.text()).catch(() => 'refused')")
        assert data == "refused"  # the policy lets nothing be fetched, not even what the page made itself
        assert page.value("document.querySelector('a.next').download").endswith("-ann.json")
        assert {one.partition(":")[0] for one in page.asked} <= {"file", "data", "blob", "about"}
    answers = read(value, key, "the browser's")
    assert answers.rater == "ann"
    found = score(key, [answers])
    assert (found.raters, found.dropped) == (1, ())
    assert {row.name: round(row.mos.value) for row in found.rows} == {
        one.name: round(QUALITY[place]) for place, one in enumerate(CONDITIONS)
    }
    file.write_text(json.dumps(value))
    assert file.stat().st_size < 4000


@pytest.mark.skipif(chromium.browser() is None, reason="no Chromium or Chrome on this machine")
def test_an_answer_outlives_a_reload_and_every_rater_has_an_order_of_their_own(tmp_path):
    _, text = page_of(stimuli(), 5, ("mushra", "mos", "abx"), "wav")
    file = tmp_path / "page.html"
    file.write_text(text)
    with chromium.opened() as page:
        orders = []
        for name in ("ann", "ben", "ann"):
            page.open(f"{file.as_uri()}?{len(orders)}#rater={name}", 500)
            orders.append(page.value("JSON.stringify(screens)"))
        assert orders[0] == orders[2] != orders[1]
        page.value("answer('s1', 3); state.at = 4; kept.set(state)")
        page.open(f"{file.as_uri()}?9#rater=ann", 500)
        assert page.value("[state.at, state.answers.s1]") == [4, 3]


def test_sounds_are_lossless_or_opus():
    from gsvexport.report.panel.sounds import encoded, uri

    soundfile = pytest.importorskip("soundfile")
    import io

    sound = (0.1 * np.random.default_rng(0).standard_normal(22050)).astype(np.float32)
    for codec in ("wav", "flac"):
        found, rate = soundfile.read(io.BytesIO(encoded(sound, 22050, codec)), dtype="float32")
        assert rate == 22050
        assert np.abs(found - sound).max() < 1e-4
    assert len(soundfile.read(io.BytesIO(encoded(sound, 22050, "opus")))[0]) == pytest.approx(48000, abs=1000)
    assert base64.b64decode(uri(b"abc", "flac").partition(",")[2]) == b"abc"
    with pytest.raises(InputError):
        from pathlib import Path

        from gsvexport.report.panel.page import write_test

        write_test([], Path("x"), reference=Path("y"), codec="mp3")
