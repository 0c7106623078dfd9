"""A seccomp filter: the kernel refuses every system call of a process that is not in a list.

The filter is a small BPF program. It holds for all threads of the process and for what it starts, and can't be lifted.
A refused call fails with EPERM, which libraries handle; one that is too new to be known fails with ENOSYS, as on an
older kernel.
"""

import contextlib
import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Sequence

from imago.imaging.sandbox.libc import syscall
from imago.imaging.sandbox.syscalls import ALLOWED, FOR_COMMANDS, NEWEST_NUMBER, NUMBERS

# linux/audit.h
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# linux/seccomp.h
_SET_MODE_FILTER, _GET_ACTION_AVAIL = 1, 2
_ALL_THREADS = 1
_KILL_PROCESS, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000

# Offsets in `struct seccomp_data`.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

# linux/bpf_common.h: load a word, compare it, mask it, return.
_LOAD, _EQUAL, _GREATER, _MASK, _RETURN = 0x20, 0x15, 0x25, 0x54, 0x06

# A thread shares memory and signal handlers; a process doesn't. New namespaces are for neither.
_THREAD_FLAGS = 0x00010000 | 0x00000800 | 0x00000100
_NAMESPACE_FLAGS = 0x7E020080
# O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND; these numbers are the same on both architectures.
_WRITING_FLAGS = 0o1 | 0o2 | 0o100 | 0o1000 | 0o2000
# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC; F_SETOWN would send signals.
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 1030)
# TCGETS, by which `open` recognizes a terminal, and FIOCLEX, FIONCLEX.
_IOCTL_COMMANDS = (0x5401, 0x5451, 0x5450)
# PR_SET_NAME and PR_SET_VMA, which name threads and memory.
_PRCTL_OPTIONS = (15, 0x53564D41)

Instruction = tuple[int, int, int, int]


def is_available() -> bool:
    """Return whether the kernel has filters and this module knows the architecture."""
    numbers = NUMBERS.get(platform.machine())
    if sys.platform != "linux" or numbers is None:
        return False
    action = struct.pack("=I", _ERRNO)
    with contextlib.suppress(OSError):
        syscall(numbers["seccomp"], _GET_ACTION_AVAIL, 0, ctypes.create_string_buffer(action, len(action)))
        return True
    return False


def restrict(*, commands: bool = False) -> None:
    """Refuse all calls but those of `syscalls`; raise OSError.

    With `commands` the process may also start programs and write files, as far as Landlock lets it.
    """
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in _program(platform.machine(), commands))
    instructions = ctypes.create_string_buffer(code, len(code))
    # `struct sock_fprog`: the number of instructions, and their address.
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(instructions))
    number = NUMBERS[platform.machine()]["seccomp"]
    syscall(number, _SET_MODE_FILTER, _ALL_THREADS, ctypes.create_string_buffer(program, len(program)))


def _program(machine: str, commands: bool) -> list[Instruction]:
    numbers = NUMBERS[machine]
    program = [
        _load(_ARCHITECTURE),
        *_unless_equal(_ARCHITECTURES[machine], [_return(_KILL_PROCESS)]),
        _load(_NUMBER),
    ]
    for name in (*ALLOWED, *(FOR_COMMANDS if commands else ())):
        if name in numbers:
            program += _if_equal(numbers[name], [_return(_ALLOW)])
    for name, rule in conditional_rules(commands=commands).items():
        if name in numbers:
            program += _if_equal(numbers[name], rule)
    # The C library falls back from these to calls whose arguments a filter can read.
    for name in ("clone3", "openat2"):
        program += _if_equal(numbers[name], [_error(errno.ENOSYS)])
    # Numbers of the x32 ABI are far above.
    return [*program, (_GREATER, 0, 1, NEWEST_NUMBER), _error(errno.ENOSYS), _error(errno.EPERM)]


def conditional_rules(*, commands: bool) -> dict[str, list[Instruction]]:
    """Return the instructions for calls that are allowed with some arguments only, by their names."""
    own = (os.getpid(),)
    return {
        "open": [_return(_ALLOW)] if commands else _allow_without(1, _WRITING_FLAGS, errno.EACCES),
        "openat": [_return(_ALLOW)] if commands else _allow_without(2, _WRITING_FLAGS, errno.EACCES),
        "clone": _allow_without(0, _NAMESPACE_FLAGS, errno.EPERM) if commands else _allow_thread(),
        "fcntl": _allow_values(1, _FCNTL_COMMANDS),
        "ioctl": _allow_values(1, _IOCTL_COMMANDS),
        "prctl": _allow_values(0, _PRCTL_OPTIONS),
        # Reading the process's own limits: no process, and no new values.
        "prlimit64": [
            *_refuse_unless_zero(0), *_refuse_unless_zero(2), *_refuse_unless_zero(2, high=True), _return(_ALLOW)
        ],
        # A failed assertion signals its own process.
        "kill": _allow_values(0, own),
        "tgkill": _allow_values(0, own),
    }  # fmt: skip


def _allow_thread() -> list[Instruction]:
    return [
        _load_argument(0),
        (_MASK, 0, 0, _THREAD_FLAGS | _NAMESPACE_FLAGS),
        *_if_equal(_THREAD_FLAGS, [_return(_ALLOW)]),
        _error(errno.EPERM),
    ]


def _allow_values(argument: int, values: Sequence[int]) -> list[Instruction]:
    program = [_load_argument(argument)]
    for value in values:
        program += _if_equal(value, [_return(_ALLOW)])
    return [*program, _error(errno.EPERM)]


def _allow_without(argument: int, flags: int, code: int) -> list[Instruction]:
    return [_load_argument(argument), (_MASK, 0, 0, flags), *_if_equal(0, [_return(_ALLOW)]), _error(code)]


def _refuse_unless_zero(argument: int, *, high: bool = False) -> list[Instruction]:
    return [_load_argument(argument, high=high), *_unless_equal(0, [_error(errno.EPERM)])]


def _load(offset: int) -> Instruction:
    return (_LOAD, 0, 0, offset)


def _load_argument(argument: int, *, high: bool = False) -> Instruction:
    # Both architectures store the low half first. The kernel itself ignores the high half of all arguments used here
    # but pointers.
    return _load(_ARGUMENTS + 8 * argument + (4 if high else 0))


def _if_equal(value: int, then: list[Instruction]) -> list[Instruction]:
    return [(_EQUAL, 0, len(then), value), *then]


def _unless_equal(value: int, then: list[Instruction]) -> list[Instruction]:
    return [(_EQUAL, len(then), 0, value), *then]


def _return(action: int) -> Instruction:
    return (_RETURN, 0, 0, action)


def _error(code: int) -> Instruction:
    return _return(_ERRNO | code)
