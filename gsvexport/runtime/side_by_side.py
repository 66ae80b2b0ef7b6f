"""Several sentences in one step of the T2S network.

A step reads every weight, so one step for four sentences costs much less than four steps. A backend whose step takes
rows of sentences brings `Rows`; every other one writes sentence by sentence, with the same codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gsvexport.backends import Session
from gsvexport.runtime.sampling import Floats, Ints
from gsvexport.runtime.tokens import Decoder, new_decoder


class Rows(Protocol):
    """An autoregressive network together with the caches of the sentences that it is writing, numbered from 0.

    The logits of a sentence are bit for bit those that it gets alone.
    """

    most: int  # sentences at a time

    def enter(self, phones: Ints, bert: Floats, prompt: Ints) -> Floats:
        """Start a sentence as the last row; shapes and logits [V] as in `Decoder.prefill`."""
        ...

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> Floats:
        """Append a code to each row, see `Decoder.step` → logits [rows, V]."""
        ...

    def leave(self, row: int) -> None:
        """Forget a sentence; the last row takes its place."""
        ...


@runtime_checkable
class ReadsAhead(Protocol):
    """`Rows` whose prefill any thread may run while steps are taken for the sentences that are there already."""

    def read(self, phones: Ints, bert: Floats, prompt: Ints) -> Any:
        """The first half of `Rows.enter`."""
        ...

    def enter_read(self, read: Any) -> Floats:
        """The second half: what `read` found becomes the last row."""
        ...


@runtime_checkable
class BringsRows(Protocol):
    """A `prefill` session whose `step` can take several sentences."""

    def rows(self, step: Session, most: int) -> Rows | None:
        """`most` sentences side by side; None where this step, or this processor, takes one."""
        ...


def new_rows(prefill: Session, step: Session, most: int) -> Rows:
    """At most `most` sentences side by side, or one at a time where these stages know no more."""
    found = prefill.rows(step, most) if most > 1 and isinstance(prefill, BringsRows) else None
    return found or OneRow(new_decoder(prefill, step))


class OneRow:
    """`Rows` of one sentence."""

    most = 1

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def enter(self, phones: Ints, bert: Floats, prompt: Ints) -> Floats:
        """See `Rows`."""
        return self._decoder.prefill(phones, bert, prompt)

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> Floats:
        """See `Rows`."""
        return self._decoder.step(tokens[0], positions[0])[np.newaxis]

    def leave(self, row: int) -> None:
        """The next sentence takes its place."""
