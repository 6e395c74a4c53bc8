"""What gc gives back: bytes of an index after half of a tree was removed, before and after gc, against a new index.

    python bench/reclaim.py TREE [--hash]

Works on a copy of the tree: every other file is moved into a second folder, both are indexed, one is removed. With the
configured model, or with a hash for an encoder (--hash), since sizes do not depend on what vectors say.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from hash_encoder import HashEncoder

from colbert_mcp.config import Config, IndexConfig
from colbert_mcp.engine import Engine


def opened(index: Path, hashed: bool) -> Engine:
    """An engine over an index of its own."""
    encoder = HashEncoder() if hashed else None
    return Engine.open(Config(index=IndexConfig(path=str(index))), create_missing=True, encoder=encoder)


def sizes(engine: Engine) -> dict[str, int]:
    """Bytes on disk by part."""
    return engine.index_status().bytes


def show(name: str, bytes_by_part: dict[str, int]) -> None:
    """One line."""
    print(
        f"{name:28}" + "".join(f"{part} {count / 1e6:8.2f} MB  " for part, count in bytes_by_part.items()), flush=True
    )


def halves(source: Path, target: Path) -> tuple[Path, Path]:
    """A copy of the tree in two folders, file by file in turn."""
    for number, path in enumerate(sorted(path for path in source.rglob("*") if path.is_file())):
        copy = target / ("kept", "removed")[number % 2] / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return target / "kept", target / "removed"


def main() -> None:
    """Index both halves, remove one, reclaim; then index the other alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--hash", action="store_true", help="a hash for an encoder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kept, removed = halves(options.tree, Path(folder) / "tree")
        new = opened(Path(folder) / "new", options.hash)
        run = new.index_path(kept)
        fresh = sizes(new)
        print(f"{run.indexed} files, {run.chunks} passages kept")
        new.close()
        engine = opened(Path(folder) / "index", options.hash)
        engine.index_path(kept)
        engine.index_path(removed)
        show("both halves", sizes(engine))
        start = time.perf_counter()
        notice = engine.remove_path(removed).notice
        print(f"remove: {time.perf_counter() - start:.2f} s; {notice}")
        show("one removed", sizes(engine))
        output = engine.gc(0)
        print(f"gc: {output.seconds:.2f} s, {output.merged} segments, Chroma rebuilt: {output.chroma_rebuilt}")
        after = sizes(engine)
        show("after gc", after)
        show("a new index of the other", fresh)
        print("ratio: " + ", ".join(f"{part} {after[part] / fresh[part]:.3f}" for part in after))
        engine.close()


if __name__ == "__main__":
    main()
