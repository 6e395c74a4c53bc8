"""The doctor: each trouble is told with what mends it, and none hides the others."""

import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import miniature
import pytest
from fake_encoder import FakeEncoder
from support import PROJECT, EngineFactory

import colbert_mcp.doctor.machine
import colbert_mcp.doctor.place
import colbert_mcp.encoder
from colbert_mcp.cli import main
from colbert_mcp.cli.health import UNSOUND
from colbert_mcp.config import StoreConfig
from colbert_mcp.doctor import examine
from colbert_mcp.doctor.place import file_system_of
from colbert_mcp.errors import ModelNotFoundError
from colbert_mcp.results import DoctorOutput, Finding

Usage = namedtuple("Usage", "total used free")
TOPICS = {"program", "libraries", "settings", "index", "disk", "engine"}


@pytest.fixture
def index(open_engine: EngineFactory, notes: Path, tmp_path: Path) -> Path:
    engine = open_engine(store=StoreConfig())
    engine.index_path(notes)
    engine.close()
    (tmp_path / "index").chmod(0o700)
    return tmp_path / "index"


def examined(index: Path) -> dict[tuple[str, str], list[Finding]]:
    """What the quick doctor found, by topic and state; every topic is always there."""
    output = examine(None, index=str(index), quick=True)
    assert {finding.topic for finding in output.findings} >= TOPICS
    found: dict[tuple[str, str], list[Finding]] = {}
    for finding in output.findings:
        found.setdefault((finding.topic, finding.state), []).append(finding)
    return found


def test_where_all_is_well_every_finding_is(index: Path) -> None:
    output = examine(None, index=str(index), quick=True)
    assert (output.errors, output.warnings) == (0, 0)
    told = " ".join(finding.what for finding in output.findings)
    for part in ("format 5", "3 files, 4 passages", "made with fake", "tokens 0.0 MB", "closed cleanly", "GB free"):
        assert part in told
    assert "they are kept in int8" in told
    assert "another format" not in told
    assert not any(finding.mends for finding in output.findings)


def test_the_doctor_changes_nothing(index: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in index.rglob("*") if path.is_file()}
    examine(None, index=str(index), quick=True)
    assert {
        path: (path.stat().st_mtime_ns, path.stat().st_size) for path in index.rglob("*") if path.is_file()
    } == before
    assert not (index.parent / "none").exists()
    assert (
        examined(index.parent / "none")["index", "warning"][0].mends
        == f"colbert-mcp --index {index.parent / 'none'} index PATH"
    )
    assert not (index.parent / "none").exists()


def spoiled(index: Path) -> None:
    (index / "catalog.sqlite").write_bytes(b"no database" * 500)


def of_old_format(index: Path) -> None:
    with sqlite3.connect(index / "catalog.sqlite") as database:
        database.execute("PRAGMA user_version=1")
    database.close()


TROUBLES: dict[str, tuple[Callable[[Path, Path], object], str, str, str, str]] = {
    "no database": (lambda i, _: spoiled(i), "catalogue", "error", "cannot be read", "delete"),
    "old format": (lambda i, _: of_old_format(i), "catalogue", "error", "format version 1", "delete"),
    "lost catalogue": (lambda i, _: (i / "catalog.sqlite").unlink(), "catalogue", "error", "has lost", "delete"),
    "lost tokens": (lambda i, _: shutil.rmtree(i / "tokens"), "tokens", "error", "are missing", "check --repair"),
    "open to others": (lambda i, _: i.chmod(0o755), "index", "warning", "mode 755", "chmod go-rwx"),
    "not closed": (lambda i, _: (i / "chroma" / "open").touch(), "chroma", "warning", "not closed", "check"),
    "changed": (
        lambda _, n: (n / "bees.txt").write_text("More."), "sources", "warning", "files have changed (1)", "index ",
    ),
    "gone": (lambda _, n: (n / "bees.txt").unlink(), "sources", "warning", "are gone (1)", "colbert-mcp --index "),
    "no root": (lambda _, n: shutil.rmtree(n), "sources", "warning", "is not there", " remove "),
}  # fmt: skip


@pytest.mark.parametrize("name", TROUBLES)
def test_each_trouble_is_told_with_what_mends_it(index: Path, notes: Path, name: str) -> None:
    trouble, topic, state, what, mends = TROUBLES[name]
    trouble(index, notes)
    found = examined(index)[topic, state][0]
    assert what in found.what
    assert mends in str(found.mends)


def test_only_what_mends_a_folder_that_is_gone_is_advised_for_it(
    open_engine: EngineFactory, notes: Path, tmp_path: Path, index: Path
) -> None:
    roots = [tmp_path / name for name in ("same", "changed", "gone")]
    for root in roots:
        root.mkdir()
        (root / "a.txt").write_text(f"{root.name} words")
    with closing(open_engine(store=StoreConfig())) as engine:
        for root in roots:
            engine.index_path(root)
    shutil.rmtree(tmp_path / "gone")
    (gone,) = examined(index)["sources", "warning"]
    command = str(gone.mends).partition("let go of it: ")[2]
    assert command.endswith(f" remove {tmp_path / 'gone'}")
    (tmp_path / "changed" / "a.txt").write_text("other words")
    (notes / "bees.txt").unlink()
    gone, stale = examined(index)["sources", "warning"]
    assert "changed (1) or are gone (1)" in stale.what
    assert str(stale.mends).endswith(f" index {tmp_path / 'changed'} {notes}")
    assert main(shlex.split(command)[1:]) == 0
    assert examined(index)["sources", "warning"] == [stale]


def test_a_full_disk_a_foreign_file_system_and_a_folder_of_others_are_told(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colbert_mcp.doctor.place, "file_system_of", lambda *_: "nfs4")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 10**12, 4 * 10**8))
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    found = examined(index)
    assert found["disk", "warning"][0].what == "only 0.4 GB free"
    assert "nfs4" in found["disk", "warning"][1].what
    assert "only be searched" in found["index", "warning"][0].what
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 10**12, 10**6))
    assert examined(index)["disk", "error"]


def test_a_file_system_is_that_of_the_innermost_mount_seen(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "2 1 0:5 / /home rw - xfs /dev/sdb1 rw\n"
        "3 1 0:5 / /home rw shared:1 - nfs4 server:/home rw\n"
        "4 1 0:6 / /homestead rw - tmpfs none rw\n"
        "5 1 0:7 / /my\\040disk rw - fuse.sshfs other:/ rw\n"
    )
    found = {path: file_system_of(Path(path), mounts) for path in ("/etc", "/home/me/index", "/my disk/index")}
    assert found == {"/etc": "ext4", "/home/me/index": "nfs4", "/my disk/index": "fuse.sshfs"}
    assert file_system_of(Path("/etc"), tmp_path / "none") is None


def test_who_holds_the_index_is_named(open_engine: EngineFactory, index: Path) -> None:
    open_engine(store=StoreConfig(chroma=False))
    found = examined(index)
    assert f"process {os.getpid()}" in found["engine", "ok"][0].what
    assert "in use" in found["chroma", "ok"][0].what
    assert found["catalogue", "ok"]


def test_settings_are_told_with_their_source_and_wrong_ones_hide_nothing(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "own.toml"
    file.write_text(f'[index]\npath = "{index}"\n[search]\nmin_candidates = 77\n')
    told = [f.what for f in examine(file, index=None, quick=True).findings if f.topic == "settings"]
    assert told == [
        f"read from {file}",
        f"index.path = '{index}', from {file}",
        f"search.min_candidates = 77, from {file}",
    ]
    monkeypatch.setenv("COLBERT_MCP_INDEX", str(index))
    assert any("from $COLBERT_MCP_INDEX" in f.what for f in examine(file, index=None, quick=True).findings)
    assert any("from --index" in f.what for f in examine(file, index=str(index), quick=True).findings)
    file.write_text("[search]\nmin_candidate = 77\n")
    output = examine(file, index=str(index), quick=True)
    assert [(f.topic, f.mends) for f in output.findings if f.state == "error"] == [("settings", f"edit {file}")]
    assert any("3 files" in f.what for f in output.findings)


def test_a_part_that_fails_in_an_unforeseen_way_hides_no_other(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("of all things")

    monkeypatch.setattr(colbert_mcp.doctor.place, "file_system_of", fails)
    found = examined(index)
    assert found["index", "error"][0].what == "it cannot be looked at: of all things"
    assert found["catalogue", "ok"]


def test_a_library_that_is_not_installed_is_told(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colbert_mcp.doctor.machine, "_LIBRARIES", ("numpy", "no-such-library"))
    found = examined(index)["libraries", "error"][0]
    assert (found.what, "pip install" in str(found.mends)) == ("not installed: no-such-library", True)


def test_the_model_is_loaded_and_compared_with_that_of_the_index(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def model(load: Callable[[object], object]) -> list[Finding]:
        monkeypatch.setattr(colbert_mcp.encoder, "load_encoder", load)
        return [f for f in examine(None, index=str(index), quick=False).findings if f.topic == "model"]

    (found,) = model(lambda _: FakeEncoder())
    assert found.state == "ok"
    assert "32 dimensions a token, 32 of a passage, document_length 42, window 42" in found.what
    other = model(lambda _: FakeEncoder(name="two"))
    assert [f.state for f in other] == ["ok", "error"]
    assert "made with fake, which differs in digest" in other[1].what
    shorter = model(lambda _: FakeEncoder(content_length=12))[1].what
    assert re.search(r"differs in .*document_length \(42 in the index, \d+ now\)", shorter)

    def missing(_: object) -> None:
        raise ModelNotFoundError("There is no model here.")

    (found,) = model(missing)
    assert (found.state, found.what) == ("error", "There is no model here.")
    assert "builtin" in str(found.mends)


def test_the_processor_is_told_with_the_reason_for_what_the_model_gets(tmp_path: Path) -> None:
    from colbert_mcp.config import ModelConfig
    from colbert_mcp.doctor.machine import processor

    (found,) = processor(ModelConfig())
    assert found.state == "ok"
    assert "cores" in found.what
    (found,) = processor(ModelConfig(dtype="float16", threads=3))
    assert "in float16 with 3 threads (" in found.what
    assert "GPU was found; [model] dtype), and passages are scored in " in found.what


def test_the_quick_doctor_loads_neither_torch_nor_chroma(index: Path) -> None:
    code = (
        "import sys; from colbert_mcp.doctor import examine; examine(None, index=sys.argv[1], quick=True);"
        "print([name for name in ('torch', 'pylate', 'chromadb') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, index], capture_output=True, text=True, check=True, cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )  # fmt: skip
    assert done.stdout == "[]\n"


def test_the_command_line_shows_every_finding_and_ends_with_a_code_of_its_own(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--quick", "--index", str(index)]) == 0
    out = capsys.readouterr().out
    assert "ok      catalogue format 5" in out
    assert out.endswith("0 errors, 0 warnings.\n")
    spoiled(index)
    assert main(["doctor", "--quick", "--index", str(index)]) == UNSOUND
    assert f"to mend it: delete {index} and index again" in capsys.readouterr().out
    broken = tmp_path / "broken.toml"
    broken.write_text("[")
    assert main(["doctor", "--quick", "--json", "--config", str(broken)]) == UNSOUND
    assert DoctorOutput.model_validate_json(capsys.readouterr().out).errors == 1


def test_how_the_model_encodes_is_told_and_what_there_is_to_know_of_it(tmp_path: Path) -> None:
    model = miniature.with_code(tmp_path / "model", tmp_path / "canary")
    settings = tmp_path / "settings.toml"
    lines = [f'name = "{model}"', 'device = "cpu"', "document_length = 100", "trust_remote_code = true"]
    settings.write_text("\n".join(["[model]", *lines]))

    def told(topic: str) -> list[Finding]:
        found = examine(settings, index=str(tmp_path / "index"), quick=False).findings
        return [finding for finding in found if finding.topic == topic]

    (encoding, notice) = told("encoding")
    assert "document_length 100 ([model] document_length)" in encoding.what
    assert "query_length 16 (artifact.metadata: query_maxlen)" in encoding.what
    assert (notice.state, notice.mends) == ("warning", "colbert-mcp model lengths PATH")
    assert "longer than the 64 tokens" in notice.what
    (code,) = told("code")
    assert code.state == "warning"
    assert "modeling_mini.MiniModel" in code.what
    settings.write_text("\n".join(["[model]", *lines[:-1]]))
    assert told("code") == []
    (refused,) = told("model")
    assert refused.state == "error"
    assert "which is not run" in refused.what
