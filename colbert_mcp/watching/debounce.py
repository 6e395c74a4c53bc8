"""When to look at what has changed: after a while of quiet, so that a burst of changes is looked at once.

Knows times and keys; nothing of files, threads or clocks but the one it is given.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: of ``quiet`` after the last change, at ``longest`` after the first one, between retries of what failed.

    Retries wait ``retry``, doubled with each failure up to ``longest_retry``. ``tick`` is between two looks at whether
    the roots are still there, ``poll`` between two runs over a root that cannot be watched, and ``anew`` from the end
    of the last run over a watched root to the next one that nothing has been told for: what is told may get lost.
    """

    quiet: float = 1.0
    longest: float = 10.0
    retry: float = 5.0
    longest_retry: float = 600.0
    tick: float = 1.0
    poll: float = 60.0
    anew: float = 600.0


@dataclass(slots=True)
class _Waiting:
    first: float
    last: float


class Debounce:
    """Which of several keys are due; ``clock`` gives seconds that only grow. Not safe to share between threads."""

    def __init__(self, timing: Timing, clock: Callable[[], float] = time.monotonic) -> None:
        self._timing = timing
        self._clock = clock
        self._waiting: dict[bytes, _Waiting] = {}
        self._failures: dict[bytes, int] = {}
        self._held: dict[bytes, float] = {}

    def note(self, key: bytes) -> None:
        """Something has changed at a key."""
        now = self._clock()
        self._waiting.setdefault(key, _Waiting(now, now)).last = now

    def due(self) -> list[bytes]:
        """The keys whose time has come, longest waiting first; they stay until they are taken."""
        now = self._clock()
        due = [key for key in self._waiting if self._when(key) <= now]
        return sorted(due, key=lambda key: self._waiting[key].first)

    def seconds(self) -> float | None:
        """How long until the next key is due, 0 if one is; None if nothing waits."""
        if not self._waiting:
            return None
        return max(0.0, min(map(self._when, self._waiting)) - self._clock())

    def take(self, key: bytes) -> None:
        """What has changed so far is being looked at."""
        self._waiting.pop(key, None)

    def succeeded(self, key: bytes) -> None:
        """Looking at a key has gone well: what failed before counts no longer."""
        self._failures.pop(key, None)
        self._held.pop(key, None)

    def failed(self, key: bytes) -> None:
        """Looking at a key has failed: the next change is looked at later than usual."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        # Above 2**20 the longest has long been reached.
        delay = min(self._timing.retry * 2 ** min(failures, 20), self._timing.longest_retry)
        self._held[key] = self._clock() + delay

    def forget(self, key: bytes) -> None:
        """A key is of no interest any more."""
        self.take(key)
        self.succeeded(key)

    def _when(self, key: bytes) -> float:
        waiting = self._waiting[key]
        quiet = min(waiting.last + self._timing.quiet, waiting.first + self._timing.longest)
        return max(quiet, self._held.get(key, 0.0)) if key in self._held else quiet
