"""Speech by OpenAI's API: what is sent, and that nobody's sound depends on who else is spoken to."""

import io
import json
import threading
import wave
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import openai
import pytest
from websockets.sync.client import connect

import gsvexport

TEXT = "One and one. Two and two."


def pcm(data):
    with wave.open(io.BytesIO(data)) as sound:
        assert (sound.getnchannels(), sound.getsampwidth()) == (1, 2)
        return np.frombuffer(sound.readframes(sound.getnframes()), "<i2"), sound.getframerate()


@pytest.fixture(scope="module")
def alone(shelf, start):
    """What the voice says by itself, seed by seed."""
    with gsvexport.load(shelf[0] / "alice.gsv", threads=1) as voice:
        return {seed: voice.synthesize(TEXT, seed=seed).pcm() for seed in range(3)}


def test_each_of_many_callers_hears_what_it_would_hear_alone(server, alone):
    with ThreadPoolExecutor(6) as callers:
        answers = list(callers.map(lambda seed: server.say(TEXT, seed=seed % 3), range(6)))
    for number, answer in enumerate(answers):
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "audio/wav"
        found, rate = pcm(answer.content)
        assert rate == 32000
        np.testing.assert_array_equal(found, alone[number % 3])
    assert len({answer.headers["x-request-id"] for answer in answers}) == 6
    server.wait_for(6, path="/v1/audio/speech", status=200)
    lines = [one for one in server.events("request") if one["path"] == "/v1/audio/speech"]
    assert all(one["voice"] == "alice" and one["first_sound"] <= one["seconds"] for one in lines)
    assert "Two and two" not in server.log.getvalue()
    assert len(server.events("opened")) == 1  # one load for all of them


def test_the_client_of_openai_works_unchanged(server, alone):
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    assert {"alice", "bob", "carol", "gsvexport"} == {one.id for one in client.models.list()}
    assert client.models.retrieve("alice").id == "alice"
    said = client.audio.speech.create(model="tts-1", voice="alloy", input=TEXT, response_format="wav")
    np.testing.assert_array_equal(pcm(said.read())[0], alone[0])
    assert client.audio.speech.create(model="alice", voice="alice", input="Hello there.").read()[:2] in (
        b"ID",
        b"\xff\xfb",
        b"\xff\xf3",
    )
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alice", input=TEXT, response_format="pcm", extra_body={"stream": True}
    ) as answer:
        pieces = [one for one in answer.iter_bytes() if one]
    assert len(pieces) > 1
    with pytest.raises(openai.NotFoundError) as told:
        client.audio.speech.create(model="tts-1", voice="nobody", input="Hello.")
    assert told.value.code == "voice_not_found"
    assert "GET /voices" in told.value.message
    with pytest.raises(openai.BadRequestError) as told:
        client.audio.speech.create(model="tts-1", voice="alice", input="\u0e01")
    assert told.value.param == "input"
    assert "characters that cannot be read" in told.value.message


def test_sound_in_pieces_is_what_the_voice_streams(server, shelf):
    with gsvexport.load(shelf[0] / "bob.gsv", threads=1) as voice:
        expected = np.concatenate([one.pcm() for one in voice.stream(TEXT, seed=5)])
    value = {"model": "bob", "voice": "bob", "input": TEXT, "seed": 5, "stream": True, "response_format": "wav"}
    with server.client.stream("POST", "/v1/audio/speech", json=value) as answer:
        assert answer.headers["transfer-encoding"] == "chunked"
        data = b"".join(answer.iter_raw())
    assert data[:4] == b"RIFF"
    np.testing.assert_array_equal(np.frombuffer(data[44:], "<i2"), expected)


@pytest.mark.parametrize("form", ["flac", "opus", "mp3", "pcm"])
def test_every_format_holds_the_sound(server, alone, form):
    import soundfile

    answer = server.say(TEXT, response_format=form)
    assert answer.status_code == 200
    if form == "pcm":
        seconds = len(answer.content) / 2 / 24000
    else:
        samples, rate = soundfile.read(io.BytesIO(answer.content))
        seconds = len(samples) / rate
    assert abs(seconds - len(alone[0]) / 32000) < 0.1


def test_text_in_pieces_is_spoken_sentence_by_sentence(server):
    with connect(f"ws://{server.host}:{server.port}/v1/audio/live") as socket:
        socket.send(json.dumps({"voice": "alice", "seed": 1}))
        assert json.loads(socket.recv(30)) == {"type": "begin", "rate": 24000}
        socket.send(json.dumps({"text": "Good mor"}))
        socket.send(json.dumps({"text": "ning to you. It is"}))
        assert json.loads(socket.recv(30)) == {"type": "sentence", "number": 1}
        assert isinstance(socket.recv(30), bytes)  # although the text has not ended
        socket.send(json.dumps({"text": " late", "end": True}))
        told = [one for one in socket if isinstance(one, str)]
    assert [json.loads(one) for one in told] == [
        {"type": "sentence", "number": 2},
        {"type": "end", "sentences": 2},
    ]


def test_what_is_wrong_in_a_conversation_is_said(server):
    for message, code in (("{", "invalid_json"), ('{"voice": "../alice"}', "voice_not_found")):
        with connect(f"ws://{server.host}:{server.port}/v1/audio/live") as socket:
            socket.send(message)
            assert json.loads(socket.recv(30))["error"]["code"] == code


def test_a_server_says_what_it_has_and_how_it_is(server):
    voices = server.client.get("/voices").json()["voices"]
    assert [one["id"] for one in voices] == ["alice", "bob", "carol"]
    assert voices[0]["verified"] == "passed"
    assert voices[0]["trusted"] is True
    assert "maker" in voices[0]["signed"]
    assert voices[0]["language"] == "en"
    assert {"en", "zh"} <= set(voices[0]["languages"])
    assert voices[0]["bytes"] > 1e6
    assert server.client.get("/healthz").json() == {"ok": True}
    assert server.client.get("/readyz").json() == {"ready": True}
    assert server.say("Hello.").status_code == 200
    page = server.client.get("/metrics").text
    assert 'gsvexport_requests_total{path="/v1/audio/speech",status="200"}' in page
    assert 'gsvexport_sound_seconds_total{voice="alice"}' in page


def test_a_caller_who_leaves_frees_the_turn_and_is_written_for_no_further(start):
    server = start(rows=1, queue=1)
    value = {"model": "alice", "voice": "alice", "input": " ".join(["It is a long story."] * 60)}
    value |= {"stream": True, "response_format": "pcm"}
    with httpx.stream("POST", f"{server.url}/v1/audio/speech", json=value, timeout=30) as answer:
        next(answer.iter_raw())
    assert server.say("Hello.").status_code == 200  # long before the story would have ended
    server.wait_for(1, status=499)
    for one in threading.enumerate():
        if one.name == "gsvexport-batch":  # which is over once nothing is left to write
            one.join(30)
            assert not one.is_alive()


def test_too_many_callers_are_told_when_to_come_again(start):
    server = start(rows=1, queue=0)
    value = {"model": "alice", "voice": "alice", "input": " ".join(["It is a long story."] * 60)}
    value |= {"stream": True, "response_format": "pcm"}
    with httpx.stream("POST", f"{server.url}/v1/audio/speech", json=value, timeout=30) as answer:
        next(answer.iter_raw())
        second = server.say("Hello.")
        assert second.status_code == 429
        assert int(second.headers["retry-after"]) >= 1
        assert second.json()["error"]["type"] == "rate_limit_error"
        assert server.say("Hello.", voice="bob").status_code == 200


def test_what_takes_too_long_ends_at_its_deadline(start):
    server = start(deadline=0.3)
    answer = server.say(" ".join(["It is a long story."] * 150))
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "deadline"
    server.wait_for(1, code="deadline", status=504)
