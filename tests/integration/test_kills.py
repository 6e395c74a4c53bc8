"""A process that is killed loses nothing that was acknowledged, and leaves nothing that is wrong.

Before every single change of a file (see ``programs/kills.py``), and at random moments; then reopened and checked (see
``wholeness.py``).
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = Path(__file__).parent.parent / "programs"
CHANGES = {"mkdir", "openat", "write", "pwrite64", "ftruncate", "fsync", "fdatasync", "unlink", "unlinkat", "rmdir"}
PROCESSES = 2


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: what a kill leaves is the same, and nobody waits for a disk."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else tmp_path) as folder:
        yield Path(folder).resolve()


def kill_everywhere(scenario: str, folder: Path, *options: str) -> tuple[Counter[str], Counter[str], list[str]]:
    """The calls of an undisturbed run, by name; the kills whose remains were whole; what was wrong with the others."""
    programs = [
        subprocess.Popen(
            [sys.executable, PROGRAMS / "kills.py", scenario, folder / str(n), "--shard", f"{n}/{PROCESSES}", *options],
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(PROCESSES)
    ]
    points: Counter[str] = Counter()
    killed: Counter[str] = Counter()
    failures: list[str] = []
    for program in programs:
        answer, _ = program.communicate()
        assert program.returncode == 0
        found: dict[str, Any] = json.loads(answer)
        if "unavailable" in found:
            pytest.skip(found["unavailable"])
        points |= Counter(found["points"])
        killed += Counter(found["killed"])
        failures += found["failures"]
    print(f"{scenario}: {points.total()} places {dict(points)}, {killed.total()} kills survived whole")
    return points, killed, failures


@pytest.mark.parametrize("scenario", ["first", "second"])
def test_a_kill_before_any_change_of_a_file_leaves_a_commit_and_the_next_run_completes(
    scenario: str, memory: Path
) -> None:
    points, killed, failures = kill_everywhere(scenario, memory)
    assert not failures, f"{len(failures)} of {points.total()} kills, the first: {failures[0]}"
    expected = CHANGES | {"rename"} if scenario == "first" else CHANGES
    assert expected <= killed.keys(), points
    assert killed.total() >= 300, killed
    # The last few calls may come out one fewer in a run than in another; most kills happened.
    assert killed["none"] <= 5, killed


@pytest.mark.soak
def test_a_kill_while_an_interrupted_run_is_mended_does_no_harm(memory: Path) -> None:
    points, killed, failures = kill_everywhere("interrupted", memory)
    assert not failures, f"{len(failures)} of {points.total()} kills, the first: {failures[0]}"
    assert killed.total() >= 150, killed


@pytest.mark.soak
@pytest.mark.parametrize("scenario", ["first", "second", "interrupted"])
def test_a_kill_before_a_change_of_chromas_files_leaves_chroma_right_or_rebuilt(scenario: str, memory: Path) -> None:
    points, killed, failures = kill_everywhere(scenario, memory, "--chroma", "--only", "/chroma/", "--every", "9")
    assert not failures, f"{len(failures)} of {points.total()} kills, the first: {failures[0]}"
    assert killed.total() - killed["none"] >= 60, killed
