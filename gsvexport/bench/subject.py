"""One voice, measured: loaded, made to speak a sentence of fixed length, and its memory read. Runs in a child process.

The sentence goes the way that every sentence goes (`LoadedVoice.synthesize`), with two changes. Each call into a stage
is timed, and the scores that the network returns are replaced by scores that favour one fixed code, so that every
voice speaks the same codes, as many as were asked for. The sampler still does all of its work.
"""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsvexport.bench.child import memory

if TYPE_CHECKING:
    from gsvexport.bench.timed import TimedVoice


def measure(folder: str, threads: int, tokens: int, prompt: int, phones: int) -> dict[str, Any]:
    """Load the voice in `folder` and speak one sentence twice; the first one warms up, the second one is measured.

    Then it is spoken twice in windows, where the voice says how far its vocoder looks.

    Times are in the unit that their name ends with; `memory` is that of `child.memory`, once all of this is done.
    """
    start = time.perf_counter()
    import onnxruntime  # noqa: F401 - the import is timed apart from what loads the voice

    from gsvexport.bench.timed import TimedVoice
    from gsvexport.stages import speaking

    import_s = time.perf_counter() - start
    start = time.perf_counter()
    voice = TimedVoice(Path(folder), threads)
    load_s = time.perf_counter() - start
    version, given = voice.model.version, _given(voice, tokens, prompt, phones)
    for _ in range(2):
        voice.calls.clear()
        start = time.perf_counter()
        audio = voice.synthesize(**given)
        sentence_s = time.perf_counter() - start
    calls = [*voice.calls]
    streamed = [_streamed(voice, given) for _ in range(2)][-1] if voice.model.vocoder_context else {}
    spans = {stage: [end - begin for name, begin, end in calls if name == stage] for stage in speaking(version)}
    between = [stage for stage in spans if stage not in ("prefill", "step", "vocoder")]
    loop = [(begin, end) for name, begin, end in calls if name in ("prefill", "step")]
    return {
        "import_s": import_s,
        "load_s": load_s,
        "prefill_s": spans["prefill"][0],
        "step_ms": [1e3 * span for span in spans["step"]],
        "sampling_ms": [1e3 * (later[0] - earlier[1]) for earlier, later in pairwise(loop)],
        "acoustic_s": sum(sum(spans[stage]) for stage in between),
        "vocoder_s": spans["vocoder"][0],
        "sentence_s": sentence_s,
        "audio_s": audio.seconds,
        **streamed,
        "memory": memory(),
    }


def measure_sentences(
    folder: str, threads: int, tokens: int, prompt: int, phones: int, sentences: int
) -> dict[str, Any]:
    """Say so many sentences twice, each as in `measure`: codes side by side, as far as the voice does that here, each
    voiced as soon as they are there. `sentence_s` is for all of them."""
    from gsvexport.bench.timed import TimedVoice
    from gsvexport.runtime.speech import Manner, latents, whole
    from gsvexport.runtime.text import Spoken

    voice = TimedVoice(Path(folder), threads)
    given = _given(voice, tokens, prompt, phones)
    said = [Spoken(given.pop("phones")[None])] * sentences
    for _ in range(2):
        start = time.perf_counter()
        with voice.batch(rows=sentences) as batch:
            for feeds in latents(voice, said, Manner(batch=batch, **given), together=True):
                whole(voice, feeds)
        sentence_s = time.perf_counter() - start
    return {"sentence_s": sentence_s, "memory": memory()}


def _given(voice: TimedVoice, tokens: int, prompt: int, phones: int) -> dict[str, Any]:
    """What the voice is asked to say, its codes apart, which it is told."""
    import numpy as np

    from gsvexport.stages import VERSIONS, sounding

    random = np.random.Generator(np.random.PCG64(0))
    dims, version = voice.model.dims, voice.model.version
    voice.forced = random.integers(0, dims.codes, tokens)
    given: dict[str, Any] = {
        "phones": random.integers(0, min(dims.phones, dims.text_phones), phones),
        "max_tokens": tokens,
    }
    if VERSIONS[version].mel is None:  # v3 and v4 have their own prompt and no other
        given["prompt"] = random.integers(0, dims.codes, prompt)
        given["conditioning"] = {
            port.name: voice.baked.get(port.name, random.standard_normal(port.shape, np.float32))  # type: ignore[arg-type]
            for port in voice.stages[sounding(version)].inputs
            if port.name in ("ge", "ge_text")
        }
    return given


def _streamed(voice: TimedVoice, given: dict[str, Any]) -> dict[str, float]:
    """Seconds until the first window of the same sentence is there, and until all of them are."""
    start = time.perf_counter()
    pieces = voice.stream(**given)
    next(pieces)
    first = time.perf_counter() - start
    for _ in pieces:
        pass
    return {"first_audio_s": first, "streamed_s": time.perf_counter() - start}
