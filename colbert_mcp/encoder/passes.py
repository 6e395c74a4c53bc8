"""How many forward passes run at once, and running them. Knows threads; nothing of models.

On a processor one pass a thread beats one pass over all threads: none waits for another after every operation, and what
is not divided among threads runs beside another pass.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch

# A thread's pass: longer ones pad more and leave its caches, shorter ones are not worth their calls.
_THREAD_TOKENS = 1_024
# Multiplications of a pass, by parameters and tokens: about ten milliseconds of one thread.
_ALONE = 2e9
# Read with the module: later, a thread that is made beside passes has their count, and not the process's.
THREADS = torch.get_num_threads()


@dataclass(frozen=True, slots=True)
class Sharing:
    """How many passes run at once, each of at most ``tokens`` (one text apart) on ``threads`` threads."""

    passes: int
    tokens: int
    threads: int


def share(batch_tokens: int, longest: int, threads: int) -> Sharing:
    """Divide a processor's threads, and the tokens that may be under way at once, among passes over texts of at most
    ``longest``.
    """
    passes = max(1, min(threads, batch_tokens // max(_THREAD_TOKENS, longest)))
    each = max(1, threads // passes)
    return Sharing(passes, min(batch_tokens // passes, max(_THREAD_TOKENS * each, longest)), each)


def query_threads(parameters: int, tokens: int, threads: int) -> int:
    """On how many threads a pass of a few tokens runs: what is soon done on one of them would wait for the others after
    every operation, and for very long where another process has their processor.
    """
    return 1 if parameters * tokens < _ALONE else threads


@contextmanager
def computing_on(threads: int) -> Iterator[None]:
    """Let torch compute on so many threads, called from this one."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def at_once(work: Callable[[], None], sharing: Sharing, threads: int, stop: Callable[[], None]) -> None:
    """Do ``work`` in as many threads as there are passes, and raise what the first that failed raises.

    ``threads`` is what torch uses elsewhere; ``stop`` is called where one fails, or where waiting is interrupted.
    """

    def guarded() -> None:
        try:
            work()
        except BaseException:
            stop()
            raise

    if sharing.passes == 1:
        guarded()
        return
    try:
        # torch's count is a thread's own, but threads that are yet to come take the last one that was set.
        with ThreadPoolExecutor(
            sharing.passes, "encode", initializer=torch.set_num_threads, initargs=(sharing.threads,)
        ) as pool:
            futures = [pool.submit(guarded) for _ in range(sharing.passes)]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                stop()
                raise
    finally:
        torch.set_num_threads(threads)
