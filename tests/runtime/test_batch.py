"""Sentences side by side: the codes that each gets alone, whoever else is being written."""

import shutil
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest
from passes.graphs import ROWS_OF_FOUR_BITS

from gsvexport.backends.onnxruntime.in_place import InPlaceStep
from gsvexport.backends.onnxruntime.lower import lower
from gsvexport.backends.onnxruntime.rows import InPlaceRows
from gsvexport.compiler.source import write_source
from gsvexport.errors import BackendError, InputError
from gsvexport.runtime import batch as batches
from gsvexport.runtime import pipeline
from gsvexport.runtime.batch import Batch
from gsvexport.runtime.sampling import Sampling
from gsvexport.runtime.side_by_side import OneRow
from gsvexport.synthetic import write_voice
from gsvexport.voice.voice import read_voice

TEXT = "One. Two and three are more than one. Four. Five, six, seven. Eight is enough. Nine."


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    return write_source(read_voice(write_voice(folder / "voice", seed=3)), folder / "source")


@pytest.fixture(scope="module", params=["fp32", "int8-weights", pytest.param("int4-weights", marks=ROWS_OF_FOUR_BITS)])
def voice(request, source, tmp_path_factory):
    """A voice lowered as an artifact's is, in one precision of T2S."""
    return lowered(source, request.param, tmp_path_factory.mktemp(request.param))


def lowered(source, precision, folder):
    model = source.model
    placement = {name: precision if stage.role == "ar" else "fp32" for name, stage in model.stages.items()}
    lower(source.path, model, placement, folder, device={"features": []})
    for name in ("model.json", *model.baked.values()):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(source.path / name, folder / name)
    return pipeline.LoadedVoice(folder, threads=1)


def sentence(seed):
    random = np.random.default_rng(seed)
    return {
        "phones": random.integers(0, 700, 3 + 5 * seed % 23),
        "sampling": Sampling(seed=seed),
        "max_tokens": int(random.integers(1, 150)),
    }


def left():
    return [thread for thread in threading.enumerate() if thread.name == "gsvexport-batch"]


def test_each_sentence_has_the_codes_that_it_gets_alone(voice):
    said = [sentence(seed) for seed in range(12)]
    with voice.batch(rows=4) as batch:
        written = [batch.submit(**one) for one in said]
        together = [one.result(60) for one in written]
        assert isinstance(batch._rows, InPlaceRows)
    lengths = {codes.size for codes in together}
    assert len(lengths) > 4  # so they left at different times, and others entered beside those that stayed
    for one, codes in zip(said, together, strict=True):
        np.testing.assert_array_equal(codes, voice.tokens(**one))
    assert not left()


def test_codes_come_one_by_one(voice):
    with voice.batch() as batch:
        codes = iter(batch.submit(**{**sentence(1), "max_tokens": 40}))
        first = next(codes)
        whole = voice.tokens(**{**sentence(1), "max_tokens": 40})
        assert [first, *codes] == whole.tolist()


def test_a_text_of_several_sentences_sounds_as_one_after_the_other(voice, monkeypatch):
    written = voice.synthesize(TEXT, seed=2, max_tokens=30).samples
    pieces = [one.samples for one in voice.stream(TEXT, seed=2, max_tokens=30, ahead=None, window=0.2)]
    np.testing.assert_allclose(np.concatenate(pieces), written, atol=1e-5)
    with voice.batch(rows=3) as batch:
        np.testing.assert_array_equal(voice.synthesize(TEXT, seed=2, max_tokens=30, batch=batch).samples, written)
    monkeypatch.setattr(pipeline.LoadedVoice, "rows", lambda self, most: OneRow(self.decoder()))
    np.testing.assert_array_equal(voice.synthesize(TEXT, seed=2, max_tokens=30).samples, written)
    assert not left()


def test_each_of_many_sentences_is_told_of_once_and_spoken_in_its_turn(voice):
    text = " ".join(f"Here is one more sentence, and number {number} it is." for number in range(10))
    with voice.batch(rows=3) as batch:
        sound = []
        for how in ({}, {"batch": batch}):
            told = []
            sound.append(voice.synthesize(text, max_tokens=4, progress=lambda *at: told.append(at), **how))  # noqa: B023
            assert told == [(number, 10) for number in range(1, 11)]
    np.testing.assert_array_equal(sound[0].samples, sound[1].samples)
    pieces = [one.samples for one in voice.stream(text, max_tokens=4, ahead=None)]  # one after the other
    np.testing.assert_allclose(np.concatenate(pieces), sound[0].samples, atol=1e-5)


def test_many_callers_share_a_batch(voice):
    def speak(seed):
        return voice.synthesize(TEXT, seed=seed, max_tokens=12, batch=batch).samples

    with voice.batch(rows=3, waiting=2) as batch, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(speak, range(4)))
    for seed, samples in enumerate(found):
        np.testing.assert_array_equal(samples, voice.synthesize(TEXT, seed=seed, max_tokens=12).samples)


def test_a_source_writes_sentence_by_sentence(source):
    with pipeline.load(source.path, threads=1) as voice, voice.batch() as batch:
        written = [batch.submit(**sentence(seed)) for seed in range(3)]
        for seed, one in enumerate(written):
            np.testing.assert_array_equal(one.result(60), voice.tokens(**sentence(seed)))
        assert isinstance(batch._rows, OneRow)


def test_a_cancelled_sentence_makes_room_and_harms_no_other(voice):
    with voice.batch(rows=2) as batch:
        long = [batch.submit(**{**sentence(seed), "max_tokens": 400}) for seed in range(2)]
        waiting = batch.submit(**sentence(5))
        begun = iter(long[0])
        next(begun)
        long[0].cancel()
        with pytest.raises(CancelledError):
            long[0].result()
        with pytest.raises(CancelledError):
            list(long[0])
        np.testing.assert_array_equal(waiting.result(60), voice.tokens(**sentence(5)))
        expected = voice.tokens(**{**sentence(1), "max_tokens": 400})
        np.testing.assert_array_equal(long[1].result(60), expected)
        long[1].cancel()
        np.testing.assert_array_equal(long[1].result(), expected)


def test_closing_ends_what_is_not_done(voice):
    batch = Batch(voice, rows=1)
    written = [batch.submit(**{**sentence(seed), "max_tokens": 400}) for seed in range(3)]
    begun = iter(written[0])
    next(begun)
    batch.close()
    assert not left()
    for one in written[1:]:
        with pytest.raises(CancelledError):
            one.result()
    with pytest.raises(InputError, match="closed"):
        batch.submit(**sentence(0))


def test_sentences_are_read_while_others_are_written(voice, monkeypatch):
    """Where there is a core for it. On one, nobody reads ahead; the codes are the same."""
    expected = [voice.tokens(**sentence(seed)) for seed in range(4)]
    for cores in (2, 1):
        monkeypatch.setattr(batches, "_CORES", cores)
        readers, read = [], InPlaceRows.read

        def noted(self, *feeds, read=read, readers=readers):
            readers.append(threading.current_thread().name)
            return read(self, *feeds)

        with monkeypatch.context() as patch, voice.batch(rows=3) as batch:
            patch.setattr(InPlaceRows, "read", noted)
            written = [batch.submit(**sentence(seed)) for seed in range(4)]
            for one, codes in zip(written, expected, strict=True):
                np.testing.assert_array_equal(one.result(60), codes)
        ahead = [name for name in readers if name.startswith("gsvexport-prefill")]
        assert len(readers) == 4
        assert bool(ahead) == (cores > 1)


class Faulty:
    """Rows whose first step of two sentences fails, or whose second row's logits are NaN."""

    def __init__(self, inner, step_fails):
        self.most, self._inner, self._step_fails = inner.most, inner, step_fails
        self.enter, self.leave, self.read, self.enter_read = inner.enter, inner.leave, inner.read, inner.enter_read
        self._failed = self._met = False

    def step(self, tokens, positions):
        self._met |= len(tokens) > 1
        if not self._met:
            time.sleep(0.02)  # until the second one is there, on however busy a machine
        if self._step_fails and not self._failed and len(tokens) > 1:
            self._failed = True
            raise BackendError("no memory")
        logits = self._inner.step(tokens, positions)
        if not self._step_fails and len(logits) > 1:
            logits[1] = np.nan
        return logits


@pytest.mark.parametrize("step_fails", [True, False])
def test_a_fault_reaches_whom_it_concerns_and_the_batch_goes_on(voice, monkeypatch, step_fails):
    rows = voice.rows
    monkeypatch.setattr(voice, "rows", lambda most: Faulty(rows(most), step_fails))
    with voice.batch(rows=2) as batch:
        first, second = (batch.submit(**{**sentence(seed), "max_tokens": 20}) for seed in range(2))
        with pytest.raises(BackendError, match="no memory" if step_fails else "NaN"):
            second.result(60)
        if step_fails:
            with pytest.raises(BackendError, match="no memory"):
                first.result(60)
        else:
            expected = voice.tokens(**{**sentence(0), "max_tokens": 20})
            np.testing.assert_array_equal(first.result(60), expected)
        np.testing.assert_array_equal(batch.submit(**sentence(4)).result(60), voice.tokens(**sentence(4)))


def test_a_fault_in_one_sentence_of_a_text_comes_in_its_turn(voice, monkeypatch):
    rows = voice.rows
    monkeypatch.setattr(voice, "rows", lambda most: Faulty(rows(most), step_fails=True))
    with pytest.raises(BackendError, match="no memory"):
        voice.synthesize(TEXT, max_tokens=20)
    assert not left()


@pytest.mark.parametrize("ahead", [None, 4])
def test_speech_that_nobody_waits_for_is_written_no_further(voice, ahead):
    with voice.batch(rows=2) as batch:
        pieces = voice.stream(TEXT, ahead=ahead, max_tokens=200, batch=batch)
        next(pieces)
        pieces.close()
        for thread in left():  # which is over once nothing is left to write
            thread.join(60)
            assert not thread.is_alive()


@pytest.mark.parametrize("ahead", [None, 4])
def test_a_stream_through_a_batch_is_the_stream_without_it(voice, ahead):
    def stream(**how):
        return [one.samples for one in voice.stream(TEXT, seed=4, ahead=ahead, max_tokens=25, window=0.2, **how)]

    with voice.batch(rows=2) as batch:
        found = stream(batch=batch)
    for one, other in zip(found, stream(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_more_sentences_wait_than_may(voice):
    with voice.batch(rows=1, waiting=1) as batch:
        first = batch.submit(**{**sentence(1), "max_tokens": 400})
        begun = iter(first)
        next(begun)
        batch.submit(**sentence(2))
        third = threading.Thread(target=batch.submit, kwargs=sentence(3))
        third.start()
        time.sleep(0.05)
        waits = third.is_alive()
        assert waits or first.done
        first.cancel()
        third.join(60)
        assert not third.is_alive()


@pytest.mark.parametrize(("how", "says"), [({"rows": 0}, "rows"), ({"rows": 65}, "rows"), ({"waiting": 0}, "waiting")])
def test_sizes_out_of_range_are_named(voice, how, says):
    with pytest.raises(InputError, match=says):
        voice.batch(**how)


def test_what_cannot_be_said_is_refused_at_once(voice):
    with voice.batch() as batch:
        with pytest.raises(InputError, match="phones"):
            batch.submit([])
        with pytest.raises(InputError, match="max_tokens"):
            batch.submit([1, 2], max_tokens=0)
        assert not left()


def test_an_artifact_of_a_release_that_knew_one_row_writes_one_at_a_time(voice, monkeypatch):
    shape = InPlaceStep.shape
    monkeypatch.setattr(
        InPlaceStep, "shape", lambda self, port, **how: [1, 1] if port == "token" else shape(self, port, **how)
    )
    assert isinstance(voice.rows(4), OneRow)
