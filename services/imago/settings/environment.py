"""The environment of a process, completed from `.env` in the directory where the command is started.

Variables that are set win over those of the file, and an empty setting counts as unset. Names that look like a misspelt
setting are reported, because their values would be ignored.
"""

import os
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from imago.runtime.startup import StartupError

ENV_FILE = Path(".env")

# Variables of libraries and of the operator, which are taken from `.env` like settings.
_LIBRARY_PREFIXES = ("AWS_", "OTEL_", "OPERATOR_")
_LIBRARY_NAMES = frozenset({"TESSDATA_PREFIX"})
_PROXY = "_PROXY"

# Variables of tools that read the same `.env`.
_TOOL_PREFIXES = ("COMPOSE_", "DOCKER_", "KUBERNETES_")
_TOOL_NAMES = frozenset({"TAG"})

# Variables of the command line, of tests and of the system, which only the environment can set: a directory's `.env`
# must not change where a user's key is sent, or which libraries are loaded.
_OTHER_PREFIXES = ("IMAGO_", "PYTHON", "OMP_", "LC_")
_OTHER_NAMES = frozenset({"LANG", "PATH", "HOME", "TMPDIR", "TZ"})


def load_environment(
    names: Iterable[str], environment: MutableMapping[str, str] | None = None, *, file: Path | None = None
) -> None:
    """Complete an environment from `.env`: the settings `names` and libraries' variables that are unset or empty.

    Settings that are empty in both are removed. Raises StartupError.
    """
    environment = os.environ if environment is None else environment
    settings = frozenset(name.upper() for name in names)
    for name in [name for name, value in environment.items() if name.upper() in settings and not value.strip()]:
        del environment[name]
    present = {name.upper() for name, value in environment.items() if value.strip()}
    for name, value in read_env_file(file or ENV_FILE).items():
        # The names of settings may have small letters.
        if name.upper() not in present and (name.upper() in settings or _is_of_library(name)):
            environment[name] = value


def read_env_file(path: Path) -> dict[str, str]:
    """Return the variables of a file that are not empty; none if there is no file. Raises StartupError."""
    if not path.is_file():
        return {}
    try:
        # Editors on Windows begin a file with a byte order mark.
        with path.open(encoding="utf-8-sig") as stream:
            values = dict(_variable(path, line) for line in parse_stream(stream) if line.error or line.key is not None)
    except OSError as error:
        raise StartupError(f"cannot read {path}: {error.strerror}") from error
    except ValueError:
        raise StartupError(f"{path} is not UTF-8 text") from None
    return {name: value for name, value in values.items() if value.strip()}


def _variable(path: Path, line: Binding) -> tuple[str, str]:
    if line.key is None or line.value is None:
        text = line.original.string
        number = line.original.line + text[: -len(text.lstrip())].count("\n")
        raise StartupError(f"{path}: line {number} is not NAME=value")
    if "\0" in line.key + line.value:
        raise StartupError(f"{path}: {line.key} contains a NUL byte")
    return line.key, line.value


def unknown_names(known: Iterable[str], *, file: Path | None = None) -> list[str]:
    """Return a warning for each variable that is probably a misspelt setting, and each unknown one of `.env`.

    Raises StartupError for a misspelt setting in `.env`, which has no other readers.
    """
    path, settings = file or ENV_FILE, {name.upper(): name.upper().split("_") for name in known}
    listed = read_env_file(path)
    warnings = []
    for name in listed:
        if meant := _misspelt(name, settings):
            raise StartupError(f"{path}: {name} is not a setting; did you mean {meant}?")
        if name.upper() not in settings and not _is_of_library(name) and not _is_of_tool(name):
            warnings.append(f"{path}: {name} is not a setting of Imago and has no effect")
    for name in sorted(os.environ.keys() - listed.keys()):
        if meant := _misspelt(name, settings):
            warnings.append(f"the environment variable {name} is not a setting; did you mean {meant}?")
    return warnings


def _misspelt(name: str, settings: Mapping[str, Sequence[str]]) -> str | None:
    """Return the setting that a name probably means, or None. `settings` are their words by their names."""
    name = name.upper()
    if name in settings:
        return None
    if name.startswith("IMAGO_") and name.removeprefix("IMAGO_") in settings:
        return name.removeprefix("IMAGO_")
    words, letters, other = name.split("_"), set(name), _is_other(name)
    near = [
        setting
        for setting, meant in settings.items()
        if (abs(len(name) - len(setting)) <= 2 and len(letters ^ set(setting)) <= 4 and _is_near(words, meant))
        or (not other and _extends(words, meant))
    ]
    return min(near, key=lambda setting: (_distance(name, setting), setting), default=None)


def _is_of_library(name: str) -> bool:
    name = name.upper()
    return name in _LIBRARY_NAMES or name.startswith(_LIBRARY_PREFIXES) or name.endswith(_PROXY)


def _is_of_tool(name: str) -> bool:
    return name.upper() in _TOOL_NAMES or name.upper().startswith(_TOOL_PREFIXES)


def _is_other(name: str) -> bool:
    """Return whether a variable is of another program or of the command line."""
    return (
        _is_of_library(name)
        or _is_of_tool(name)
        or name.upper() in _OTHER_NAMES
        or name.upper().startswith(_OTHER_PREFIXES)
    )


def _is_near(words: Sequence[str], meant: Sequence[str]) -> bool:
    """Return whether every word of a name is that of the setting with at most one or two slips of the fingers."""
    if len(words) != len(meant):
        return _distance("".join(words), "".join(meant)) <= 1
    return all(
        one == two or (abs(len(one) - len(two)) <= 2 and _distance(one, two) <= (1 if len(two) < 6 else 2))
        for one, two in zip(words, meant, strict=True)
    )


def _extends(words: Sequence[str], meant: Sequence[str]) -> bool:
    """Return whether one name has one word more than the other, of at least two: `S3_ACCESS_KEY_ID`."""
    if abs(len(words) - len(meant)) != 1 or words[0] != meant[0]:
        return False
    shorter, longer = sorted((words, meant), key=len)
    return len(shorter) > 1 and longer[:-1] == shorter


def _distance(one: str, two: str) -> int:
    """Return the number of letters to insert, delete, replace or swap with their neighbour to get from one to two."""
    rows = [list(range(len(two) + 1))]
    for i, letter in enumerate(one, 1):
        row = [i]
        for j, other in enumerate(two, 1):
            cost = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (letter != other))
            if i > 1 and j > 1 and (letter, one[i - 2]) == (two[j - 2], other):
                cost = min(cost, rows[-2][j - 2] + 1)
            row.append(cost)
        rows.append(row)
    return rows[-1][-1]
