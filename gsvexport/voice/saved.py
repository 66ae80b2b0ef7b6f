"""The ways in which people save a checkpoint, undone: what wraps the weights, and what their names are put behind.

DataParallel        module.NAME
torch.compile       _orig_mod.NAME
EMA                 ema.NAME, ema_model.NAME, model_ema.NAME; or a table of that name
Lightning and most  {"state_dict": {NAME: …}}, also one in another
parametrisations    LAYER.parametrizations.weight.original0 and 1, for weight_g and weight_v
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

_T = TypeVar("_T")
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "ema",
    "ema_model",
    "model_ema",
    "ema_state_dict",
    "model",
    "module",
    "weight",
)
PREFIXES = ("module.", "_orig_mod.", "ema_model.", "model_ema.", "ema.", "state_dict.")
_MOST = 4  # of either in one another
_NORM = re.compile(r"((?:.*\.)?)parametrizations\.weight\.original([01])")


def unwrapped(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The table of weights in tables that hold nothing else of use: `{"state_dict": {"model": {…}}}` → `{…}`."""
    for _ in range(_MOST):
        tables = [name for name in WRAPPERS if isinstance(value.get(name), dict) and value[name]]
        if not tables or any(not isinstance(item, (dict, int, float, str, type(None))) for item in value.values()):
            break
        value = value[tables[0]]
    return value


def renamed(weights: Mapping[str, _T]) -> dict[str, _T]:
    """Weights by the names that upstream gives them.

    Raises:
        ValueError: two of them would have one name.
    """
    found = dict(weights)
    for _ in range(_MOST):
        prefix = next((one for one in PREFIXES if found and all(name.startswith(one) for name in found)), None)
        if prefix is None:
            break
        found = {name[len(prefix) :]: item for name, item in found.items()}
    plain = {_norm(name): item for name, item in found.items()}
    if len(plain) != len(found):
        raise ValueError("it has one weight under two names, as weight_g and as a parametrisation")
    return plain


def _norm(name: str) -> str:
    """Weight norm as torch has parametrised it since 2.0: original0 is the magnitude, original1 the direction."""
    match = _NORM.fullmatch(name)
    return name if match is None else f"{match[1]}weight_{'gv'[int(match[2])]}"
