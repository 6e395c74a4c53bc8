"""How much room an index takes, counted while it changes."""

import shutil
import threading
from pathlib import Path

from colbert_mcp.store.usage import bytes_below, bytes_named


def test_what_goes_away_while_it_is_counted_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_bytes(b"12345")
    over = threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            (tmp_path / "gone" / "below").mkdir(parents=True)
            (tmp_path / "gone" / "below" / "empty").touch()
            shutil.rmtree(tmp_path / "gone")

    changing = threading.Thread(target=come_and_go)
    changing.start()
    try:
        assert {bytes_below(tmp_path) for _ in range(2000)} == {5}
    finally:
        over.set()
        changing.join()


def test_files_are_counted_by_the_beginning_of_their_names(tmp_path: Path) -> None:
    for name, size in (("catalog", 2), ("catalog-wal", 3), ("other", 100)):
        (tmp_path / name).write_bytes(b"x" * size)
    assert bytes_named(tmp_path, "catalog") == 5
    assert bytes_below(tmp_path) == 105
    assert bytes_below(tmp_path / "none") == 0
