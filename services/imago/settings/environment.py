"""The environment of a process, completed from `.env` in the directory where the command is started.

Variables that are set win over those of the file, and an empty variable counts as unset. Names that look like a
misspelt setting are reported, because their values would be ignored.
"""

import os
from collections.abc import Iterable, MutableMapping
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from imago.startup import StartupError

ENV_FILE = Path(".env")

# Variables of the command line, of tests, and of the libraries and tools that share an environment with Imago.
_OTHER_PREFIXES = (
    "IMAGO_",
    "AWS_",
    "OTEL_",
    "OPERATOR_",
    "COMPOSE_",
    "DOCKER_",
    "KUBERNETES_",
    "PYTHON",
    "OMP_",
    "LC_",
)
_OTHER_NAMES = frozenset({"LANG", "PATH", "HOME", "TMPDIR", "TZ", "TESSDATA_PREFIX", "TAG"})


def load_environment(environment: MutableMapping[str, str] | None = None, *, file: Path | None = None) -> None:
    """Add the variables of `.env` that are unset or empty, and remove empty ones; raise StartupError."""
    environment = os.environ if environment is None else environment
    for name, value in read_env_file(file or ENV_FILE).items():
        if not environment.get(name, "").strip():
            environment[name] = value
    for name in [name for name, value in environment.items() if not value.strip()]:
        del environment[name]


def read_env_file(path: Path) -> dict[str, str]:
    """Return the variables of a file that are not empty; none if there is no file. Raises StartupError."""
    if not path.is_file():
        return {}
    try:
        # Editors on Windows begin a file with a byte order mark.
        with path.open(encoding="utf-8-sig") as stream:
            for line in parse_stream(stream):
                if line.error or (line.key is not None and line.value is None):
                    number = line.original.line + line.original.string[: -len(line.original.string.lstrip())].count(
                        "\n"
                    )
                    raise StartupError(f"{path}: line {number} is not NAME=value")
        values = dotenv_values(path, encoding="utf-8-sig")
    except OSError as error:
        raise StartupError(f"cannot read {path}: {error.strerror}") from error
    except ValueError:
        raise StartupError(f"{path} is not UTF-8 text") from None
    for name, value in values.items():
        if "\0" in f"{name}{value}":
            raise StartupError(f"{path}: {name} contains a NUL byte")
    return {name: value for name, value in values.items() if value is not None and value.strip()}


def unknown_names(known: Iterable[str], *, file: Path | None = None) -> list[str]:
    """Return a warning for each variable that is probably a misspelt setting, and each unknown one of `.env`.

    Raises StartupError for a misspelt setting in `.env`, which has no other readers.
    """
    path, settings = file or ENV_FILE, frozenset(name.upper() for name in known)
    listed = read_env_file(path)
    warnings = []
    for name in listed:
        if meant := _misspelt(name, settings):
            raise StartupError(f"{path}: {name} is not a setting; did you mean {meant}?")
        if name.upper() not in settings and not _is_other(name):
            warnings.append(f"{path}: {name} is not a setting of Imago and has no effect")
    for name in os.environ.keys() - listed.keys():
        if meant := _misspelt(name, settings):
            warnings.append(f"the environment variable {name} is not a setting; did you mean {meant}?")
    return warnings


def _misspelt(name: str, settings: frozenset[str]) -> str | None:
    """Return the setting that a name probably means, or None."""
    name = name.upper()
    if name in settings:
        return None
    if name.startswith("IMAGO_") and name.removeprefix("IMAGO_") in settings:
        return name.removeprefix("IMAGO_")
    near = [
        setting for setting in settings if _is_near(name, setting) or (not _is_other(name) and _extends(name, setting))
    ]
    return min(near, key=lambda setting: (_distance(name, setting), setting), default=None)


def _is_other(name: str) -> bool:
    return name.upper() in _OTHER_NAMES or name.upper().startswith(_OTHER_PREFIXES) or name.upper().endswith("_PROXY")


def _is_near(name: str, setting: str) -> bool:
    """Return whether every word of a name is that of the setting with at most one or two slips of the fingers."""
    if abs(len(name) - len(setting)) > 2 or len(set(name) ^ set(setting)) > 4:
        return False
    words = name.split("_"), setting.split("_")
    if len(words[0]) != len(words[1]):
        return _distance(name.replace("_", ""), setting.replace("_", "")) <= 1
    return all(one == two or _distance(one, two) <= (1 if len(two) < 6 else 2) for one, two in zip(*words, strict=True))


def _extends(name: str, setting: str) -> bool:
    """Return whether one name has one word more than the other, of at least two: `S3_ACCESS_KEY_ID`."""
    shorter, longer = sorted((name.split("_"), setting.split("_")), key=len)
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
