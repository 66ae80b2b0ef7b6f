"""Who speaks when, text cut into sentences, sound in pieces, and settings: what needs no voice."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from types import SimpleNamespace

import numpy as np
import pytest

from gsvexport.errors import InputError
from gsvexport.runtime.batch import Written
from gsvexport.serve.sentences import LONGEST, Sentences
from gsvexport.serve.settings import read_settings, size
from gsvexport.serve.sound import Resampled
from gsvexport.serve.speech import Left, Share
from gsvexport.serve.turns import Busy, Line
from gsvexport.signal.audio import resample

KEY = "0123456789abcdef"


def test_turns_go_round_in_the_order_of_coming():
    async def work():
        line, order = Line("alice", 1, 3), []

        async def caller(name):
            turn = await line.enter()
            order.append(name)
            await asyncio.sleep(0)
            line.leave(turn)

        first = await line.enter()
        others = [asyncio.ensure_future(caller(name)) for name in "abc"]
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="try again in 4 s") as told:
            await line.enter()
        assert told.value.after == 4
        others[1].cancel()
        line.leave(first)
        await asyncio.gather(*others, return_exceptions=True)
        assert order == ["a", "c"]
        assert (line.speaking, line.waiting) == (0, 0)
        turn = await line.enter()  # one whose turn comes as he leaves hands it on
        late, next_one = asyncio.ensure_future(caller("late")), asyncio.ensure_future(caller("next"))
        await asyncio.sleep(0)
        line.leave(turn)
        late.cancel()
        await asyncio.gather(late, next_one, return_exceptions=True)
        assert order == ["a", "c", "next"]
        assert (line.speaking, line.waiting) == (0, 0)

    asyncio.run(work())


def test_a_long_text_has_no_more_than_its_share_in_the_batch():
    submitted = []
    batch = SimpleNamespace(submit=lambda *_: submitted.append(Written()) or submitted[-1])
    share = Share(batch, lambda: 2)
    share.submit()
    share.submit()
    with ThreadPoolExecutor(1) as caller:
        third = caller.submit(share.submit)
        with pytest.raises(NotYet):
            third.result(0.05)
        assert len(submitted) == 2
        submitted[0].end()
        assert third.result(5) is submitted[2]
        fourth = caller.submit(share.submit)
        share.cancel()
        with pytest.raises(Left):
            fourth.result(5)
    assert all(one.done for one in submitted)
    assert len(submitted) == 3


def test_a_sentence_is_handed_out_when_it_is_whole():
    collected = Sentences()
    assert collected.add("Dr. Smith has 3.") == []
    assert collected.add("5 cats. And") == ["Dr. Smith has 3.5 cats."]
    assert collected.add(' more!" he said. ') == ['And more!"', "he said."]
    assert collected.add("...") == []
    assert collected.add("你好。再见") == ["...你好。"]
    assert collected.end() == ["再见"]
    assert collected.end() == []
    assert collected.add("one\ntwo") == ["one"]


def test_a_sentence_without_an_end_is_cut():
    collected = Sentences()
    found = collected.add("word, " * 200) + collected.end()
    assert all(len(one) <= LONGEST for one in found)
    assert " ".join(found).split() == ["word,"] * 200
    assert "".join(Sentences().add("x" * 1000)) == "x" * (1000 // LONGEST * LONGEST)


@pytest.mark.parametrize("rate", [32000, 24000, 48000, 44100])
def test_pieces_are_resampled_as_the_whole_is(rate):
    random = np.random.default_rng(rate)
    whole = random.standard_normal(3 * rate // 10).astype(np.float32)
    one = Resampled(rate, 24000)
    cuts = np.sort(random.integers(0, len(whole), 12))
    pieces = [one.add(piece) for piece in np.split(whole, cuts)]
    found = np.concatenate([*pieces, one.end()])
    np.testing.assert_allclose(found, resample(whole, rate, 24000), atol=1e-9)


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(tmp_path):
    file = tmp_path / "serve.toml"
    file.write_text('port = 1\nqueue = 1\nrows = 1\nmemory = "1.5G"\n[aliases]\nalloy = "alice"\n')
    environment = {"GSVEXPORT_SERVE_PORT": "2", "GSVEXPORT_SERVE_QUEUE": "2", "GSVEXPORT_SERVE_PIN": "a,b"}
    found = read_settings({"port": 3, "rows": None}, file, environment)
    assert (found.port, found.queue, found.rows, found.memory) == (3, 2, 1, 1_500_000_000)
    assert found.aliases == {"alloy": "alice"}
    assert found.pin == ("a", "b")


def test_everything_that_is_wrong_is_named_at_once(tmp_path):
    file = tmp_path / "serve.toml"
    file.write_text('prot = 1\nrows = 100\nmemory = "much"\nkey = "x"\nlog_text = "perhaps"\nqueue = 1.5\n')
    with pytest.raises(InputError) as told:
        read_settings({"port": 70000}, file, {"GSVEXPORT_SERVE_DEADLINE": "nan"})
    for word in ("prot", "rows", "memory", "key", "log_text", "queue", "--port", "DEADLINE", "0.01 to 86400"):
        assert word.lower() in str(told.value).lower()


def test_others_are_answered_only_with_a_key(tmp_path):
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.com", ""):
        with pytest.raises(InputError, match="no API key is set"):
            read_settings({"host": host})
    for host in ("localhost", "127.0.0.1", "::1"):
        assert read_settings({"host": host}).loopback
    assert read_settings({"host": "0.0.0.0"}, environment={"GSVEXPORT_SERVE_API_KEY": KEY}).key == KEY
    (tmp_path / "key").write_text(f"{KEY}\n")
    settings = read_settings({"host": "0.0.0.0", "api_key_file": tmp_path / "key"})
    assert settings.key == KEY
    assert KEY not in repr(settings)
    with pytest.raises(InputError, match="sensible length"):
        read_settings({}, environment={"GSVEXPORT_SERVE_API_KEY": "short"})


def test_sizes_are_read():
    assert [size(one) for one in ("2G", "500M", "1.5k", "7", 9)] == [2 * 10**9, 5 * 10**8, 1500, 7, 9]
    for wrong in ("", "G", "-1", "1e9", "2Gi", True):
        with pytest.raises(ValueError, match="no size"):
            size(wrong)
