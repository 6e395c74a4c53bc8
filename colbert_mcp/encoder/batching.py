"""Which inputs go through the model together: of like length, within a number of tokens that memory decides.

Where a batch does not fit the memory of a device, half of it is tried; that size is kept, and twice as much is tried
again after many batches that fitted. Knows lengths and ids alone.
"""

from collections.abc import Sequence

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

    def failed(self, tokens: int) -> None:
        """A batch of so many tokens was too large: half of it is the next."""
        self.tokens = max(1, min(self.tokens, tokens) // 2)
        self._fitted = 0
        self._patience *= 2

    def fitted(self) -> None:
        """A batch went through."""
        if self.tokens == self._most:
            return
        self._fitted += 1
        if self._fitted >= self._patience:
            self.tokens, self._fitted = min(self._most, 2 * self.tokens), 0


def by_length(lengths: Sequence[int]) -> list[int]:
    """Indices, the longest first."""
    return sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)


def how_many(length: int, tokens: int) -> int:
    """How many inputs of a length go into a batch of so many tokens; one at least."""
    return max(1, tokens // length)


def rounded(count: int, step: int) -> int:
    """The next multiple of ``step``."""
    return -(-count // step) * step


def padded(rows: Sequence[Ints], count: int, length: int) -> Ints:
    """int64 [count, length]: the rows, with zeros behind them and below."""
    filled = np.zeros((count, length), np.int64)
    for index, row in enumerate(rows):
        filled[index, : len(row)] = row
    return filled
