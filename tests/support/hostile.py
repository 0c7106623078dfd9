"""What code in a decoding process would try. Every attempt returns normally if it succeeded, and raises otherwise."""

import argparse
import ctypes
import fcntl
import json
import mmap
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

SECRET = "a-secret-of-the-parent"

# process_vm_readv, process_vm_writev, pidfd_open, pidfd_getfd, ptrace, memfd_create, io_uring_setup, bpf, keyctl,
# unshare, perf_event_open, userfaultfd, mount
_NUMBERS = {
    "x86_64": (310, 311, 434, 438, 101, 319, 425, 321, 250, 272, 298, 323, 165),
    "aarch64": (270, 271, 434, 438, 117, 279, 425, 280, 219, 97, 241, 282, 40),
}
(
    READ_MEMORY, WRITE_MEMORY, PIDFD_OPEN, PIDFD_GETFD, PTRACE, MEMFD, IO_URING, BPF, KEYCTL, UNSHARE, PERF, USERFAULT,
    MOUNT
) = _NUMBERS.get(platform.machine(), (0,) * 13)  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)


class _Range(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def attempts(*, parent: int, port: int, foreign: str, directory: str) -> dict[str, Callable[[], object]]:
    """Return the attempts: at a parent process, a server on a port, another's file, and a directory."""
    new = Path(directory) / f"planted-{os.getpid()}"
    return {
        "read the parent's environment": lambda: _require(SECRET in Path(f"/proc/{parent}/environ").read_text()),
        "open the parent's memory": lambda: Path(f"/proc/{parent}/mem").open("rb").close(),
        "copy the parent's memory": lambda: _copy_memory(parent, READ_MEMORY),
        "trace the parent": lambda: call(PTRACE, 0x4206, parent, 0, 0),
        "signal the parent": lambda: os.kill(parent, 0),
        "signal the parent by a descriptor": lambda: signal.pidfd_send_signal(call(PIDFD_OPEN, parent, 0), 0),
        "signal the parent by a socket's owner": lambda: fcntl.fcntl(0, fcntl.F_SETOWN, parent),
        "change the parent's limits": lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE, (64, 64)),
        "change the parent's processors": lambda: os.sched_setaffinity(parent, os.sched_getaffinity(parent)),
        "read another's file": lambda: Path(foreign).read_bytes(),
        "write another's file": lambda: Path(foreign).open("ab").close(),
        "change another's mode": lambda: Path(foreign).chmod(0o666),
        "list a directory": lambda: list(Path(directory).iterdir()),
        "create a file": lambda: new.write_bytes(b"x"),
        "create a link": lambda: Path(f"{new}-link").symlink_to(foreign),
        "create a directory": lambda: Path(f"{new}-directory").mkdir(),
        "read the accounts": lambda: Path("/etc/passwd").read_bytes(),
        "list the processes": lambda: list(Path("/proc").iterdir()),
        "connect": lambda: socket.create_connection(("127.0.0.1", port), 2).close(),
        "open a UDP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
        "open a Unix socket": lambda: socket.socket(socket.AF_UNIX).close(),
        "fork": _fork,
        "start a program": lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0),
        "become a program": lambda: _become("/bin/true"),
        "create an anonymous file": lambda: os.close(call(MEMFD, b"x", 0)),
        "create a namespace": lambda: call(UNSHARE, 0x10000000),
        "raise a limit": lambda: resource.setrlimit(resource.RLIMIT_CORE, resource.getrlimit(resource.RLIMIT_CORE)),
        "allocate 8 GiB": lambda: mmap.mmap(-1, 8 * 2**30).close(),
        "keep an environment": lambda: _require(bool({*os.environ} - ALLOWED_ENVIRONMENT)),
    }


# Allowed: what the child itself sets for libraries, and where they are.
ALLOWED_ENVIRONMENT = {
    "OMP_THREAD_LIMIT", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LD_LIBRARY_PATH", "TESSDATA_PREFIX", "LC_CTYPE"
}  # fmt: skip

DANGEROUS_CALLS = {
    "io_uring_setup": IO_URING, "bpf": BPF, "keyctl": KEYCTL, "perf_event_open": PERF, "userfaultfd": USERFAULT,
    "mount": MOUNT, "process_vm_writev": WRITE_MEMORY, "pidfd_getfd": PIDFD_GETFD, "ptrace": PTRACE,
}  # fmt: skip


def try_everything(*, parent: int, port: int, foreign: str, directory: str) -> list[str]:
    """Return the attempts that succeeded."""
    todo = attempts(parent=parent, port=port, foreign=foreign, directory=directory)
    return [name for name, attempt in todo.items() if _succeeds(attempt)]


def errors_of_dangerous_calls() -> dict[str, int]:
    """Return the error of each call, made with arguments that do nothing."""
    errors = {}
    for name, number in DANGEROUS_CALLS.items():
        try:
            call(number, -1, 0, 0, 0, 0, 0)
            errors[name] = 0
        except OSError as error:
            errors[name] = error.errno or 0
    return errors


def thread_and_limits() -> dict[str, object]:
    """Return what a task needs and may do: a thread, and reading its limits and its user."""
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(1))
    thread.start()
    thread.join()
    return {
        "thread": seen,
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "user": os.getuid(),
    }


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError


def _succeeds(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (OSError, ValueError, MemoryError):
        return False
    return True


def _copy_memory(parent: int, number: int) -> None:
    heap = next(line for line in Path(f"/proc/{parent}/maps").read_text().splitlines() if line.endswith("[heap]"))
    buffer = ctypes.create_string_buffer(64)
    here = _Range(ctypes.cast(buffer, ctypes.c_void_p), 64)
    there = _Range(int(heap.split("-")[0], 16), 64)
    call(number, parent, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)


def _fork() -> None:
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _become(program: str) -> None:
    """Replace this process by a program, or a fork of it where that works."""
    try:
        child = os.fork()
    except OSError:
        os.execv(program, [program])
    if child == 0:
        try:
            os.execv(program, [program])
        finally:
            os._exit(1)
    _require(os.waitpid(child, 0)[1] == 0)


def main() -> None:
    """Try everything at another process of this user, after giving up only some parts; print what succeeded.

    With the part `hidden`, the other process has hidden its memory.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", default="")
    parser.add_argument("arguments", type=json.loads)
    options = parser.parse_args()
    from imago.imaging.sandbox import confinement, landlock, libc, seccomp

    parts = options.parts.split(",")
    hide = "libc.hide_memory(); " if "hidden" in parts else ""
    program = f"from imago.imaging.sandbox import libc; {hide}print(flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    if "memory" in parts:
        confinement.limit_resources(512)
    if "landlock" in parts or "seccomp" in parts:
        libc.forbid_new_privileges()
    if "landlock" in parts:
        landlock.restrict(read=[Path("/usr/lib")])
    if "seccomp" in parts:
        seccomp.restrict()
    # The other process ends when this one does.
    sys.stdout.write(json.dumps(try_everything(parent=other.pid, **options.arguments)))


if __name__ == "__main__":
    main()
