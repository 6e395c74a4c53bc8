"""Old citations after their files have changed: what they answer is compared with the files themselves."""

import hashlib
import os
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_encoder import FakeEncoder
from support import EngineFactory

from colbert_mcp.errors import PassageNotFoundError
from colbert_mcp.results import Passage

WORDS = (
    "hive tide kiln starter varnish pilot ledger orchard damper swarm cellar ferry glaze naïve 数据 🐝 x² it's".split()
)
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16"]
SUFFIXES = [".md", ".txt", ".rst"]


def write(path: Path, paragraphs: list[str], encoding: str, newline: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((newline * 2).join(paragraphs).replace("\n", newline).encode(encoding))


def paragraph(chance: random.Random) -> str:
    lines = [" ".join(chance.choices(WORDS, k=chance.randint(3, 9))) for _ in range(chance.randint(1, 4))]
    return "\n".join(lines) + "."


class Tree:
    """A folder of files that can be rewritten at random."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder, self.chance = folder, chance
        self.files: dict[Path, tuple[list[str], str, str]] = {}
        for number in range(6):
            content = [paragraph(chance) for _ in range(chance.randint(2, 8))]
            style = (chance.choice(ENCODINGS), chance.choice(["\n", "\r\n", "\r"]))
            self.files[folder / f"deep/file {number}{chance.choice(SUFFIXES)}"] = (content, *style)
        for path, content in self.files.items():
            write(path, *content)

    def change(self) -> None:
        edits: list[Callable[[Path], None]] = [self.insert, self.delete, self.move, self.rename, self.rewrap]
        edits += [self.change_line_endings, self.encode_otherwise, self.remove, self.exchange]
        for _ in range(self.chance.randint(2, 6)):
            if self.files:
                self.chance.choice(edits)(self.chance.choice(sorted(self.files)))

    def insert(self, path: Path) -> None:
        self.files[path][0].insert(self.chance.randint(0, len(self.files[path][0])), paragraph(self.chance))
        write(path, *self.files[path])

    def delete(self, path: Path) -> None:
        if len(self.files[path][0]) > 1:
            self.files[path][0].pop(self.chance.randrange(len(self.files[path][0])))
            write(path, *self.files[path])

    def move(self, path: Path) -> None:
        self.chance.shuffle(self.files[path][0])
        write(path, *self.files[path])

    def rename(self, path: Path) -> None:
        target = self.folder / f"renamed/{self.chance.randrange(10**6)} {path.name}"
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
        self.files[target] = self.files.pop(path)

    def rewrap(self, path: Path) -> None:
        content, encoding, newline = self.files[path]
        self.files[path] = ([re.sub(r"\s", "\n", text, count=2) for text in content], encoding, newline)
        write(path, *self.files[path])

    def change_line_endings(self, path: Path) -> None:
        content, encoding, newline = self.files[path]
        self.files[path] = (content, encoding, {"\n": "\r\n", "\r\n": "\r", "\r": "\n"}[newline])
        write(path, *self.files[path])

    def encode_otherwise(self, path: Path) -> None:
        content, _, newline = self.files[path]
        self.files[path] = (content, self.chance.choice(ENCODINGS), newline)
        write(path, *self.files[path])

    def remove(self, path: Path) -> None:
        path.unlink()
        del self.files[path]

    def exchange(self, path: Path) -> None:
        other = self.chance.choice(sorted(self.files))
        self.files[path], self.files[other] = self.files[other], self.files[path]
        write(path, *self.files[path])
        write(other, *self.files[other])


def encoding_of(path: Path) -> str:
    return "utf-16" if path.read_bytes()[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def decoded(path: Path) -> str:
    return path.read_bytes().decode(encoding_of(path))


def says_so_where_it_says(passage: Passage, digest: str) -> bool:
    """The citation invariant, lines included, on the file as it is now."""
    assert passage.byte_start is not None
    source = Path(passage.path).read_bytes()[passage.byte_start : passage.byte_end]
    text = decoded(Path(passage.path))
    lines = len(re.findall(r"\r\n|\n|\r", text[: passage.char_start])) + 1
    return (
        hashlib.sha256(source).hexdigest() == digest == passage.sha256
        and text[passage.char_start : passage.char_end] == passage.text
        and passage.line_start == lines
    )


def check(passage: Passage, old: Passage, *, indexed_again: bool) -> None:
    """The answer for an old id is true of the files as they are."""
    assert (passage.id, passage.text, passage.sha256) == (old.id, old.text, old.sha256)
    file = Path(old.path)
    if not file.exists():
        assert passage.status in ("missing", "relocated")
    else:
        assert old.byte_start is not None
        in_place = hashlib.sha256(file.read_bytes()[old.byte_start : old.byte_end]).hexdigest() == old.sha256
        bare = encoding_of(file).replace("-sig", "").replace("utf-16", "utf-16-le")
        stands = old.text in decoded(file) and hashlib.sha256(old.text.encode(bare)).hexdigest() == old.sha256
        expected = {"current"} if in_place else {"relocated"} if stands else {"modified"}
        # Once indexed again, the same passage may be a live one at its new place.
        assert passage.status in (expected | {"current"} if indexed_again and stands else expected)
    if passage.status in ("current", "relocated"):
        assert says_so_where_it_says(passage, old.sha256)


@pytest.mark.parametrize("seed", range(25))
def test_every_old_id_answers_truthfully_after_random_edits(
    open_engine: EngineFactory, tmp_path: Path, seed: int
) -> None:
    tree = Tree(tmp_path / "tree", random.Random(seed))  # reproducible, not secret
    engine = open_engine(FakeEncoder(content_length=20))
    known: dict[str, Passage] = {}
    for _ in range(3):
        engine.index_path(tmp_path / "tree")
        found = engine.search("hive tide kiln starter varnish pilot", limit=50, max_tokens=10**6).results
        assert {passage.status for passage in found} == {"current"}
        known |= {passage.id: passage for passage in found}
        tree.change()
        for old in known.values():
            check(engine.get_passage(old.id).passage, old, indexed_again=False)
        engine.index_path(tmp_path / "tree")
        for old in known.values():
            check(engine.get_passage(old.id).passage, old, indexed_again=True)


def test_an_old_id_follows_a_file_that_was_moved(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    old = engine.search("inspect the hives").results[0]
    (notes / "bees.txt").rename(notes / "deep" / "apiary #2.txt")
    assert engine.get_passage(old.id).passage.status == "missing"
    engine.index_path(notes)
    moved = engine.get_passage(old.id).passage
    assert (moved.status, moved.id, moved.path) == ("relocated", old.id, str(notes / "deep" / "apiary #2.txt"))
    assert says_so_where_it_says(moved, old.sha256)
    assert moved.url.startswith((notes / "deep").as_uri() + "/apiary%20%232.txt#L")
    assert moved.status_reason is not None
    new = next(r for r in engine.search("inspect the hives").results if r.text == old.text)
    assert new.id in moved.status_reason


def test_a_moved_file_is_preferred_to_another_file_with_the_same_words(
    open_engine: EngineFactory, tmp_path: Path
) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "old.txt").write_text("Rye keeps the dough from sticking.")
    (folder / "a copy.txt").write_text("Rye keeps the dough from sticking.\n\nAnd more of it.\n")
    engine = open_engine(FakeEncoder(content_length=8))
    engine.index_path(folder)
    old = next(r for r in engine.search("rye").results)
    assert old.path.endswith("old.txt") or old.also_at
    identity = next(
        i for i in [old.id, *(p.id for p in old.also_at)] if engine.get_passage(i).passage.path.endswith("old.txt")
    )
    (folder / "old.txt").rename(folder / "zz.txt")
    engine.index_path(folder)
    assert engine.get_passage(identity).passage.path == str(folder / "zz.txt")


def test_a_moved_file_outside_of_the_scope_is_not_told(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    old = engine.search("inspect the hives").results[0]
    (notes / "bees.txt").rename(notes / "deep" / "bees.txt")
    engine.index_path(notes)
    scope = [os.fsencode(notes / "bees.txt")]
    assert engine.get_passage(old.id, scope=scope).passage.status == "missing"


def test_removed_paths_leave_no_old_id(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    old = engine.search("inspect the hives").results[0]
    (notes / "bees.txt").write_text("Nothing of it is left.")
    engine.index_path(notes)
    assert engine.get_passage(old.id).passage.status == "modified"
    engine.remove_path(notes)
    with pytest.raises(PassageNotFoundError):
        engine.get_passage(old.id)
