"""The page at `/`: self-contained, and in a real browser."""

import re
import time

import httpx
import pytest
from report import browser as chromium

from gsvexport.serve.front import report

KEY = "k" * 32


@pytest.fixture(scope="module")
def server(start):
    return start(key=KEY)


def test_the_page_is_one_file_that_asks_nobody_else(server):
    answer = httpx.get(f"{server.url}/")  # whoever opens it has not given a key yet
    assert answer.status_code == 200
    rules = answer.headers["content-security-policy"]
    assert "default-src 'none'" in rules
    assert len(re.findall("sha256-", rules)) == 2
    assert not re.search(r"""(?:https?:)?//[a-z]|(?:src|href)\s*=\s*["'](?!data:)""", answer.text)
    for path in ("/voices", "/voices/alice/report"):
        assert httpx.get(f"{server.url}{path}").status_code == 401


def test_a_voices_own_report_is_told(server):
    found = server.client.get("/voices/alice/report")
    assert found.json()["passed"] is True
    offer = server.service.catalogue.offers["alice"]
    assert found.content == report(offer)
    for name in ("nobody", "..%2F..%2Fetc", "%00"):
        assert server.client.get(f"/voices/{name}/report").status_code == 404


@pytest.mark.skipif(chromium.browser() is None, reason="no Chromium or Chrome on this machine")
def test_a_browser_chooses_a_voice_and_hears_it(server, tmp_path):
    text = "One, two. Three, four."
    with chromium.opened() as page:
        page.open(f"{server.url}/", 1400, 900)
        _give_key(page)
        page.picture(tmp_path / "page-1400.png")
        page.open(f"{server.url}/", 400, 900)  # the key is remembered as long as the window is open
        page.wait("document.querySelectorAll('#voice option').length === 3")
        page.value("at('voice').value = 'bob'; at('voice').dispatchEvent(new Event('change'))")
        page.value(f"at('text').value = '{text}'; at('speak').click()")
        page.wait("!at('again').hidden", 120)
        told = {one: page.value(f"at('{one}').textContent") for one in ("first", "length", "rtf", "said")}
        assert re.fullmatch(r"\d+ ms|\d+\.\d\d s", told["first"]), told
        assert float(told["rtf"]) > 0
        page.value("at('report').open = true")
        page.wait("document.querySelectorAll('#checks tr').length > 1", 60)
        assert page.value("at('name').textContent") == "bob"
        assert "Passed" in page.value("at('verdict').textContent")
        page.picture(tmp_path / "page-400.png")
        # What is heard again and saved is, sample by sample, what was asked for.
        heard = bytes(page.value("sound.wav().arrayBuffer().then(data => [...new Uint8Array(data)])"))
        assert heard[:4] == b"RIFF"
        assert heard[44:] == server.say(text, voice="bob", response_format="pcm", stream=True).content
        assert page.value("[...at('wave').getContext('2d').getImageData(0, 60, 300, 1).data].some(v => v)")
        assert page.value("document.documentElement.scrollWidth <= innerWidth")
        heights = page.value("[...document.querySelectorAll('button, select, textarea')].map(e => e.offsetHeight)")
        assert all(one == 0 or one >= 40 for one in heights)  # a finger hits all that is shown
        # A sentence that is stopped is cancelled at the server, too.
        page.value("at('text').value = 'One, two. '.repeat(20); at('speak').click()")
        line = server.service.desk.line(server.service.catalogue.offers["bob"])
        page.wait("at('speak').disabled && !at('stop').disabled")
        _until(lambda: line.speaking)
        page.value("at('stop').click()")
        page.wait("!at('speak').disabled")
        server.wait_for(1, path="/v1/audio/speech", status=499)
        assert all(one.startswith((server.url, "data:", "blob:")) for one in page.asked), page.asked
        refused = [one for one in page.errors if "401" not in one]  # it is asked before it is given the key
        assert not refused, refused


def _give_key(page):
    page.wait("!at('gate').hidden")
    page.value("at('key').value = 'wrong'; document.querySelector('#gate button').click()")
    page.wait("at('said').textContent.includes('API key')")
    page.value(f"at('key').value = '{KEY}'; document.querySelector('#gate button').click()")
    page.wait("document.querySelectorAll('#voice option').length === 3")
    page.wait("at('gate').hidden && at('said').textContent === ''")


def _until(what):
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)
