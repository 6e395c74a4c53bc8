"""What it costs to index a tree again in which nothing, or one file, has changed.

Makes a tree of small files in many folders, some with ignore files, and an index of it with a hash for an encoder, so
that nothing but the run itself is measured. Prints three ratios, each of medians taken in one process:

- discovery (walk, ignore rules, credential names) against a bare ``scandir`` and ``lstat`` of the same tree
- a run over the unchanged tree against discovery
- a run with one changed file against that run and the indexing of one such file by itself

Usage: python bench/unchanged.py [--files 10000] [--repeat 7] [--profile]
"""

import argparse
import cProfile
import os
import pstats
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hash_encoder import HashEncoder

from colbert_mcp.config import Config, IndexConfig
from colbert_mcp.documents import Discovery, Found, discover
from colbert_mcp.engine import Engine

DIMENSION = 16
WORDS = ["otter", "river", "mill", "keeper", "lantern", "orchard", "ledger", "damper", "kiln", "glaze", "harbour"]
IGNORES = ["*.pyc", "*.log", "build/", "/dist", "node_modules/", "docs/_build/", "!keep.log", "*.egg-info/", ".cache"]


def make_tree(root: Path, files: int) -> None:
    """``files`` files of about 60 words, 25 to a folder, three folders deep; every tenth folder has an ignore file."""
    chance = random.Random(0)
    for folder in range(-(-files // 25)):
        path = root / f"part{folder % 7}" / f"chapter{folder // 7 % 9}" / f"section{folder}"
        path.mkdir(parents=True)
        if folder % 10 == 0:
            (path / ".gitignore").write_text("\n".join(chance.sample(IGNORES, 3)) + "\n")
        for number in range(folder * 25, min(files, folder * 25 + 25)):
            text = f"File {number}. " + " ".join(chance.choices(WORDS, k=60)) + ".\n"
            (path / f"note-{number}.{chance.choice(['md', 'txt', 'py'])}").write_text(text)
    (root / ".gitignore").write_text("\n".join(IGNORES) + "\n")


def bare(folder: bytes) -> int:
    """What no walk can do without."""
    count = 0
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                entry.stat(follow_symlinks=False)
                count += 1
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    return count


def timed(work: Callable[[], object]) -> float:
    """Seconds by the clock."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(engine: Engine, tree: Path, single: Path, repeat: int) -> dict[str, float]:
    """Median seconds of each kind of work, taken in turn so that the machine's mood is shared."""
    root, how = os.fsencode(tree), Discovery(max_file_bytes=10_000_000, hidden=False)
    files = sorted(path for path in tree.rglob("note-*"))
    seconds: dict[str, list[float]] = {name: [] for name in ("bare", "discovery", "unchanged", "one file", "changed")}
    for turn in range(repeat):
        seconds["bare"].append(timed(lambda: bare(root)))
        seconds["discovery"].append(timed(lambda: sum(isinstance(item, Found) for item in discover(root, how))))
        seconds["unchanged"].append(timed(lambda: engine.index_path(tree)))
        (single / "note.txt").write_text(f"Single {turn} " + " ".join(WORDS * 5) + "\n")
        seconds["one file"].append(timed(lambda: engine.index_path(single)))
        files[turn].write_text(f"Changed {turn} " + " ".join(WORDS * 5) + "\n")
        seconds["changed"].append(timed(lambda: engine.index_path(tree)))
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Make the tree and the index, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--profile", action="store_true", help="print where a run over the unchanged tree spends time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tree, single = Path(folder).resolve() / "tree", Path(folder).resolve() / "single"
        single.mkdir()
        make_tree(tree, options.files)
        config = Config(index=IndexConfig(path=str(Path(folder) / "index")))
        engine = Engine.open(config, create_missing=True, encoder=HashEncoder())
        first = timed(lambda: engine.index_path(tree))
        (single / "note.txt").write_text("Once.\n")
        engine.index_path(single)
        found = measure(engine, tree, single, options.repeat)
        if options.profile:
            # In this thread: the engine's own threads are not seen by the profiler.
            profile = cProfile.Profile()
            profile.runcall(lambda: list(discover(os.fsencode(tree), Discovery(10_000_000, False))))
            pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(15)
        engine.close()
    print(f"{options.files:,} files; first run {first:.2f} s")
    for name, value in found.items():
        print(f"{name:10} {value * 1000:8.1f} ms")
    print(f"discovery : bare walk           {found['discovery'] / found['bare']:.2f}")
    print(f"unchanged run : discovery       {found['unchanged'] / found['discovery']:.2f}")
    print(f"one changed : unchanged + one   {found['changed'] / (found['unchanged'] + found['one file']):.2f}")


if __name__ == "__main__":
    main()
