"""An index with a bit of everything, ways of damaging its files, and what is made of a damaged copy."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fake_encoder import FakeEncoder
from support import PROJECT

import colbert_mcp.store.vectors
from colbert_mcp.config import Config, IndexConfig, SearchConfig
from colbert_mcp.engine import Engine

PROGRAM = PROJECT / "tests" / "programs" / "ordeal.py"
PAGE = 4096


def build(folder: Path) -> None:
    """Make ``folder/index`` of ``folder/tree`` in several commits; then change the tree, so that there is work left."""
    tree, index = folder / "tree", folder / "index"
    tree.mkdir(parents=True)
    config = Config(index=IndexConfig(path=str(index)), search=SearchConfig(min_candidates=5))
    (tree / "river.md").write_text(
        "# River\n\n"
        + "\n\n".join(f"## Part {n}\n\nThe river number {n} and its bank. {'Water flows. ' * 9}" for n in range(24))
    )
    (tree / "bees.txt").write_bytes(b"Inspect the hives every seventh day in May.\r\nA queen cell means swarming.\r\n")
    (tree / "old.txt").write_text("The heron of former days stood at the weir.\n")
    (tree / "gone.txt").write_text("A file that goes away.\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(colbert_mcp.store.vectors, "_SYNC_THRESHOLD", 4)  # so that Chroma writes its own index to disk
        engine = Engine.open(config, create_missing=True, encoder=FakeEncoder())
        engine.index_path(tree)
        (tree / "wide.txt").write_text("Das Wehr am Fluß und der Reiher. " * 12, encoding="utf-16")
        (tree / "page.html").write_text("<h1>Birds</h1><p>The heron waits at the weir.</p>")
        (tree / "old.txt").write_text("The cormorant of these days stands at the weir.\n")
        (tree / "gone.txt").unlink()
        engine.index_path(tree)
        (tree / "tide.py").write_text(
            "def tide(hour: int) -> float:\n    '''Height of the tide.'''\n    return 1.5 * hour\n"
        )
        engine.index_path(tree)
        engine.close()
    (tree / "bees.txt").write_bytes(
        b"A line more.\r\nInspect the hives every seventh day in May.\r\nA queen cell means swarming.\r\n"
    )
    (tree / "new.txt").write_text("A kingfisher at the river and its bank.\n")
    (tree / "page.html").write_text("<h1>Birds</h1><p>First this.</p><p>The heron waits at the weir.</p>")


def add_killed(folder: Path) -> None:
    """Commit one more file to ``folder/index`` in a process that is then killed, so that its log stays behind."""
    (folder / "tree" / "late.txt").write_text("The late river and its bank.\n" * 5)
    code = (
        "import os, sys; sys.path[:0] = sys.argv[3:]\n"
        "from fake_encoder import FakeEncoder\n"
        "from colbert_mcp.config import Config, IndexConfig\n"
        "from colbert_mcp.engine import Engine\n"
        "engine = Engine.open(Config(index=IndexConfig(path=sys.argv[1])), create_missing=False, encoder=FakeEncoder())\n"
        "engine.index_path(sys.argv[2])\n"
        "os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", code, folder / "index", folder / "tree" / "late.txt", PROJECT, PROJECT / "tests"]
    assert subprocess.run(command, check=False).returncode == -9


def damages(raw: bytes, draw: random.Random, flips: int = 6) -> Iterator[tuple[str, bytes]]:
    """A file's content with one bit flipped (at its head, its end, and anywhere), and cut off in four places."""
    for number in range(flips if raw else 0):
        low, high = ((0, min(len(raw), 128)), (max(0, len(raw) - 128), len(raw)), (0, len(raw)))[min(number, 2)]
        at, bit = draw.randrange(low, high), draw.randrange(8)
        yield f"bit {bit} of byte {at}", raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]
    for length in dict.fromkeys((0, len(raw) - 1, len(raw) // 2, min(PAGE, len(raw) // 3))):
        if 0 <= length < len(raw):
            yield f"cut off at {length}", raw[:length]


def passage_ids(index: Path) -> list[str]:
    """The ids of all passages of an index, live and former; its catalogue stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        for file in index.glob("catalog.sqlite*"):
            shutil.copy(file, folder)
        database = sqlite3.connect(Path(folder) / "catalog.sqlite")
        rows = database.execute("SELECT passage_id FROM chunks UNION SELECT passage_id FROM former").fetchall()
        database.close()
    return [row[0] for row in rows]


def files_of(index: Path) -> list[str]:
    """The names of an index's files, relative to it."""
    return sorted(str(path.relative_to(index)) for path in index.rglob("*") if path.is_file())


@dataclass
class Ordeals:
    """Runs ``ordeal.py`` on copies of ``folder/index``, and compares what it says with what it says of a sound copy."""

    folder: Path
    process: subprocess.Popen[str] = field(init=False)
    sound: dict[str, Any] = field(init=False)

    def __enter__(self) -> "Ordeals":
        with (self.folder / "stderr").open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "PYTHONPATH": str(PROJECT)},
            )
        self.sound = {"known": passage_ids(self.folder / "index")}
        self.sound = self.run(self.copy())
        assert self.sound["errors"] == self.sound["crashes"] == []
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def copy(self) -> Path:
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        return shutil.copytree(self.folder / "index", copy)

    def run(self, index: Path, *, chroma: bool = True) -> dict[str, Any]:
        """Use an index as a process of its own does, with or without opening its Chroma."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        line = json.dumps([str(index), str(self.folder / "tree"), self.sound["known"], chroma])
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def damaged(self, name: str, content: bytes, *, chroma: bool) -> tuple[dict[str, Any], list[str]]:
        """Put other content into a file of a copy and use it: what was answered, and what of it is ``wrong``.

        Where that ended the process, and Chroma's files are what was damaged, a second one must do with the same copy.
        """
        copy = self.copy()
        (copy / name).write_bytes(content)
        answer = self.run(copy, chroma=chroma)
        if answer["signal"] and name.startswith("chroma/"):
            answer = self.run(copy)
        return answer, self.wrong(answer)

    def wrong(self, answer: dict[str, Any]) -> list[str]:
        """What a damaged copy said that a sound one does not, and what broke it."""
        problems = list(answer.get("crashes", []))
        if answer["signal"]:
            problems.append(f"ended by signal {-answer['signal']}")
        for when, said in answer.get("answers", {}).items():
            for key, values in said.items():
                expected = self.sound["answers"]["before"].get(key, [])
                if when == "after" or " match " in key:
                    expected = expected + self.sound["answers"]["after"].get(key, [])
                problems += [
                    f"{when} {key}: {value} is not of {expected}"
                    for value in values
                    if not any(_is_part(value, sound) for sound in expected)
                ]
        allowed = set(self.sound["verdicts"]) | {"not_found", "altered"}
        problems += [f"verdict {verdict}" for verdict in answer.get("verdicts", []) if verdict not in allowed]
        return problems


def _is_part(value: dict[str, Any], sound: dict[str, Any]) -> bool:
    """Whether nothing else was said: the passages around another may be lost, never be others."""
    return value == sound or (value.keys() == {"before", "after"} and all(value[k] in ("", sound[k]) for k in value))
