"""Kills at an exact place: before the n-th system call of a process that would change a file.

A forked child installs a seccomp filter that stops it before each such call, and is traced by its parent, which counts
the stops and at the one asked for sends SIGKILL: the call then does not happen. Threads and children are stopped alike.
Needs Linux on x86-64 or arm64, and leave to trace; ``unavailable`` says what is missing. Knows nothing of indexes.
"""

import ctypes
import os
import platform
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_NUMBERS = {
    "x86_64": {
        "write": 1, "pwrite64": 18, "writev": 20, "pwritev": 296, "sendfile": 40, "copy_file_range": 326,
        "fsync": 74, "fdatasync": 75, "msync": 26, "truncate": 76, "ftruncate": 77, "fallocate": 285,
        "rename": 82, "renameat": 264, "renameat2": 316, "unlink": 87, "unlinkat": 263, "link": 86, "linkat": 265,
        "mkdir": 83, "mkdirat": 258, "rmdir": 84, "creat": 85, "open": 2, "openat": 257,
    },
    "aarch64": {
        "write": 64, "pwrite64": 68, "writev": 66, "pwritev": 70, "sendfile": 71, "copy_file_range": 285,
        "fsync": 82, "fdatasync": 83, "msync": 227, "truncate": 45, "ftruncate": 46, "fallocate": 47,
        "renameat": 38, "renameat2": 276, "unlinkat": 35, "linkat": 37, "mkdirat": 34, "openat": 56,
    },
}  # fmt: skip
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_AT_CALLS = {"openat", "unlinkat", "mkdirat", "renameat", "renameat2", "linkat"}
_PATH_CALLS = {"truncate", "rename", "unlink", "link", "mkdir", "rmdir", "creat", "open"}
_O_CREAT = 0o100
_TRACEME, _CONT, _SETOPTIONS = 0, 7, 0x4200
_OPTIONS = 0x2 | 0x4 | 0x8 | 0x80 | 0x100000  # fork, vfork, clone, seccomp, exitkill
_STOP_SECCOMP = 7
_WALL = 0x40000000
_LD, _JEQ, _JSET, _RET = 0x20, 0x15, 0x45, 0x06
_ALLOW, _TRACE = 0x7FFF0000, 0x7FF00000
_machine = platform.machine()
_names = {number: name for name, number in _NUMBERS.get(_machine, {}).items()}


@dataclass(frozen=True, slots=True)
class Call:
    """A system call about to happen: its name, and the path it is about as far as that can be told."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a traced child ended: the call it was killed before, or all of them where it was only watched; and its exit
    status, None where it was killed.
    """

    calls: list[Call]
    status: int | None

    @property
    def killed(self) -> bool:
        """Whether it got as far as the call asked for."""
        return self.status is None


def unavailable() -> str | None:
    """Why children cannot be traced here; None if they can."""
    if sys.platform != "linux" or _machine not in _NUMBERS:
        return f"stopping a process before its system calls is not written for {sys.platform} on {_machine}"
    try:
        outcome = run_traced(lambda: os.close(os.open(".", os.O_RDONLY)))
    except OSError as error:
        return f"processes may not be traced here ({error})"
    return None if outcome.status == 0 else f"processes may not be traced here (exit status {outcome.status})"


def run_traced(body: Callable[[], None], kill_at: int = 0, *, counts: Callable[[Call], bool] | None = None) -> Outcome:
    """Run ``body`` in a forked child; kill it before the ``kill_at``-th call that counts (0: never, only list them).

    All calls count unless ``counts`` says otherwise, which takes longer. The caller must have one thread only and no
    other children: it waits for all there are. Raises OSError where tracing is refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    child = os.fork()
    if not child:
        _become_traced(libc, body)
    return _Tracer(libc, child, kill_at, counts).follow()


class _Tracer:
    def __init__(self, libc: ctypes.CDLL, child: int, kill_at: int, counts: Callable[[Call], bool] | None) -> None:
        self._libc = libc
        self._child = child
        self._kill_at = kill_at
        self._counts = counts
        self._known = {child}
        self._calls: list[Call] = []
        self._passed = 0
        self._killed = False

    def follow(self) -> Outcome:
        """Resume every stop until the child is gone."""
        _, status = os.waitpid(self._child, _WALL)
        if not os.WIFSTOPPED(status):
            raise OSError(f"the child ended with {status} before it could be traced")
        self._request(_SETOPTIONS, self._child, _OPTIONS)
        self._request(_CONT, self._child, 0)
        while True:
            task, status = os.waitpid(-1, _WALL)
            if os.WIFSTOPPED(status):
                self._resume(task, status)
            else:
                self._known.discard(task)
                if task == self._child:
                    break
        self._reap()
        return Outcome(self._calls, None if self._killed else os.waitstatus_to_exitcode(status))

    def _resume(self, task: int, status: int) -> None:
        """Let a stopped task go on, unless it stands before the call it is to be killed at."""
        number, event = os.WSTOPSIG(status), status >> 16
        if event == _STOP_SECCOMP and not self._killed and self._is_last(task):
            self._killed = True
            os.kill(self._child, signal.SIGKILL)
            return
        first = task not in self._known
        self._known.add(task)
        deliver = 0 if event or number == signal.SIGTRAP or (first and number == signal.SIGSTOP) else number
        self._request(_CONT, task, deliver)

    def _is_last(self, task: int) -> bool:
        """Count the call that a task is stopped at; whether it is the one to be killed at."""
        call = _call(task) if self._counts is not None or not self._kill_at else None
        if call is not None and self._counts is not None and not self._counts(call):
            return False
        self._passed += 1
        last = self._passed == self._kill_at
        if last or not self._kill_at:
            self._calls.append(call or _call(task))
        return last

    def _reap(self) -> None:
        """End children that the child has left: nothing of it may go on writing."""
        for task in self._known:  # none of them was waited for, so no id belongs to another process by now
            with suppress(ProcessLookupError):
                os.kill(task, signal.SIGKILL)
        while True:
            try:
                os.waitpid(-1, _WALL)
            except ChildProcessError:
                return

    def _request(self, request: int, task: int, data: int) -> None:
        if self._libc.ptrace(request, task, None, data) == -1:
            number = ctypes.get_errno()
            if number != 3:  # the task has just been killed
                raise OSError(number, os.strerror(number))


def _become_traced(libc: ctypes.CDLL, body: Callable[[], None]) -> None:
    """In the child: be traced, install the filter, run ``body`` and exit."""
    code = 1
    try:
        if libc.ptrace(_TRACEME, 0, None, None) == -1:
            os._exit(77)
        os.kill(os.getpid(), signal.SIGSTOP)
        _install_filter(libc)
        body()
        code = 0
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        os._exit(code)


def _install_filter(libc: ctypes.CDLL) -> None:
    """Stop at every call that changes files; of calls that open, at those that may create."""
    program = b"".join(struct.pack("=HBBI", *line) for line in _filter())
    buffer = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    described = Program(len(program) // 8, ctypes.addressof(buffer))
    libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]
    if libc.prctl(38, 1, None, 0, 0) or libc.prctl(22, 2, ctypes.addressof(described), 0, 0):
        raise OSError(ctypes.get_errno(), "the filter was refused")


def _filter() -> list[tuple[int, int, int, int]]:
    """The classic BPF program: (code, jump if true, jump if false, value)."""
    numbers = _NUMBERS[_machine]
    lines = [(_LD, 0, 0, 4), (_JEQ, 1, 0, _AUDIT[_machine]), (_RET, 0, 0, _ALLOW), (_LD, 0, 0, 0)]
    for name, number in numbers.items():
        if name in ("open", "openat"):
            flags = 16 + 8 * (1 if name == "open" else 2)
            lines += [
                (_JEQ, 0, 4, number),
                (_LD, 0, 0, flags),
                (_JSET, 0, 1, _O_CREAT),
                (_RET, 0, 0, _TRACE),
                (_RET, 0, 0, _ALLOW),
            ]
        else:
            lines += [(_JEQ, 0, 1, number), (_RET, 0, 0, _TRACE)]
    return [*lines, (_RET, 0, 0, _ALLOW)]


def _call(task: int) -> Call:
    """The call that a stopped task is about to make."""
    words = Path(f"/proc/{task}/syscall").read_text().split()
    name = _names.get(int(words[0]), words[0])
    arguments = [int(word, 16) for word in words[1:7]]
    try:
        if name in _PATH_CALLS:
            return Call(name, _string(task, arguments[0]))
        if name in _AT_CALLS:
            path = _string(task, arguments[1])
            return Call(name, path if path.startswith("/") else f"{_opened(task, arguments[0])}/{path}")
        return Call(name, _opened(task, arguments[0]))
    except OSError:
        return Call(name, "")


def _opened(task: int, descriptor: int) -> str:
    """The path of an open file; of the working directory for AT_FDCWD."""
    number = ctypes.c_int32(descriptor & 0xFFFFFFFF).value
    return str(Path(f"/proc/{task}/cwd" if number < 0 else f"/proc/{task}/fd/{number}").readlink())


def _string(task: int, address: int) -> str:
    with Path(f"/proc/{task}/mem").open("rb", buffering=0) as memory:
        memory.seek(address)
        return os.fsdecode(memory.read(4096).split(b"\0", 1)[0])
