"""The stages of an exported voice, loaded: run one of them, or generate codes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from gsvexport.backends import Opener, Session, open_session
from gsvexport.errors import InputError
from gsvexport.model import Model, read_model
from gsvexport.runtime.baked import read_baked
from gsvexport.runtime.draws import Draws
from gsvexport.runtime.ports import Array, as_array, checked
from gsvexport.runtime.sampling import Sampling
from gsvexport.runtime.side_by_side import OneRow, Rows, new_rows
from gsvexport.runtime.tokens import Decoder, Generated, Writing, generate, new_decoder, write
from gsvexport.stages import BERT_WIDTH, PRETRAINED_STAGES, Stage, speaking, stages

SOURCE_BACKEND = "onnxruntime"  # a source is ONNX; an artifact's manifest names the backend of each of its stages


class LoadedStages:
    """What a loaded voice is made of; `LoadedVoice` speaks with it.

    Graphs are opened when they are first needed and kept until `close`. `opener` opens a stage in another way than its
    backend does.
    """

    def __init__(
        self,
        folder: Path,
        *,
        backends: Mapping[str, str] | None = None,
        threads: int | None = None,
        decoder: Callable[[Session, Session], Decoder] = new_decoder,
        opener: Opener = open_session,
    ) -> None:
        self.path = folder
        self.model: Model = read_model(folder)
        self.stages: dict[str, Stage] = self.model.stages
        self.rate = self.model.rate
        defaults = self.model.sampling
        self.sampling = Sampling(defaults.top_k, defaults.top_p, defaults.temperature, defaults.repetition_penalty)
        self.baked: dict[str, Array] = read_baked(folder, self.model)
        self._backends, self._threads, self._new_decoder = dict(backends or {}), threads, decoder
        self._open = opener
        self._sessions: dict[str, Session] = {}
        self._opening = {file: threading.Lock() for file in self.model.files.values()}

    def open(self) -> None:
        """Open every graph that speaks now, side by side, so that the first sentence does not wait for them.

        Raises:
            InputError: the voice lacks one of them.
            ArtifactError, BackendError: one cannot be opened.
        """
        wanted = [self.stage(name).name for name in speaking(self.model.version)]
        wanted.sort(key=lambda stage: -self._size(stage))  # what takes longest is not begun last
        with ThreadPoolExecutor(min(len(wanted), os.cpu_count() or 1)) as pool:
            for one in [pool.submit(self._session, stage) for stage in wanted]:
                one.result()

    def close(self) -> None:
        """Free every graph. A call after this opens what it needs again."""
        while self._sessions:
            self._sessions.popitem()[1].close()

    def run(self, stage: str, feeds: Mapping[str, Any]) -> dict[str, Array]:
        """One stage: an array for each input port in, an array for each output port out.

        Raises:
            InputError: no such stage here, or arrays that it cannot take (all findings listed).
            BackendError: the backend failed.
        """
        found = self.stage(stage)
        return self._session(stage).run(checked(found, feeds, self.model.dims))

    def stage(self, name: str) -> Stage:
        """A stage that is here.

        Raises:
            InputError: it is not; the message says where it is to be found.
        """
        if name in self.stages:
            return self.stages[name]
        fix = None
        if name in stages(self.model.version) and self.baked:
            fix = "the voice's reference is baked into this artifact; run it on the source instead"
        elif name in PRETRAINED_STAGES:
            fix = "build it from a voice with [pretrained], for a target that takes such networks (x86-64)"
        raise InputError(f"{self.path} holds no stage '{name}'", limit=", ".join(self.stages), fix=fix)

    def _size(self, stage: str) -> int:
        """Bytes of a graph, most of which are its nodes: weights lie outside."""
        path = self.path / self.model.files[stage]
        return path.stat().st_size if path.is_file() else 0

    def _session(self, stage: str) -> Session:
        self.stage(stage)
        backend, file = self._backends.get(stage, SOURCE_BACKEND), self.model.files[stage]
        with self._opening[file]:  # two threads that came at once would hold the graph's weights twice
            if file not in self._sessions:  # a graph that runs two stages is opened once
                self._sessions[file] = self._open(backend, self.path, file, threads=self._threads)
            return self._sessions[file]

    def generate(
        self,
        phones: Any,
        bert: Any,
        prompt: Any,
        sampling: Sampling,
        draws: Draws,
        max_tokens: int,
        on_token: Callable[[int], object] | None = None,
    ) -> Generated:
        """`tokens` with random numbers from outside and all that it found; for what speaks sentence by sentence."""
        feeds = self.sentence(phones, bert, prompt)
        return generate(
            self.decoder(),
            feeds["phones"],
            feeds["bert"],
            feeds["prompt"],
            eos=self.model.eos,
            sampling=sampling,
            draws=draws,
            max_tokens=min(max_tokens, self.room(feeds)),
            on_token=on_token,
        )

    def codes(
        self,
        phones: Any,
        bert: Any,
        prompt: Any,
        sampling: Sampling,
        draws: Draws,
        max_tokens: int,
    ) -> Generator[int, None, bool]:
        """The codes of `generate`, each as soon as it is known; returns whether the sentence ended by itself."""
        feeds = self.sentence(phones, bert, prompt)
        writing = self.writing(feeds, sampling, draws, max_tokens)
        for token, _ in write(self.decoder(), feeds["phones"], feeds["bert"], feeds["prompt"], writing):
            if token is None:
                return True
            yield token
        return False

    def writing(self, feeds: Mapping[str, Array], sampling: Sampling, draws: Draws, max_tokens: int) -> Writing:
        """The state of a sentence of which nothing has been written; `feeds` are those of `sentence`."""
        most = min(max_tokens, self.room(feeds))
        return Writing(feeds["prompt"], eos=self.model.eos, sampling=sampling, draws=draws, max_tokens=most)

    def own_prompt(self) -> Array | None:
        """What to pass as the prompt where nobody gave one: None for the baked one, else an empty one."""
        return None if "prompt" in self.baked else np.empty((1, 0), np.int64)

    def decoder(self) -> Decoder:
        """A decoder for one sentence."""
        return self._new_decoder(self._session("prefill"), self._session("step"))

    def rows(self, most: int) -> Rows:
        """At most `most` sentences side by side, or one at a time where the backend knows no more."""
        if self._new_decoder is not new_decoder:  # whoever listens to a decoder listens to one sentence
            return OneRow(self.decoder())
        return new_rows(self._session("prefill"), self._session("step"), most)

    def sentence(self, phones: Any, bert: Any, prompt: Any) -> dict[str, Array]:
        """Checked feeds of `prefill`, after the baked prompt where none is given.

        Raises:
            InputError: arguments out of range (all listed), no prompt given and none baked, or no room for a code.
        """
        baked = prompt is None
        if baked and "prompt" not in self.baked:
            raise InputError(
                f"{self.model.name}: no prompt was given and none is baked",
                fix="pass prompt= with the codes of a reference, or an empty array to speak without one",
            )
        feeds = self._sentence(phones, bert, self.baked["prompt"] if baked else prompt)
        if baked and "prompt_phones" in self.baked:
            feeds = self._with_prompt_phones(feeds)
        if self.room(feeds) < 1:
            raise InputError(
                "the prompt leaves no room for a single code",
                found=f"{feeds['prompt'].shape[1]} prompt codes",
                limit=f"{self.model.dims.positions} prompt and new codes together",
                fix="use a shorter reference",
            )
        return feeds

    def room(self, feeds: Mapping[str, Array]) -> int:
        """How many codes can follow the prompt of `sentence`'s feeds."""
        return self.model.dims.positions - int(feeds["prompt"].shape[1])

    def _sentence(self, phones: Any, bert: Any, prompt: Any) -> dict[str, Array]:
        """Checked feeds of `prefill`."""
        sentence = row(phones)
        if bert is None:
            features: Array = np.zeros((1, BERT_WIDTH, max(1, sentence.size)), np.float32)
        else:
            features = as_array(bert)
            features = features[np.newaxis] if features.ndim == 2 else features
        feeds = checked(
            self.stage("prefill"), {"phones": sentence, "bert": features, "prompt": row(prompt)}, self.model.dims
        )
        ends = np.flatnonzero(feeds["prompt"] == self.model.eos)
        if ends.size:
            raise InputError(
                f"prefill.prompt: {self.model.eos} at place {ends[0]} ends a sentence and is no code",
                fix="leave it out of the prompt",
            )
        return feeds

    def _with_prompt_phones(self, feeds: dict[str, Array]) -> dict[str, Array]:
        """The baked prompt's phones in front of the sentence's own, with their text features where those are baked."""
        before = self.baked["prompt_phones"]
        together = before.shape[1] + feeds["phones"].shape[1]
        if together > self.model.dims.positions:
            raise InputError(
                "the sentence is too long together with the baked prompt",
                found=f"{feeds['phones'].shape[1]} phones after {before.shape[1]} of the prompt",
                limit=f"{self.model.dims.positions} together",
                fix="split the sentence",
            )
        features = self.baked.get("prompt_bert", np.zeros((1, BERT_WIDTH, before.shape[1]), np.float32))
        return {
            **feeds,
            "phones": np.concatenate([before, feeds["phones"]], axis=1),
            "bert": np.concatenate([features, feeds["bert"]], axis=2),
        }


def row(value: Any) -> Array:
    """[n] → [1, n]; anything else is left for the port check to judge."""
    array = as_array(value)
    return array[np.newaxis] if array.ndim == 1 else array
