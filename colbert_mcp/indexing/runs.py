"""An indexing run as those see it who asked for it: what it is to do, and what it has done so far.

Knows nothing of how it is carried out.
"""

import hashlib
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from colbert_mcp.documents import display_path
from colbert_mcp.results import EXPECTED_SKIPS, IndexOutput, IndexPlan, RunState, Skipped
from colbert_mcp.types import IndexingProgress, ProgressCallback

# Where the catalogue keeps how fast the last run was that encoded enough to tell.
RATE_KEY = "tokens_per_second"


@dataclass(slots=True)
class Run:
    """One run over a root, and what it has done so far. Only ``state`` and the counters change.

    ``path`` is the root's real path; ``include`` and ``exclude`` are gitignore-style patterns relative to it. With
    ``verify``, files of unchanged size and time are hashed. ``watched`` is a run that nobody asked for (yet): something
    under a watched root changed. ``chunks`` and ``tokens`` count what was encoded,
    ``reused`` the chunks whose embeddings were there.
    """

    path: bytes
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    progress: ProgressCallback | None = None
    verify: bool = False
    watched: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event)
    state: RunState = "running"
    files_total: int = 0
    files_done: int = 0
    indexed: int = 0
    unchanged: int = 0
    removed: int = 0
    chunks: int = 0
    reused: int = 0
    tokens: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    generation: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    skipped_as_before: bool = False
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    notice: str | None = None
    plan: IndexPlan | None = None

    def output(self, list_skipped: int = 50) -> IndexOutput:
        """The run as the faces show it; skipped files that need someone's attention are listed first."""
        reasons = Counter(skipped.reason for skipped in self.skipped)
        listed = sorted(self.skipped, key=lambda skipped: skipped.reason in EXPECTED_SKIPS)[:list_skipped]
        return IndexOutput(
            state=self.state,
            path=display_path(self.path),
            files_total=self.files_total,
            files_done=self.files_done,
            indexed=self.indexed,
            unchanged=self.unchanged,
            removed=self.removed,
            skipped=len(self.skipped),
            chunks=self.chunks,
            reused=self.reused,
            tokens=self.tokens,
            seconds=round(time.monotonic() - self.started if self.state == "running" else self.seconds, 2),
            generation=self.generation,
            problems=listed,
            skipped_by_reason=dict(reasons.most_common()),
            skipped_as_before=self.skipped_as_before,
            plan=self.plan,
            notice=self.notice,
        )

    def problems_digest(self) -> str:
        """What was skipped, and why, in one hash; without what was expected, which comes and goes."""
        problems = sorted((item.path, item.reason) for item in self.skipped if item.reason not in EXPECTED_SKIPS)
        return hashlib.sha256(json.dumps(problems).encode()).hexdigest()

    def report(self) -> None:
        """Tell the progress callback, if there is one."""
        if self.progress is not None:
            done = IndexingProgress(
                self.files_done, self.files_total, self.chunks, self.tokens, self.bytes_done, self.bytes_total
            )
            self.progress(done)
