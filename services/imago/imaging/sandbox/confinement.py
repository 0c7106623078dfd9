"""What a child process gives up before it sees untrusted bytes, and which parts of that this machine has.

Every part is a second line for the others: a filter of system calls leaves no way to the network, to other processes or
to a shell; Landlock leaves only the libraries of the file system; another user has no rights to what is left.
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import PIL

from imago.imaging.sandbox import landlock, libc, seccomp

# This package, `imago`.
_PACKAGE = Path(__file__).parents[2]

_SHARED_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
# The usual places of Tesseract's language data, and the number of processors, which thread pools read.
_DATA = ("/usr/share/tesseract-ocr", "/usr/share/tessdata", "/usr/local/share/tessdata", "/sys/devices/system/cpu")
# Whether a user may read all of the paths in the arguments.
_READS_ALL = "import os, sys; sys.exit(not all(os.access(path, os.R_OK) for path in sys.argv[1:]))"
# What commands open in addition.
_DATA_OF_COMMANDS = ("/dev/urandom", "/proc/self", "/etc/localtime")

# A child with all libraries loaded has about ten open files.
_OPEN_FILES = 64
# The largest file that a task writes is a page for OCR of 22 MB.
_FILE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Allowances:
    """What a child keeps: directories that it reads, and for an OCR engine that is a command, its files."""

    readable: Sequence[Path] = ()
    command: Path | None = None
    temporary: Path | None = None
    memory_mb: int | None = None


def missing_parts(readable: Iterable[Path] = ()) -> dict[str, str]:
    """Return the parts that this machine lacks, with what a decoder that was taken over can do without them.

    `readable` are directories of an engine's data, as in `Allowances`.
    """
    missing = {}
    if landlock.version() == 0:
        missing["landlock"] = "without Landlock it can read files of the worker's user"
    if not seccomp.is_available():
        missing["seccomp"] = "without seccomp it can use the network and start programs"
    if os.geteuid() == 0 and not _nobody_can_read(_existing([*_libraries(), *readable, *map(Path, _DATA)])):
        missing["user"] = "as root it has the rights to everything that the other parts leave"
    return missing


def confine(allowed: Allowances) -> None:
    """Give up everything that tasks don't need; call it before the first task. Raises OSError.

    Parts that `missing_parts` names are left out.
    """
    limit_resources(allowed.memory_mb)
    if sys.platform != "linux":
        # Other systems have other means, none of which a process without privileges can use from Python.
        return
    readable = [*_libraries(), *allowed.readable, *map(Path, _DATA)]
    _become_nobody(readable)
    # After the change of the user, which cancels it.
    libc.die_with_parent(signal.SIGKILL)
    libc.hide_memory()
    libc.forbid_new_privileges()
    if landlock.version() > 0:
        _restrict_files(allowed, readable)
    if seccomp.is_available():
        seccomp.restrict(commands=allowed.command is not None)


def _restrict_files(allowed: Allowances, readable: Iterable[Path]) -> None:
    if allowed.command is None or allowed.temporary is None:
        landlock.restrict(read=readable)
    else:
        landlock.restrict(
            read=[*readable, *map(Path, _DATA_OF_COMMANDS)],
            # The dynamic linker is among the shared libraries.
            execute=[allowed.command, *map(Path, _SHARED_LIBRARIES)],
            write=[allowed.temporary, Path("/dev/null")],
        )


def _libraries() -> list[Path]:
    """Return the directories of Python, of installed packages and of this package."""
    # Not all of the import path: in development it has directories with other files.
    python = [entry for entry in sys.path if entry.startswith((sys.prefix, sys.base_prefix))]
    packages = Path(PIL.__file__).parents[1]
    return [*map(Path, python), packages, _PACKAGE, *map(Path, _SHARED_LIBRARIES)]


def _existing(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.exists()]


def _nobody_can_read(paths: Sequence[Path]) -> bool:
    """Return whether this process may start one of the user `nobody`, and whether that one can read all paths."""
    try:
        checked = subprocess.run(  # noqa: S603
            [sys.executable, "-I", "-S", "-c", _READS_ALL, *map(str, paths)],
            user=libc.NOBODY,
            group=libc.NOBODY,
            extra_groups=[],
            env={},
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return False
    return checked.returncode == 0


def _become_nobody(needed: Iterable[Path]) -> None:
    """Change to the user `nobody` if this process may, and if `nobody` can read the libraries."""
    if os.geteuid() != 0:
        return
    existing = _existing(needed)
    with contextlib.suppress(PermissionError):
        os.setgroups([])
        os.setegid(libc.NOBODY)
        os.seteuid(libc.NOBODY)
        readable = all(os.access(path, os.R_OK, effective_ids=True) for path in existing)
        os.seteuid(0)
        os.setegid(0)
        if readable:
            os.setresgid(libc.NOBODY, libc.NOBODY, libc.NOBODY)
            os.setresuid(libc.NOBODY, libc.NOBODY, libc.NOBODY)


def limit_resources(memory_mb: int | None) -> None:
    """Limit memory beyond what the process has now, open files, the size of files, and core dumps."""
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
        resource.RLIMIT_FSIZE: _FILE_BYTES,
    }
    # Other systems don't enforce the limit on memory. There, only the limit on pixels bounds it.
    if memory_mb is not None and sys.platform == "linux":
        present = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limits |= {resource.RLIMIT_AS: present + memory_mb * 2**20, resource.RLIMIT_MEMLOCK: 0}
    for name, limit in limits.items():
        resource.setrlimit(name, (limit, limit))
