"""What a terminal shows while a command takes long, on standard error. Knows rich and how far a run is."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from colbert_mcp.types import IndexingProgress, ProgressCallback


class _ProgressBar(AbstractContextManager[ProgressCallback]):
    """A bar with rates on standard error while an indexing run goes on."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[files]}  {task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("loading the model", total=None, files="", rate="")

    def __enter__(self) -> ProgressCallback:
        self._progress.start()
        return self._show

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def _show(self, done: IndexingProgress) -> None:
        elapsed = self._progress.tasks[self._task].elapsed or 0.0
        rate = f"{done.tokens / elapsed:,.0f} tokens/s" if elapsed > 0 and done.tokens else ""
        self._progress.update(
            self._task,
            description="indexing",
            total=done.bytes_total,
            completed=done.bytes_done,
            files=f"{done.files_done:,}/{done.files_total:,} files",
            rate=rate,
        )


def progress_bar(*, shown: bool) -> AbstractContextManager[ProgressCallback | None]:
    """A bar with rates while an indexing run goes on; nothing where standard error is no terminal."""
    return _ProgressBar() if shown and sys.stderr.isatty() else nullcontext()


class _Steps(AbstractContextManager[Callable[[str], None]]):
    """A sign of life that says what is being done."""

    def __init__(self, what: str) -> None:
        from rich.console import Console
        from rich.markup import escape

        self._escape = escape
        self._status = Console(stderr=True).status(escape(what))

    def __enter__(self) -> Callable[[str], None]:
        self._status.start()
        return lambda what: self._status.update(self._escape(what))

    def __exit__(self, *error: object) -> None:
        self._status.stop()


def steps(what: str, *, shown: bool) -> AbstractContextManager[Callable[[str], None] | None]:
    """A sign of life that is told what is being done; nothing where standard error is no terminal."""
    return _Steps(what) if shown and sys.stderr.isatty() else nullcontext()


def spinner(what: str, *, shown: bool) -> AbstractContextManager[object]:
    """A sign of life with a word on what takes so long; likewise."""
    if not (shown and sys.stderr.isatty()):
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(what)
