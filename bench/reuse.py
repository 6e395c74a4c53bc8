"""What is encoded, how long it takes and what it takes on disk when a tree is copied, renamed, edited and touched.

    python bench/reuse.py TREE

Works on a copy of the tree, with the configured model, in an index of its own.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from colbert_mcp import Index


def step(name: str, index: Index, tree: Path) -> None:
    """Index the tree and print what it took."""
    output = index.index_path(tree)
    size = " ".join(f"{part} {count / 1e6:.1f}" for part, count in index.index_status().bytes.items())
    print(
        f"{name:9} {output.seconds:7.2f} s  files {output.indexed:5}  encoded {output.chunks:6}  "
        f"reused {output.reused:6}  removed {output.removed:5}  MB: {size}",
        flush=True,
    )


def main() -> None:
    """Five runs over one tree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(options.tree, tree / "one")
        with Index.open(Path(folder) / "index") as index:
            index.warm_up()
            step("first", index, tree)
            shutil.copytree(options.tree, tree / "two")
            step("copied", index, tree)
            (tree / "two").rename(tree / "three")
            step("renamed", index, tree)
            files = [path for path in sorted((tree / "one").rglob("*")) if path.suffix in {".md", ".rst", ".txt"}]
            for number, path in enumerate(files[:10]):
                with path.open("a", encoding="utf-8") as file:
                    file.write(f"\n\n## Added {number}\n\nA new paragraph number {number} about otters.\n")
            step("10 edited", index, tree)
            for path in tree.rglob("*"):
                path.touch()
            step("touched", index, tree)


if __name__ == "__main__":
    main()
