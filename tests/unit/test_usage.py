"""How much room an index takes, counted while it changes."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from colbert_mcp.store.usage import bytes_below, bytes_named


def test_what_goes_away_while_it_is_counted_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_bytes(b"12345")
    gone = tmp_path / "gone"
    (gone / "below").mkdir(parents=True)
    (gone / "file").write_bytes(b"123")
    scandir = os.scandir

    def deleted_before_it_is_listed(path: int | str | Path) -> "Iterator[os.DirEntry[str]]":
        if not isinstance(path, int) and Path(path) == gone:
            shutil.rmtree(gone)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deleted_before_it_is_listed)
    assert bytes_below(tmp_path) == 5
    assert not gone.exists()


def test_files_are_counted_by_the_beginning_of_their_names(tmp_path: Path) -> None:
    for name, size in (("catalog", 2), ("catalog-wal", 3), ("other", 100)):
        (tmp_path / name).write_bytes(b"x" * size)
    assert bytes_named(tmp_path, "catalog") == 5
    assert bytes_below(tmp_path) == 105
    assert bytes_below(tmp_path / "none") == 0
