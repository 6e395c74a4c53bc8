"""When what has changed is looked at, by a clock that the tests move."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colbert_mcp.watching.debounce import Debounce, Timing

A, B = b"/a", b"/b"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_burst_is_due_once_after_it_has_been_quiet(clock: Clock) -> None:
    debounce = Debounce(Timing(quiet=1, longest=10), clock)
    assert debounce.seconds() is None
    for _ in range(50):
        debounce.note(A)
        clock.now += 0.1
        assert debounce.due() == []
    assert debounce.seconds() == pytest.approx(0.9)
    clock.now += 0.9
    assert debounce.due() == [A]
    assert debounce.seconds() == 0
    debounce.take(A)
    assert debounce.due() == []
    assert debounce.seconds() is None


def test_changes_that_never_end_are_looked_at_all_the_same(clock: Clock) -> None:
    debounce = Debounce(Timing(quiet=1, longest=10), clock)
    looked = []
    for _ in range(250):
        debounce.note(A)
        clock.now += 0.1
        if debounce.due():
            looked.append(clock.now)
            debounce.take(A)
    assert looked == pytest.approx([110.0, 120.0], abs=0.35)


def test_each_root_waits_for_itself_and_who_waits_longest_comes_first(clock: Clock) -> None:
    debounce = Debounce(Timing(quiet=1, longest=10), clock)
    debounce.note(B)
    clock.now += 0.5
    debounce.note(A)
    clock.now += 0.5
    assert debounce.due() == [B]
    clock.now += 0.5
    assert debounce.due() == [B, A]
    debounce.forget(B)
    assert debounce.due() == [A]


def test_what_fails_again_and_again_is_looked_at_later_and_later(clock: Clock) -> None:
    debounce = Debounce(Timing(quiet=1, longest=10, retry=5, longest_retry=60), clock)
    waits = []
    for _ in range(6):
        debounce.failed(A)
        assert debounce.seconds() is None, "without a change it is not tried again"
        debounce.note(A)
        waits.append(debounce.seconds())
        clock.now += waits[-1] or 0
        assert debounce.due() == [A]
        debounce.take(A)
    assert waits == [5, 10, 20, 40, 60, 60]
    debounce.succeeded(A)
    debounce.note(A)
    assert debounce.seconds() == 1


@given(st.lists(st.tuples(st.sampled_from([A, B]), st.floats(0, 5)), max_size=40))
def test_no_change_is_forgotten_and_none_waits_too_long(steps: list[tuple[bytes, float]]) -> None:
    clock = Clock()
    timing = Timing(quiet=1, longest=4)
    debounce = Debounce(timing, clock)
    noted: dict[bytes, list[float]] = {}
    for key, seconds in steps:
        debounce.note(key)
        noted.setdefault(key, []).append(clock.now)
        clock.now += seconds
        due = debounce.due()
        for known, times in noted.items():
            expected = clock.now >= min(times[-1] + timing.quiet, times[0] + timing.longest)
            assert (known in due) == expected
        for key_due in due:
            debounce.take(key_due)
            del noted[key_due]
