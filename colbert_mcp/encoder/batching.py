"""Which texts share a forward pass, and which passes run at once. Knows lengths and threads; nothing of models.

On a processor one pass a thread beats one pass over all threads: none waits for another after every operation, and what
is not divided among threads runs beside another pass.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

_LENGTH_STEP, _ROWS_STEP = 16, 8
# A thread's pass: longer ones pad more and leave its caches, shorter ones are not worth their calls.
_THREAD_TOKENS = 1_024
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Sharing:
    """How many passes run at once, each of at most ``tokens`` (one text apart) on ``threads`` threads."""

    passes: int
    tokens: int
    threads: int


@dataclass(frozen=True, slots=True)
class Pass:
    """Texts by their place among those given, and the shape they are padded to."""

    members: list[int]
    rows: int
    length: int


def share(batch_tokens: int, longest: int, threads: int) -> Sharing:
    """Divide a processor's threads, and the tokens that may be under way at once, among passes over texts of at most
    ``longest``.
    """
    passes = max(1, min(threads, batch_tokens // max(_THREAD_TOKENS, longest)))
    each = max(1, threads // passes)
    return Sharing(passes, min(batch_tokens // passes, max(_THREAD_TOKENS * each, longest)), each)


def batches(lengths: Sequence[int], tokens: int, window: int) -> Iterator[Pass]:
    """Texts sorted by length in passes of at most ``tokens``, padded to no more than ``window``.

    Lengths and rows are rounded up, because the CPU library keeps compiled kernels and buffers for every shape that it
    has seen: few distinct shapes keep memory from growing with the number of batches. Rows are only as far as that
    costs no memory more.
    """
    members: list[int] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if members and longest * (len(members) + 1) > tokens:
            yield as_pass(members, longest, tokens)
            members = []
        if not members:
            longest = min(window, _rounded(lengths[index], _LENGTH_STEP))
        members.append(index)
    if members:
        yield as_pass(members, longest, tokens)


def as_pass(members: list[int], longest: int, tokens: int) -> Pass:
    """A pass over texts of at most ``longest`` tokens."""
    most = max(len(members), tokens // longest)
    return Pass(members, min(_rounded(len(members), _ROWS_STEP), most), longest)


def padded(inputs: Sequence[npt.NDArray[np.int64]], rows: int, length: int) -> dict[str, torch.Tensor]:
    """What the backbone takes: int64 [rows, length] token ids, and which of them are a text's own."""
    ids = np.zeros((rows, length), np.int64)
    attention = np.zeros_like(ids)
    attention[:, 0] = 1  # rows that only fill up the shape attend to something
    for row, own in enumerate(inputs):
        ids[row, : len(own)] = own
        attention[row, : len(own)] = 1
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(attention)}


def at_once(work: Callable[[T], R], items: Iterable[T], sharing: Sharing, threads: int) -> list[R]:
    """What ``work`` gives for each item, in order; ``threads`` is what torch uses elsewhere."""
    if sharing.passes == 1:
        return [work(item) for item in items]
    try:
        # torch's count is a thread's own, but threads that are yet to come take the last one that was set.
        with ThreadPoolExecutor(
            sharing.passes, "encode", initializer=torch.set_num_threads, initargs=(sharing.threads,)
        ) as pool:
            futures = [pool.submit(work, item) for item in items]
            try:
                return [future.result() for future in futures]
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
    finally:
        torch.set_num_threads(threads)


def _rounded(count: int, step: int) -> int:
    return -(-count // step) * step
