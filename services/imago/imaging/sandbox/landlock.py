"""Landlock: a process gives up the file system, except for what it names.

Linux has it from 5.13 on (https://docs.kernel.org/userspace-api/landlock.html), and later versions restrict more.
The restrictions hold for the calling thread and for what it starts, and can't be lifted.
"""

import contextlib
import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

from imago.imaging.sandbox.libc import syscall

# The same numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_FILE, _MAKE_FILE, _TRUNCATE = 1 << 5, 1 << 8, 1 << 14
_READ = _READ_FILE | _READ_DIR
_RIGHTS_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE

# The number of rights to files that each version knows, from the first on. A version knows all rights of earlier ones.
_FILE_RIGHTS = (13, 14, 15, 15, 16)
# Version 4: binding and connecting TCP. Version 6: abstract Unix sockets, and signals to outside.
_NETWORK_RIGHTS, _NETWORK_VERSION = 0b11, 4
_SCOPES, _SCOPES_VERSION = 0b11, 6


def version() -> int:
    """Return the version of Landlock that the kernel has; 0 for none."""
    if sys.platform != "linux":
        return 0
    with contextlib.suppress(OSError):
        return syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    return 0


def restrict(*, read: Iterable[Path], execute: Iterable[Path] = (), write: Iterable[Path] = ()) -> None:
    """Give up all files except those in these directories; raise OSError.

    `execute` may also be read, and `write` names directories in which files are created, written and removed. Paths
    that don't exist are ignored. The process must have promised to gain no privileges.
    """
    known = (1 << _FILE_RIGHTS[min(version(), len(_FILE_RIGHTS)) - 1]) - 1
    ruleset = _create_ruleset(known)
    try:
        for path in read:
            _allow(ruleset, path, _READ & known)
        for path in execute:
            _allow(ruleset, path, (_READ | _EXECUTE) & known)
        for path in write:
            _allow(ruleset, path, (_READ | _WRITE_FILE | _REMOVE_FILE | _MAKE_FILE | _TRUNCATE) & known)
        syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _create_ruleset(file_rights: int) -> int:
    present = version()
    attributes = struct.pack("=Q", file_rights)
    if present >= _NETWORK_VERSION:
        attributes += struct.pack("=Q", _NETWORK_RIGHTS)
    if present >= _SCOPES_VERSION:
        attributes += struct.pack("=Q", _SCOPES)
    return syscall(_CREATE_RULESET, ctypes.create_string_buffer(attributes, len(attributes)), len(attributes), 0)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _RIGHTS_OF_FILES
        rule = struct.pack("=Qi", rights, descriptor)
        syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.create_string_buffer(rule, len(rule)), 0)
    finally:
        os.close(descriptor)
