"""The `imago` command."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click
import uvloop

from imago import __version__
from imago.cli.clients import client
from imago.cli.errors import CommandError
from imago.cli.options import DATA_OPTION, JSON_OPTION, URL_OPTION
from imago.cli.reprocessing import reprocess
from imago.core.jobs.stages import WORKER_STAGES
from imago.runtime.startup import StartupError, raise_file_limit
from imago.settings import Settings, load_settings


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on uvloop; raise CommandError if the database, the storage or NATS is unavailable."""
    from nats.errors import Error as NatsError

    from imago.db.engine import DatabaseCorrupt, DatabaseUnavailable
    from imago.nats.connection import NatsUnavailable
    from imago.nats.streams import StreamConflict
    from imago.objects.store import StorageUnavailable

    raise_file_limit()
    # Databases, objects and logs are clients' data. Processes that this one starts inherit the mask.
    mask = os.umask(0o077)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)
    except DatabaseCorrupt as error:
        raise CommandError(f"the database is corrupt ({error}); restore it from a backup") from None
    except DatabaseUnavailable as error:
        raise CommandError(f"the database is unavailable ({error})") from None
    except StorageUnavailable as error:
        raise CommandError(f"the object storage is unavailable ({error})") from None
    except (NatsUnavailable, StreamConflict) as error:
        raise CommandError(str(error)) from None
    except NatsError as error:
        raise CommandError(f"NATS is unavailable ({type(error).__name__})") from None
    finally:
        os.umask(mask)


def _default(setting: str) -> object:
    return Settings.model_fields[setting].default


class Commands(click.Group):
    """The commands; one that cannot start says why in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; raise CommandError for a StartupError."""
        try:
            return super().invoke(ctx)
        except StartupError as error:
            raise CommandError(str(error)) from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="imago")
def cli() -> None:
    """Upload images, and read back their camera, their text and what is in them."""


@cli.command()
@click.option("--host", default=None, help=f"Address to listen on.  [default: HOST, or {_default('host')}]")
@click.option(
    "--port",
    default=None,
    type=click.IntRange(0, 65535),
    help=f"Port; 0 for a free one.  [default: PORT, or {_default('port')}]",
)
@click.option(
    "--data-dir",
    default="data",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Directory for the database, files and streams.",
)
@click.option("--verbose", "-v", is_flag=True, help="Show the logs of all processes; LOG_LEVEL=debug does too.")
def dev(host: str | None, port: int | None, data_dir: Path, verbose: bool) -> None:
    """Run all of Imago on this machine, with its own database, storage and NATS server."""
    settings = load_settings()
    from imago.bootstrap.dev import run_dev

    run(run_dev(settings, host=host, port=port, data_dir=data_dir.absolute(), verbose=verbose))


@cli.command()
@click.option("--fd", type=int, default=None, hidden=True, help="An inherited listening socket.")
def api(fd: int | None) -> None:
    """Run the HTTP API."""
    # First, because the metrics library reads one of them when it is imported.
    settings = load_settings()
    from imago.bootstrap.api import run_api

    run(run_api(settings, fd=fd))


@cli.command()
@click.argument("kind", type=click.Choice(sorted(WORKER_STAGES)))
def worker(kind: str) -> None:
    """Run a worker."""
    settings = load_settings()
    from imago.bootstrap.worker import run_worker

    run(run_worker(settings, kind))


@cli.command()
@click.option("--wait", is_flag=True, help="Don't migrate; wait until another process has.")
@click.option("--timeout", default=600.0, show_default=True, help="Longest wait in seconds.")
def migrate(wait: bool, timeout: float) -> None:
    """Migrate the database to this version's schema."""
    settings = load_settings()
    from imago.cli.administration import migrate_database, wait_for_database

    run(wait_for_database(settings, timeout=timeout) if wait else migrate_database(settings))


@cli.command()
def topology() -> None:
    """Create and update the streams and consumers."""
    settings = load_settings()
    from imago.cli.administration import ensure_topology

    run(ensure_topology(settings))


@cli.command()
@DATA_OPTION
def audit(data_dir: Path) -> None:
    """Compare all objects in storage with the database and print the differences; changes nothing.

    Without DATABASE_URL, the data directory of `imago dev` is compared.
    """
    settings = load_settings()
    from imago.cli.administration import audit_storage, stored_settings

    run(audit_storage(stored_settings(settings, data_dir.absolute())))


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--wait", is_flag=True, help="Wait until all stages of each image have ended.")
@click.option("--timeout", default=600.0, show_default=True, help="Longest wait per image in seconds.")
@JSON_OPTION
@URL_OPTION
@DATA_OPTION
def upload(paths: tuple[Path, ...], wait: bool, timeout: float, as_json: bool, url: str | None, data_dir: Path) -> None:
    """Upload files and directories; the exit code is 1 if any file failed."""
    from imago.cli.http_client import client_target
    from imago.cli.uploading import upload_all

    target = client_target(url, data_dir)
    failed = asyncio.run(upload_all(target, paths, wait=wait, timeout=timeout, as_json=as_json))
    sys.exit(1 if failed else 0)


@cli.command()
@click.argument("words", nargs=-1)
@click.option("--tag", default=None, help="Only images with this tag.")
@click.option("--camera", default=None, help="Only images taken with this camera.")
@click.option("--near", default=None, metavar="LAT,LON,KM", help="Only images taken at most so far from a point.")
@click.option("--bbox", default=None, metavar="W,S,E,N", help="Only images taken in a box, in degrees.")
@click.option("--place", default=None, help="Only images of this place or region.")
@click.option("--country", default=None, help="Only images of this country: a code, or a name in English or French.")
@click.option(
    "--sort", default=None, metavar="ORDER", help="created, taken, size or name; -size is the largest first; relevance."
)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200), help="Most images to print.")
@JSON_OPTION
@URL_OPTION
@DATA_OPTION
def search(
    words: tuple[str, ...], limit: int, as_json: bool, url: str | None, data_dir: Path, **filters: str | None
) -> None:
    """Find images by words in their name, text or description, and by place."""
    from imago.cli.http_client import client_target
    from imago.cli.searching import search_images

    query = {"q": " ".join(words), "limit": str(limit), **filters}
    target = client_target(url, data_dir)
    asyncio.run(search_images(target, {key: value for key, value in query.items() if value}, as_json=as_json))


@cli.command()
@click.option("--since", default=None, metavar="EVENT_ID", help="Resume after this event.")
@JSON_OPTION
@URL_OPTION
@DATA_OPTION
def watch(since: str | None, as_json: bool, url: str | None, data_dir: Path) -> None:
    """Print a client's events as they happen, until Ctrl-C."""
    from imago.cli.http_client import client_target
    from imago.cli.watching import watch_events

    target = client_target(url, data_dir)
    try:
        asyncio.run(watch_events(target, since=since, as_json=as_json))
    except KeyboardInterrupt:
        sys.exit(130)


@cli.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--timeout", default=600.0, show_default=True, help="Longest wait per image in seconds.")
@JSON_OPTION
def evaluate(folder: Path, timeout: float, as_json: bool) -> None:
    """Measure how well Imago reads, tags and finds the labelled images in DIR; docs/accuracy.md has the format.

    A temporary instance with the settings of the environment processes them. The exit code is 1 if any image failed.
    """
    settings = load_settings()
    from imago.cli.evaluating.command import evaluate_folder

    complete = asyncio.run(evaluate_folder(settings, folder, as_json=as_json, timeout=timeout))
    sys.exit(0 if complete else 1)


cli.add_command(client)
cli.add_command(reprocess)


def main() -> None:
    """Run the command line."""
    cli(prog_name="imago")


if __name__ == "__main__":
    main()
