"""Golden vectors from codes to sound through all stages in a row, with the flow matching of v3 and v4 in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gsvexport.runtime import flow_matching
from gsvexport.stages import FEATURE_WIDTH, MEL_BANDS, VERSIONS, denormalised
from gsvexport.verify.cases import Array, Case, Runnable, Size

MEL_PROMPT, MEL_STEPS = 64, 4  # frames of the prompt and steps of flow matching: enough to be heard, and cheap
QUIETEST, LOUDEST = -12.0, 2.0  # of the vocoder's log-mels


def first_step(voice: Runnable, fea: Array, size: Size, random: np.random.Generator) -> dict[str, Array]:
    """The feeds of `cfm` at the first of `MEL_STEPS` steps: a prompt, of a sentence the end of the voice's own, then
    `fea` of what is said."""
    mel = VERSIONS[voice.model.version].mel
    assert mel is not None
    known = 0.3 * random.standard_normal((1, MEL_BANDS, MEL_PROMPT))
    before = random.standard_normal((1, FEATURE_WIDTH, MEL_PROMPT))
    if size.sentence and "prompt_mel" in voice.baked:
        held = {name: voice.baked[name] for name in ("prompt", "prompt_phones", "ge")}
        spoken = flow_matching.features(voice.run, held["prompt"], held["prompt_phones"], held["ge"], mel)
        least = min(spoken.shape[2], voice.baked["prompt_mel"].shape[2])
        known = voice.baked["prompt_mel"][..., :least][..., -MEL_PROMPT:]
        before = spoken[..., :least][..., -MEL_PROMPT:]
    first, count = known.shape[2], known.shape[2] + fea.shape[2]
    noise, prompt_mel = random.standard_normal((1, MEL_BANDS, count)), np.zeros((1, MEL_BANDS, count))
    noise[..., :first], prompt_mel[..., :first] = 0, known
    return {
        "state": noise.astype(np.float16).astype(np.float32),
        "prompt_mel": prompt_mel.astype(np.float16).astype(np.float32),
        "fea": np.concatenate([before.astype(np.float32), fea], axis=2),
        "time": np.zeros(1, np.float32),
        "span": np.array([1 / MEL_STEPS], np.float32),
    }


def mel_of(voice: Runnable, matching: Mapping[str, Array], fea: Array) -> Array:
    """The log-mel [1, 100, M] that follows from the feeds of `cfm`'s first step, with these features after the prompt.

    It is kept within what log-mels can be, which that of a random network is not.
    """
    first = matching["fea"].shape[2] - fea.shape[2]
    both = np.concatenate([matching["fea"][..., :first], fea], axis=2)
    known = matching["prompt_mel"][..., :first]
    made = flow_matching.solve(voice.run, both, known, matching["state"], MEL_STEPS)[..., first:]
    return np.asarray(np.clip(denormalised(made), QUIETEST, LOUDEST), np.float32)


def speak(voice: Runnable, chain: Mapping[str, Case]) -> dict[str, Array]:
    """From codes to sound through all stages of `voice`, on the inputs of one case of each stage."""
    first, last = chain["features" if "cfm" in chain else "acoustic"], chain["vocoder"]
    out = voice.run(first.stage, first.inputs)
    if "cfm" in chain:
        out = {"mel": mel_of(voice, chain["cfm"].inputs, out["fea"])}
    return voice.run("vocoder", {**last.inputs, **out})


def chains(cases: Sequence[Case]) -> list[dict[str, Case]]:
    """The cases that belong together, by stage: those of one name that lead from codes to sound."""
    named: dict[str, dict[str, Case]] = {}
    for case in cases:
        named.setdefault(case.name, {})[case.stage] = case
    complete = ({"acoustic", "vocoder"}, {"features", "cfm", "vocoder"})
    return [found for found in named.values() if any(stages <= found.keys() for stages in complete)]
