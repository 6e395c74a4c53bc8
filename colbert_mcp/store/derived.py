"""Keeps Chroma in step with the catalogue, and the rest of the index working when Chroma is not.

It is opened in a thread of its own, because importing chromadb takes time and a rebuild takes longer; searches go on
without it meanwhile, and do not wait for a change either. Whatever fails in Chroma is logged and costs its candidates,
never a search or a commit. Its files keep what was deleted from it until it is rebuilt.
"""

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from colbert_mcp.maxsim import Floats
from colbert_mcp.store.records import VectorRecord

if TYPE_CHECKING:
    from colbert_mcp.store.vectors import Vectors

State = Literal["off", "closed", "opening", "rebuilding", "ready", "failed"]
Source = Callable[[], AbstractContextManager[tuple[Iterator[VectorRecord], int, int]]]
# About two seconds of work, which may be done without being asked for.
_CHEAP_RECORDS = 2_000
_PATIENCE_SECONDS = 0.25
MARKER = "open"  # stands beside Chroma while it is open
_PAGE = 500
T = TypeVar("T")
logger = logging.getLogger(__name__)


class DerivedVectors:
    """Chroma's life cycle. ``source`` gives (records, generation, count) of one generation, for a rebuild."""

    def __init__(self, directory: Path, source: Source, *, enabled: bool) -> None:
        self._directory = directory
        self._source = source
        self._enabled = enabled
        self._vectors: Vectors | None = None
        self._busy = threading.Lock()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self.state: State = "closed" if enabled else "off"
        self.rebuilt = False  # whether what was found at the last opening could not be used

    def start(self) -> None:
        """Begin to open it, once."""
        with self._changed:
            if self.state != "closed":
                return
            self.state = "opening"
            self._thread = threading.Thread(target=self._open, name="chroma")
            self._thread.start()

    def open(self) -> None:
        """Open it and wait: what is opened after a change was committed does not agree any more and is rebuilt."""
        self.start()
        self._join()

    def follow(self, change: "Callable[[Vectors], None]") -> None:
        """Carry out a change that the catalogue has committed; ``open`` it before the commit."""
        with self._guard():
            if self._vectors is not None:
                change(self._vectors)

    def nearest(self, dense: Floats, k: int) -> list[str]:
        """Passage ids nearest to a dense vector (float32 [e]), best first; [] while Chroma is not at hand."""
        self.start()
        with self._changed:
            self._changed.wait_for(lambda: self.state != "opening")
            if self.state != "ready":
                return []
        with self._guard(_PATIENCE_SECONDS) as held:
            return self._vectors.nearest(dense, k) if held and self._vectors is not None else []
        return []

    def is_lean(self, generation: int) -> bool:
        """Whether it is open, of this generation, and its files hold nothing that was deleted or replaced.

        One that is not used should have none.
        """
        if not self._enabled:
            return not self._directory.exists()
        with self._guard():
            vectors = self._vectors
            return vectors is not None and vectors.replaced == 0 and vectors.generation == generation
        return False

    def scrub(self, generation: int, count: int) -> bool:
        """See that deleted records leave its files, if it holds so few (``count``) that this takes seconds.

        Returns whether they are gone or going: it is rebuilt in the background.
        """
        if self._enabled:
            self.open()
        if self.is_lean(generation):
            return True
        if count > _CHEAP_RECORDS or not self._enabled:
            return False
        self._begin_rebuild()
        return True

    def compare(self, passage_ids: set[str], records: Iterator[VectorRecord], *, data: bool) -> list[str]:
        """What it holds otherwise than the catalogue: ``passage_ids`` is every live passage, ``records`` are those to
        be compared one by one. Searches may come in between.
        """
        missing, surplus, other = set(passage_ids), 0, 0
        offset = 0
        while found := self._asked(lambda vectors: vectors.ids(_PAGE, offset)):  # noqa: B023
            offset += len(found)
            surplus += len(set(found) - passage_ids)
            missing -= set(found)
        while batch := list(islice(records, _PAGE)):
            there = [record for record in batch if record.passage_id not in missing]
            other += self._asked(lambda vectors: vectors.differing(there, data=data)) or 0  # noqa: B023
        if self.state != "ready":
            return ["it cannot be read"]
        counts = {"passages are missing": len(missing), "records belong to none": surplus, "records differ": other}
        return [f"{count} {what}" for what, count in counts.items() if count]

    def rebuild(self) -> None:
        """Make it anew from the catalogue and the segments in files of its own, and wait; nothing where it is off."""
        self._join()
        self._begin_rebuild()
        self._join()

    def discard(self) -> None:
        """Delete what an index that does without it has kept from the time when it did not."""
        if not self._enabled:
            shutil.rmtree(self._directory, ignore_errors=True)

    def close(self) -> None:
        """Close it cleanly if it is sound, for good; a failed one keeps its marker and is rebuilt the next time."""
        with self._changed:
            if self.state == "closed":
                self.state = "off"
        self._join()
        with self._guard():
            if self._vectors is not None:
                self._vectors.close()
        self._vectors = None
        self._set("off")

    def _begin_rebuild(self) -> None:
        with self._changed:
            if self.state not in ("closed", "ready", "failed"):
                return
            self.state = "rebuilding"
            self._directory.mkdir(exist_ok=True)
            (self._directory / MARKER).touch()  # what is found there is not to be used
            self._thread = threading.Thread(target=self._open, name="chroma")
            self._thread.start()

    def _asked(self, question: "Callable[[Vectors], T]") -> T | None:
        """The answer to a question; None where it fails."""
        with self._guard():
            return question(self._vectors) if self._vectors is not None else None
        return None

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _open(self) -> None:
        with self._guard():
            from colbert_mcp.store.vectors import Vectors  # chromadb loads here, beside the model and not before it

            with self._source() as (records, generation, count):
                if self._vectors is not None:
                    self._vectors.abandon()
                    self._vectors = None
                self._vectors = Vectors(self._directory, records, generation, count, on_rebuild=self._rebuilding)
            self._set("ready")

    def _rebuilding(self) -> None:
        self.rebuilt |= self.state == "opening"  # else it was asked for
        self._set("rebuilding")

    def _set(self, state: State) -> None:
        with self._changed:
            self.state = state
            self._changed.notify_all()

    @contextmanager
    def _guard(self, patience: float = -1) -> Iterator[bool]:
        """Exclude other calls; False where that could not be had within ``patience`` seconds (negative: waits)."""
        if not self._busy.acquire(timeout=patience):
            yield False
            return
        try:
            yield True
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  # a panic of Chroma's Rust part is not an Exception
            logger.warning("Chroma failed (%s): searching without it until it is rebuilt", error)
            self._vectors = None
            self._set("failed")
        finally:
            self._busy.release()
