"""The settings of `imago dev`: those of the environment, its own defaults, and the parts that it runs itself."""

import os
from collections.abc import Mapping
from pathlib import Path

from imago.nats.embedded import EmbeddedNats
from imago.runtime.startup import StartupError
from imago.settings import Settings

# Ctrl-C should take at most 10 s: this leaves time for NATS to stop.
DRAIN_SECONDS = 4

# Settings of the parts that `imago dev` runs itself, and what to do instead of setting them.
_EMBEDDED: Mapping[str, str] = {
    **dict.fromkeys(("database_url", "database_runtime_role"), "keeps its own database in --data-dir"),
    **dict.fromkeys(
        (name for name in Settings.model_fields if name.startswith("nats_") and name != "nats_timeout"),
        "runs its own NATS server",
    ),
    "prometheus_multiproc_dir": "manages this directory",
}


def check_settings(settings: Settings) -> None:
    """Raise StartupError for a setting that `imago dev` would have to ignore."""
    for name, reason in _EMBEDDED.items():
        if getattr(settings, name) != Settings.model_fields[name].default:
            raise StartupError(
                f"{name.upper()}: `imago dev` {reason}; unset it, or run `imago api` and `imago worker` instead"
            )


def environment_of(
    data_dir: Path, *, nats: EmbeddedNats, metrics_dir: Path, secrets: Mapping[str, str], settings: Settings
) -> dict[str, str]:
    """Return the environment of all processes: variables that are set win over defaults, embedded parts over both."""
    defaults = {
        "WORKER_LANES": "premium,standard,*",
        "SHUTDOWN_TIMEOUT": str(DRAIN_SECONDS),
        # NATS loses negative acknowledgements when it restarts: such jobs wait for the ack timeout, three heartbeats.
        "HEARTBEAT": "3",
        **secrets,
    }
    embedded = {
        "DATABASE_URL": f"sqlite+aiosqlite:///{data_dir / 'imago.db'}",
        "STORAGE_DIR": str(_storage_dir(data_dir, settings)),
        "NATS_URL": nats.url,
        "NATS_USER": nats.user,
        "NATS_PASSWORD": nats.password,
        "PROMETHEUS_MULTIPROC_DIR": str(metrics_dir),
    }
    return {**defaults, **os.environ, **embedded}


def stored_environment(data_dir: Path, secrets: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return the settings of the database and the storage in a data directory, for commands that need no NATS."""
    return {
        "DATABASE_URL": f"sqlite+aiosqlite:///{data_dir / 'imago.db'}",
        "STORAGE_DIR": str(_storage_dir(data_dir, settings)),
        "SIGNED_URL_SECRET": secrets["SIGNED_URL_SECRET"],
    }


def _storage_dir(data_dir: Path, settings: Settings) -> Path:
    if settings.storage_dir == Settings.model_fields["storage_dir"].default:
        return data_dir / "objects"
    return settings.storage_dir.absolute()
