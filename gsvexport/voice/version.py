"""Which product version a SoVITS file is of. Its tensors decide; where they cannot, what the file or its owner says.

Only v2Pro and v2ProPlus, and v3 and v4, have the same tensors. Upstream takes every unknown file of v3 or v4 for v3;
their mels have different rates, so nothing is guessed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gsvexport.errors import VoiceError
from gsvexport.stages import SYMBOL_COUNTS
from gsvexport.voice.checkpoint import Checkpoint

HEADERS = {"00": "v1", "01": "v2", "02": "v3", "03": "v3", "04": "v4", "05": "v2Pro", "06": "v2ProPlus"}
# MD5 of the first 8192 bytes of upstream's own models, for those whose tensors do not tell.
KNOWN = {
    "43797be674a37c1c83ee81081941ed0f": "v3",
    "4f26b9476d0c5033e04162c486074374": "v4",
    "c7e9fce2223f3db685cdfa1e6368728a": "v2Pro",
    "66b313e39455b57ab1b0bc0b239c9d0a": "v2ProPlus",
}
_LORA_HEADERS = ("03", "04")
_FLOW_MATCHING = ("cfm.", "bridge.", "wns1.", "linear_mel.")  # tensors that only v3 and v4 have
_SPEAKER = ("sv_emb.", "ge_to512.", "prelu.")  # tensors that only v2Pro and v2ProPlus have


@dataclass(frozen=True)
class Told:
    """The version of a SoVITS file, and what contradicts it."""

    version: str
    problems: tuple[str, ...] = ()


def find_version(checkpoint: Checkpoint, hint: str | None = None, base_start: str = "") -> Told:
    """The version of a whole SoVITS file.

    `hint` is the voice.toml's word, `base_start` the `start` of the base of a LoRA.

    Raises:
        VoiceError: v3 or v4, and nothing tells which.
    """
    possible = _possible(checkpoint.tensors)
    sure = {
        "voice.toml says": hint,
        f"header {checkpoint.header} says": HEADERS.get(checkpoint.header),
        "the file's first bytes are those of upstream's model of": KNOWN.get(checkpoint.start),
        "the base is upstream's model of": KNOWN.get(base_start),
    }
    told = [*sure.values(), *_config_versions(checkpoint.config)]
    version = next((name for name in told if name in possible), None)
    wrong = []
    if hint is not None and hint not in possible:
        wrong.append(f"voice.toml says version {hint}, but the tensors are those of {' or '.join(possible)}")
    if possible == ("v3", "v4"):
        if version is None:
            raise VoiceError(
                f"{checkpoint.path} is a v3 or a v4 voice, and nothing says which of them: both have the same tensors",
                found=f"header {checkpoint.header}, no version in its config, first bytes of no known model",
                fix='add version = "v4" (or "v3") to [voice] in voice.toml; whoever trained it knows',
            )
        said = {who: name for who, name in sure.items() if name in possible}
        if len(set(said.values())) > 1:
            wrong.append("it is of two versions: " + ", ".join(f"{who} {name}" for who, name in said.items()))
    elif checkpoint.header in _LORA_HEADERS:
        version = HEADERS[checkpoint.header]
        wrong.append(f"header {checkpoint.header} says a LoRA of {version}; its tensors are those of {possible[0]}")
        version = possible[0]
    return Told(version or possible[0], tuple(wrong))


def flow_matching(names: Mapping[str, Any]) -> bool:
    """Whether these are tensors of v3 or v4."""
    return any(name.startswith(_FLOW_MATCHING) for name in names)


def config_version(config: Mapping[str, Any]) -> str | None:
    """The version that a checkpoint's config names, or None."""
    return next((name for name in _config_versions(config) if name is not None), None)


def _possible(tensors: Mapping[str, Any]) -> tuple[str, ...]:
    phones = tensors.get("enc_p.text_embedding.weight")
    if flow_matching(tensors):
        return ("v3", "v4")
    if any(name.startswith(_SPEAKER) for name in tensors):
        return ("v2Pro", "v2ProPlus")
    return ("v1",) if phones is not None and phones.shape[:1] == (SYMBOL_COUNTS["v1"],) else ("v2",)


def _config_versions(config: Mapping[str, Any]) -> list[str | None]:
    model = config.get("model")
    found = (model.get("version") if isinstance(model, dict) else None, config.get("version"))
    return [item if isinstance(item, str) else None for item in found]
