"""How a face comes by an index: ``Index``, the Python API, and the attachments of a server, which open one while others
wait.

One process owns an index. An ``Index`` joins the engine that does, else opens the index in its own process; an
``EngineAttachment`` starts an engine where there is none, and so does an ``Index`` whose engine has left. Importing
this loads neither torch nor numpy. Knows nothing of MCP tools or of terminals.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from colbert_mcp.config import Config, load_config
from colbert_mcp.errors import ColbertMCPError, IndexLockedError, UnreadableDocumentError
from colbert_mcp.results import (
    AnswerOutput,
    CheckOutput,
    ExplainOutput,
    GcOutput,
    IndexOutput,
    PassageOutput,
    RemoveOutput,
    SearchOutput,
    SourcesOutput,
    StatusOutput,
    VerifyOutput,
)
from colbert_mcp.sharing.rendezvous import Rendezvous
from colbert_mcp.types import Mode, ProgressCallback

if TYPE_CHECKING:
    from types import TracebackType

    from colbert_mcp.engine import Engine
    from colbert_mcp.sharing.launch import Launcher
    from colbert_mcp.sharing.remote import RemoteEngine


class Index:
    """An open index. Use it as a context manager, or call ``close``; safe to use from several threads.

    >>> with Index.open("my-index") as index:          # doctest: +SKIP
    ...     index.index_path("~/notes")
    ...     answer = index.search("why do sourdough starters smell of nail varnish?")
    """

    def __init__(self, engine: "Engine | RemoteEngine", scope: tuple[bytes, ...]) -> None:
        self._engine = engine
        self._scope = scope

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        config: Config | None = None,
        create: bool = True,
        roots: Sequence[str | os.PathLike[str]] = (),
    ) -> "Index":
        """Open the index directory ``path`` (default: the configured one), making it if ``create``.

        Where an engine runs for it, as ``serve`` starts one, the index is used through it, with the engine's settings;
        an engine of an older version is replaced, and one that has left since is started again by the next call.
        ``roots`` limits indexing and search to these folders. Raises ConfigError, or StoreError: IndexNotFoundError,
        IndexLockedError, IndexMismatchError, IndexCorruptError.
        """
        chosen = config or load_config(index=None if path is None else str(path))
        if config is not None and path is not None:
            index = config.index.model_copy(update={"path": str(Path(path).expanduser())})
            chosen = config.model_copy(update={"index": index})
        joined = _joined(chosen)
        if joined is not None:
            return cls(joined, _real_paths(roots))
        from colbert_mcp.engine import Engine  # numpy and chromadb load here, not with the module

        try:
            return cls(Engine.open(chosen, create_missing=create), _real_paths(roots))
        except IndexLockedError:
            joined = _joined(chosen)  # an engine that was just starting
            if joined is None:
                raise
            return cls(joined, _real_paths(roots))

    def __enter__(self) -> "Index":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what runs, after the batch at hand, and close the index cleanly; a joined engine goes on."""
        self._engine.close()

    def warm_up(self) -> None:
        """Load the model and open Chroma ahead of the first search."""
        self._engine.warm_up()

    def index_path(
        self,
        path: str | os.PathLike[str],
        include: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        *,
        wait_seconds: float | None = None,
        progress: ProgressCallback | None = None,
        list_skipped: int = 50,
        verify: bool = False,
        dry_run: bool = False,
    ) -> IndexOutput:
        """Index a folder or file; see ``Engine.index_path``."""
        return self._engine.index_path(
            path,
            include,
            exclude,
            wait_seconds=wait_seconds,
            progress=progress,
            list_skipped=list_skipped,
            verify=verify,
            dry_run=dry_run,
            scope=self._scope,
        )

    def wait_for_run(self, path: str | os.PathLike[str], wait_seconds: float | None) -> IndexOutput:
        """How the latest run over a root stands after at most ``wait_seconds``; see ``Engine.wait_for_run``."""
        return self._engine.wait_for_run(path, wait_seconds, scope=self._scope)

    def cancel(self, path: str | os.PathLike[str]) -> None:
        """Stop the run over a root after the batch at hand; what was committed stays."""
        self._engine.cancel(path, scope=self._scope)

    def search(
        self,
        query: str,
        *,
        limit: int = 5,
        path: str | Sequence[str] | None = None,
        types: Sequence[str] | None = None,
        mode: Mode = "hybrid",
        max_tokens: int = 6000,
        explain: bool = False,
    ) -> SearchOutput:
        """Passages that answer the query, best first; see ``Engine.search``."""
        return self._engine.search(
            query,
            limit=limit,
            path=path,
            types=types,
            mode=mode,
            max_tokens=max_tokens,
            explain=explain,
            scope=self._scope,
        )

    def explain(self, query: str, passage_id: str) -> ExplainOutput:
        """Why a passage matches a query, token by token; see ``Engine.explain``."""
        return self._engine.explain(query, passage_id, scope=self._scope)

    def get_passage(self, passage_id: str, before: int = 1, after: int = 1) -> PassageOutput:
        """A passage with the chunks around it; see ``Engine.get_passage``."""
        return self._engine.get_passage(passage_id, before, after, scope=self._scope)

    def verify_quote(
        self, quote: str, passage_id: str | None = None, path: str | os.PathLike[str] | None = None
    ) -> VerifyOutput:
        """Whether a quote stands in the indexed text of a passage, a file, or anywhere; see ``Engine.verify_quote``."""
        return self._engine.verify_quote(quote, passage_id, path, scope=self._scope)

    def verify_answer(self, answer: str) -> AnswerOutput:
        """Verify every quotation of an answer in Markdown against the source that it cites."""
        return self._engine.verify_answer(answer, scope=self._scope)

    def list_sources(self, path: str | None = None, *, limit: int = 100) -> SourcesOutput:
        """The indexed roots and files; see ``Engine.list_sources``."""
        return self._engine.list_sources(path, limit=limit, scope=self._scope)

    def remove_path(self, path: str | os.PathLike[str]) -> RemoveOutput:
        """Take a root, folder or file out of the index; see ``Engine.remove_path``."""
        return self._engine.remove_path(path, scope=self._scope)

    def gc(self, former_days: int | None = None) -> GcOutput:
        """Give back disk space; see ``Engine.gc``."""
        return self._engine.gc(former_days, scope=self._scope)

    def check(
        self, *, read_data: bool = False, repair: bool = False, step: Callable[[str], None] | None = None
    ) -> CheckOutput:
        """Verify the whole index and its sources, and repair it if asked to; see ``Engine.check``."""
        return self._engine.check(read_data=read_data, repair=repair, step=step, scope=self._scope)

    def index_status(self) -> StatusOutput:
        """The index, the model and what is going on."""
        return self._engine.index_status(scope=self._scope)


@contextmanager
def opened_to_plan(config: Config) -> Iterator[Index]:
    """The configured index for dry runs; where there is none, none is made, but an empty one that goes away again."""
    if config.index_path.exists():
        with Index.open(config=config) as index:
            yield index
    else:
        with TemporaryDirectory() as folder, Index.open(folder, config=config) as index:
            yield index


class Attachment:
    """Opens an index in this process, in a thread of its own, so that a server can answer while torch is loading."""

    def __init__(self, config: Config, roots: Sequence[str] = ()) -> None:
        self._config = config
        self._roots = tuple(roots)
        self._index: Index | None = None
        self._lock = threading.Lock()
        self._warming: threading.Thread | None = None
        self.leaving = threading.Event()  # set before the calls of a client that goes away are cancelled

    def start(self) -> None:
        """Begin to open the index and load the model, once; what fails is tried again, and told, at the first call."""
        if self._warming is None:
            self._warming = threading.Thread(target=self._warm_up, name="warm-up", daemon=True)
            self._warming.start()

    def index(self) -> Index:
        """The open index; waits for it, and raises ColbertMCPError where it cannot be opened."""
        with self._lock:
            if self._index is None:
                self._index = self._open()
            return self._index

    def close(self) -> None:
        """Close the index, if it was opened."""
        with self._lock:
            if self._index is not None:
                self._index.close()
                self._index = None

    def _open(self) -> Index:
        from colbert_mcp.engine import Engine

        engine = Engine.open(self._config, create_missing=True)
        try:
            index = Index(engine, _real_paths(self._roots))
            if self._config.server.watch and not engine.read_only:
                engine.watch()
        except ColbertMCPError:
            engine.close()
            raise
        return index

    def _warm_up(self) -> None:
        try:
            self.index().warm_up()
        except ColbertMCPError:
            return


class EngineAttachment(Attachment):
    """Uses the index through an engine, which each call finds or starts; ``command`` runs one (default: ours)."""

    def __init__(self, config: Config, roots: Sequence[str] = (), command: Sequence[str] | None = None) -> None:
        super().__init__(config, roots)
        self._command = command

    def _open(self) -> Index:
        from colbert_mcp.sharing.remote import RemoteEngine

        return Index(
            RemoteEngine(_launcher(self._config, self._command).ensure, self._config), _real_paths(self._roots)
        )


def _joined(config: Config) -> "RemoteEngine | None":
    """The engine that runs for an index; importing what calls it takes as long as MCP, so only where there is one."""
    if not Rendezvous(config.index_path.resolve()).running():
        return None
    from colbert_mcp.sharing.remote import RemoteEngine

    launcher = _launcher(config)
    if launcher.join() is None:
        return None
    remote = RemoteEngine(launcher.again, config)
    try:
        remote.warm_up()  # the settings are compared here, and not at the first call
    except ColbertMCPError:
        remote.close()
        raise
    return remote


def _launcher(config: Config, command: Sequence[str] | None = None) -> "Launcher":
    from colbert_mcp.sharing.launch import COMMAND, Launcher

    return Launcher(config, version("colbert-mcp"), command or COMMAND)


def _real_paths(roots: Sequence[str | os.PathLike[str]]) -> tuple[bytes, ...]:
    """Real paths, taken once: a link that is changed later must not widen what a client may reach."""
    try:
        return tuple(os.fsencode(os.path.realpath(Path(root).expanduser())) for root in roots)
    except (ValueError, RuntimeError) as error:
        raise UnreadableDocumentError(f"A root is not a path: {error}.") from None
