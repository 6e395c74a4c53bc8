"""One client of a crowd: changes a folder of its own, indexes, searches and removes, and checks every answer.

    python crowd.py FACE INDEX OWN_FOLDER COMMON_FOLDER SEED SECONDS

FACE is ``index`` (the Python API, joined to the engine) or ``serve`` (MCP over standard input and output). Prints
"ready", waits for a line, and works until the time is over; then prints how often it did what, as JSON. What is wrong
is told on standard error with the seed and all that was done.
"""

import json
import os
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from folder_oracle import (
    MOST_FILES,
    MOST_PARAGRAPHS,
    VOCABULARY,
    Expected,
    Folder,
    maxsim,
    paragraph,
    sha256,
    shared_paragraphs,
    shares_a_word,
)
from processes import ServedIndex

from colbert_mcp import Index
from colbert_mcp.config import load_config
from colbert_mcp.errors import ColbertMCPError
from colbert_mcp.results import (
    VERIFIED,
    Passage,
)
from colbert_mcp.types import Mode

MODES: tuple[Mode, ...] = ("hybrid", "semantic", "lexical")
UNLIMITED = 1_000_000_000


class Client:
    """Acts at random, and knows what must come of it."""

    def __init__(self, index: Index | ServedIndex, own: Path, common: Path, seed: int) -> None:
        self._index = index
        self._random = random.Random(seed)
        self._seed = seed
        self._pool = shared_paragraphs()
        self._folder = Folder(own)
        self._common = Folder(common, {file.name: file.read_text() for file in common.iterdir()})
        self._common.ran()
        self._generation = 0
        self._ticks = 0
        self._own_words: list[str] = []
        self.done: Counter[str] = Counter()
        self.history: list[str] = []

    def work(self, deadline: float) -> None:
        """Act until the clock says ``deadline``, each way at least once; leave the index in step with the folder."""
        actions: list[Callable[[], None]] = [
            self._write,
            self._index_own,
            self._edit,
            self._plan,
            self._index_own,
            self._rename,
            self._index_own,
            self._search_own,
            self._search_common,
            self._search_all,
            self._get,
            self._get_former,
            self._verify,
            self._verify_gone,
            self._list,
            self._delete,
            self._remove_file,
            self._search_own,
            self._index_own,
            self._index_common,
            self._remove_own,
        ]
        for action in actions:
            self._do(action)
        while time.monotonic() < deadline:
            self._do(self._random.choice(actions[:-1] if self._random.random() < 0.8 else actions))
        if self._folder.removed:
            self._do(self._remove_own)
        self._do(self._index_own)

    def _do(self, action: Callable[[], None]) -> None:
        self.done[action.__name__.lstrip("_")] += 1
        self.history.append(action.__name__)
        action()

    def _note(self, **what: object) -> None:
        self.history.append(f"    {what}")

    # What happens on disk

    def _put(self, name: str, text: str) -> None:
        file = self._folder.path / name
        file.write_text(text, newline="")
        # Sizes may be equal, and a clock too coarse to tell one edit from the next.
        self._ticks += 1
        os.utime(file, ns=(0, 1_700_000_000_000_000_000 + self._ticks * 1_000_000))
        self._folder.disk[name] = text
        self._note(put=name, text=text)

    def _text(self) -> str:
        return "\n\n".join(self._paragraph() for _ in range(self._random.randint(1, MOST_PARAGRAPHS)))

    def _paragraph(self) -> str:
        if self._random.random() < 0.5:
            return self._random.choice(self._pool)
        word = f"own{self._seed}x{len(self._own_words)}o"
        self._own_words.append(word)
        return paragraph(self._random, word)

    def _write(self) -> None:
        for _ in range(self._random.randint(1, 3)):
            self._put(f"f{self._random.randrange(MOST_FILES)}.txt", self._text())

    def _edit(self) -> None:
        if not self._folder.disk:
            return self._write()
        name = self._random.choice(sorted(self._folder.disk))
        parts = self._folder.disk[name].split("\n\n")
        parts[self._random.randrange(len(parts))] = self._paragraph()
        self._put(name, "\n\n".join(parts))
        return None

    def _rename(self) -> None:
        free = sorted({f"f{number}.txt" for number in range(MOST_FILES)} - self._folder.disk.keys())
        if not free or not self._folder.disk:
            return
        old, new = self._random.choice(sorted(self._folder.disk)), self._random.choice(free)
        (self._folder.path / old).rename(self._folder.path / new)
        self._folder.disk[new] = self._folder.disk.pop(old)
        self._note(rename=old, to=new)

    def _delete(self) -> None:
        if self._folder.disk:
            name = self._random.choice(sorted(self._folder.disk))
            (self._folder.path / name).unlink()
            del self._folder.disk[name]
            self._note(delete=name)

    # What changes the index

    def _index_own(self) -> None:
        output = self._index.index_path(self._folder.path)
        self._note(index=output.model_dump(exclude={"path"}))
        before, due = self._folder.indexed, self._folder.due()
        assert output.state == "done"
        assert output.files_total == len(due)
        assert output.indexed == sum(before.get(name) != text for name, text in due.items())
        assert output.removed == len(before.keys() - due.keys())
        self._folder.ran()
        self._see(output.generation)
        self._search_own()

    def _index_common(self) -> None:
        output = self._index.index_path(self._common.path)
        assert (output.state, output.indexed, output.removed) == ("done", 0, 0)
        assert output.unchanged == len(self._common.indexed)
        self._see(output.generation)

    def _plan(self) -> None:
        output = self._index.index_path(self._folder.path, dry_run=True)
        self._note(plan=output.model_dump(exclude={"path"}))
        before, due = self._folder.indexed, self._folder.due()
        assert output.state == "planned"
        assert output.plan is not None
        assert output.plan.new == len(due.keys() - before.keys())
        assert output.plan.changed == sum(name in before and before[name] != text for name, text in due.items())
        assert output.removed == len(before.keys() - due.keys())
        self._see(output.generation)

    def _remove_own(self) -> None:
        self._remove(None, there=self._folder.is_root or bool(self._folder.indexed))

    def _remove_file(self) -> None:
        name = f"f{self._random.randrange(MOST_FILES)}.txt"
        if self._folder.indexed and self._random.random() < 0.8:
            name = self._random.choice(sorted(self._folder.indexed))
        self._remove(name, there=name in self._folder.indexed)

    def _remove(self, name: str | None, *, there: bool) -> None:
        path = self._folder.path if name is None else self._folder.path / name
        gone = [passage for passage in self._folder.live().values() if path in (passage.path, self._folder.path)]
        self._note(remove=name, there=there)
        try:
            output = self._index.remove_path(path)
        except ColbertMCPError as error:
            if there or "Nothing indexed lies at" not in str(error):
                raise
            return
        assert there
        assert output.removed_passages == len(gone)
        self._folder.took_out(name)
        self._see(output.generation)
        self._search_own()

    # What is asked

    def _search_own(self) -> None:
        self._search_exactly(self._folder)

    def _search_common(self) -> None:
        self._search_exactly(self._common)

    def _search_exactly(self, folder: Folder) -> None:
        """Search below a folder: exactly its live passages are found, each with its own score."""
        mode, query = self._random.choice(MODES), self._query()
        output = self._index.search(query, limit=50, path=str(folder.path), mode=mode, max_tokens=UNLIMITED)
        live = folder.live()
        self._note(query=query, mode=mode, generation=output.generation, found=[r.id for r in output.results])
        self._see(output.generation)
        if mode == "lexical":
            wanted = {key: passage for key, passage in live.items() if shares_a_word(query, passage.text)}
        else:
            wanted = live
        found = [result.id for result in output.results]
        also = [place.id for result in output.results for place in result.also_at]
        if folder.in_step():
            assert len(found + also) == len(set(found + also))
            assert set(found + also) == wanted.keys()
        else:  # what changed on disk since is no other place where a text stands
            assert set(found + also) <= wanted.keys()
            assert {result.text for result in output.results} == {passage.text for passage in wanted.values()}
        for result in output.results:
            self._check(result, live[result.id], folder)
            for place in result.also_at:
                assert live[place.id].text == result.text
            assert result.maxsim == (None if mode == "lexical" else _four_digits(maxsim(query, result.text)))
        scores = [result.maxsim if mode == "semantic" else result.score for result in output.results]
        assert all(score is not None for score in scores)
        assert scores == sorted(scores, key=lambda score: -float(score or 0))

    def _search_all(self) -> None:
        """Search everything: what is found is what it says it is, and nothing of this folder that is not live."""
        mode, query = self._random.choice(MODES), self._query()
        output = self._index.search(query, limit=50, path=None, mode=mode, max_tokens=UNLIMITED)
        self._see(output.generation)
        for result in output.results:
            assert result.sha256 == sha256(result.text)
            assert result.maxsim == (None if mode == "lexical" else _four_digits(maxsim(query, result.text)))
            for folder in (self._folder, self._common):
                if Path(result.path).is_relative_to(folder.path):
                    self._check(result, folder.live()[result.id], folder)

    def _get(self) -> None:
        live = self._folder.live() | self._common.live()
        passage = live[self._random.choice(sorted(live))]
        output = self._index.get_passage(passage.id)
        self._see(output.generation)
        self._check(output.passage, passage, self._common if passage.id in self._common.live() else self._folder)
        assert "earlier state" not in (output.notice or "")

    def _get_former(self) -> None:
        if not self._folder.former:
            return
        former = self._folder.former[self._random.choice(sorted(self._folder.former))]
        output = self._index.get_passage(former.id)
        self._note(former=former.id)
        assert (output.passage.id, output.passage.text) == (former.id, former.text)
        assert "earlier state" in (output.notice or "")
        self._see(output.generation)

    def _verify(self) -> None:
        live = self._folder.live() | self._common.live()
        passage = live[self._random.choice(sorted(live))]
        words = passage.text.split(" ")
        start = self._random.randrange(len(words) - 5)
        quote = " ".join(words[start : start + 5])
        named = self._random.choice([{"passage_id": passage.id}, {"path": passage.path}, {}])
        output = self._index.verify_quote(quote, **named)  # type: ignore[arg-type]
        self._note(quote=quote, verdict=output.verdict, named=named)
        assert output.verdict == "exact"
        self._see(output.generation)

    def _verify_gone(self) -> None:
        """A word of this client's own stands in the index as long as one of its passages holds it."""
        if not self._own_words:
            return
        word = self._random.choice(self._own_words)
        holding = [passage for passage in self._folder.live().values() if word in passage.text.split()]
        output = self._index.verify_quote(word)
        self._note(word=word, verdict=output.verdict, holding=len(holding))
        assert (output.verdict in VERIFIED) == bool(holding)
        self._see(output.generation)

    def _list(self) -> None:
        try:
            output = self._index.list_sources(str(self._folder.path), limit=1000)
        except ColbertMCPError as error:
            if self._folder.is_root or self._folder.indexed or "Nothing indexed lies at" not in str(error):
                raise
            return
        listed = {Path(document.path).name: document for document in output.documents}
        assert listed.keys() == self._folder.indexed.keys()
        for name, text in self._folder.indexed.items():
            assert listed[name].sha256 == sha256(text)
            assert listed[name].passages == len(text.split("\n\n"))
        assert {root.path for root in output.roots} >= ({str(self._folder.path)} if self._folder.is_root else set())
        self._see(output.generation)

    def _query(self) -> str:
        words = self._random.sample(VOCABULARY, self._random.randint(1, 4))
        if self._own_words and self._random.random() < 0.3:
            words.append(self._random.choice(self._own_words))
        return " ".join(words)

    def _check(self, result: Passage, passage: Expected, folder: Folder) -> None:
        start, raw = passage.char_start, passage.text.encode()
        assert (result.id, result.text, result.sha256) == (passage.id, passage.text, passage.sha256)
        assert folder.indexed[passage.path.name]
        if folder.disk.get(passage.path.name) == folder.indexed[passage.path.name]:
            assert result.status == "current"
            assert result.path == str(passage.path)
            assert (result.char_start, result.char_end) == (start, start + len(passage.text))
            assert (result.byte_start, result.byte_end) == (passage.byte_start, passage.byte_start + len(raw))
            assert (result.line_start, result.line_end) == (passage.line, passage.line + passage.text.count("\n"))

    def _see(self, generation: int) -> None:
        assert generation >= self._generation, f"generation {generation} after {self._generation}"
        self._generation = generation


class _FourDigits(float):
    """Equal to what was rounded to four digits from nearly the same number."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and abs(float(self) - other) <= 0.5e-4 + 1e-6

    __hash__ = float.__hash__


def _four_digits(value: float) -> float:
    return _FourDigits(value)


def _main() -> int:
    face, index_path, own, common, seed, seconds = sys.argv[1:]
    index = ServedIndex(index_path) if face == "serve" else Index.open(config=load_config(index=index_path))
    client = Client(index, Path(own), Path(common), int(seed))
    try:
        client._search_common()  # the first answer: everything is up
        print("ready", flush=True)
        sys.stdin.readline()
        client.work(time.monotonic() + float(seconds))
        index.close()
    except BaseException:  # noqa: BLE001  # whatever it is, it is told with what led to it
        traceback.print_exc()
        print(f"face {face}, seed {seed}; what was done:", *client.history, sep="\n", file=sys.stderr)
        return 1
    print(json.dumps(client.done))
    return 0


if __name__ == "__main__":
    sys.exit(_main())
