"""Which inputs go through the model together: of like length, within a number of tokens that memory decides.

Where a batch does not fit the memory of a device, half of it is tried; that size is kept, and twice as much is tried
again after many batches that fitted. Safe to use from several threads. Knows lengths and ids alone.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
_PATIENCE = 64


class Budget:
    """Tokens of a batch: at most ``most``, fewer after a failure, more again once ``_PATIENCE`` batches have fitted.

    Each failure doubles that patience, so that a device which has no more to give is not asked for it for ever.
    """

    def __init__(self, most: int) -> None:
        self.tokens = self._most = most
        self._patience, self._fitted = _PATIENCE, 0
        self._lock = threading.Lock()

    def failed(self, tokens: int) -> None:
        """A batch of so many tokens was too large: half of it is the next."""
        with self._lock:
            self.tokens = max(1, min(self.tokens, tokens) // 2)
            self._fitted = 0
            self._patience *= 2

    def fitted(self) -> None:
        """A batch went through."""
        if self.tokens == self._most:
            return
        with self._lock:
            self._fitted += 1
            if self._fitted >= self._patience:
                self.tokens, self._fitted = min(self._most, 2 * self.tokens), 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs by their place among those given, and the shape they are padded to."""

    members: list[int]
    rows: int
    length: int


class Waiting:
    """Inputs of which threads take batches, the longest first, until none is left.

    Lengths and rows are rounded up to ``steps``, because the CPU library keeps compiled kernels and buffers for every
    shape that it has seen: few distinct shapes keep memory from growing with the number of batches. Rows are added only
    as far as that costs no memory more, and lengths up to ``window``.
    """

    def __init__(self, lengths: Sequence[int], budget: Budget, most: int, window: int, steps: tuple[int, int]) -> None:
        """``most``: tokens of a batch where the budget has more."""
        self._lengths = lengths
        self._order = sorted(range(len(lengths)), key=lengths.__getitem__)
        self._budget, self._most, self._window = budget, most, window
        self._length_step, self._rows_step = steps
        self._lock = threading.Lock()

    def take(self) -> Batch | None:
        """The next batch, of one input at least; None where nothing waits."""
        with self._lock:
            if not self._order:
                return None
            longest = min(self._window, _rounded(self._lengths[self._order[-1]], self._length_step))
            count = max(1, min(self._budget.tokens, self._most) // longest)
            members = self._order[: -count - 1 : -1]
            del self._order[-len(members) :]
            return Batch(members, min(_rounded(len(members), self._rows_step), count), longest)

    def put_back(self, batch: Batch) -> None:
        """Have the inputs of a batch taken again."""
        with self._lock:
            self._order.extend(reversed(batch.members))

    def stop(self) -> None:
        """Let nothing more be taken."""
        with self._lock:
            self._order.clear()


def padded(rows: Sequence[Ints], count: int, length: int) -> Ints:
    """int64 [count, length]: the rows, with zeros behind them and below."""
    filled = np.zeros((count, length), np.int64)
    for index, row in enumerate(rows):
        filled[index, : len(row)] = row
    return filled


def _rounded(count: int, step: int) -> int:
    return -(-count // step) * step
