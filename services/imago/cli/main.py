"""The `imago` command."""

import asyncio
import sys
from collections.abc import Awaitable
from pathlib import Path

import click
import uvloop

from imago import __version__
from imago.cli.clients import client
from imago.cli.options import DATA_OPTION, JSON_OPTION, URL_OPTION, Refused, load_settings
from imago.core.jobs.stages import WORKER_STAGES


def run(main: Awaitable[None]) -> None:
    """Run a coroutine on uvloop."""

    async def wrapped() -> None:
        await main

    from imago.db.engine import DatabaseUnavailable
    from imago.nats.connection import NatsUnavailable
    from imago.nats.streams import StreamConflict
    from imago.objects.store import StorageUnavailable

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(wrapped())
    except DatabaseUnavailable as error:
        raise Refused(f"the database can't be reached ({error})") from None
    except StorageUnavailable as error:
        raise Refused(f"the storage can't be reached ({error})") from None
    except TimeoutError:
        raise Refused("the database has not the schema that this version needs: run `imago migrate`") from None
    except (NatsUnavailable, StreamConflict, ValueError) as error:
        raise Refused(str(error)) from None


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="imago")
def cli() -> None:
    """Upload images, and read back their camera, their text and what is in them."""


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 for a free one.")
@click.option(
    "--data-dir",
    default="data",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where database, files and streams lie.",
)
def dev(host: str, port: int, data_dir: Path) -> None:
    """Run all of Imago on this machine, on embedded parts."""
    from imago.bootstrap.dev import DevError, run_dev

    try:
        run(run_dev(host=host, port=port, data_dir=data_dir.absolute()))
    except DevError as error:
        raise Refused(str(error)) from None


@cli.command()
@click.option("--fd", type=int, default=None, hidden=True, help="A listening socket that is open already.")
def api(fd: int | None) -> None:
    """Serve the HTTP API."""
    from imago.bootstrap.process import ServeError
    from imago.cli.serve import run_api

    try:
        run(run_api(load_settings(), fd=fd))
    except ServeError as error:
        raise Refused(str(error)) from None


@cli.command()
@click.argument("kind", type=click.Choice(sorted(WORKER_STAGES)))
def worker(kind: str) -> None:
    """Work on the stages of a kind."""
    from imago.bootstrap.process import ServeError
    from imago.cli.work import run_worker

    try:
        run(run_worker(load_settings(), kind))
    except ServeError as error:
        raise Refused(str(error)) from None


@cli.command()
@click.option("--wait", is_flag=True, help="Change nothing: wait until somebody else has brought it there.")
@click.option("--timeout", default=600.0, show_default=True, help="Seconds to wait at most.")
def migrate(wait: bool, timeout: float) -> None:
    """Bring the database to this version's schema."""
    from imago.cli.administration import migrate_database, wait_for_database

    run(wait_for_database(load_settings(), timeout=timeout) if wait else migrate_database(load_settings()))


@cli.command()
def topology() -> None:
    """Create and update the streams and consumers."""
    from imago.cli.administration import ensure_topology

    run(ensure_topology(load_settings()))


@cli.command()
def audit() -> None:
    """Compare all objects in storage with the database, and print how they differ; changes nothing."""
    from imago.cli.administration import audit_storage

    run(audit_storage(load_settings()))


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--wait", is_flag=True, help="Wait until all stages of each image have ended.")
@click.option("--timeout", default=600.0, show_default=True, help="Seconds to wait at most.")
@JSON_OPTION
@URL_OPTION
@DATA_OPTION
def upload(paths: tuple[Path, ...], wait: bool, timeout: float, as_json: bool, url: str | None, data_dir: Path) -> None:
    """Upload files and folders; the exit code is not zero if any failed."""
    from imago.cli.http_client import RemoteError, client_target
    from imago.cli.uploading import upload_all

    try:
        target = client_target(url, data_dir)
        failed = asyncio.run(upload_all(target, paths, wait=wait, timeout=timeout, as_json=as_json))
    except RemoteError as error:
        raise Refused(str(error)) from None
    sys.exit(1 if failed else 0)


@cli.command()
@click.argument("words", nargs=-1)
@click.option("--tag", default=None, help="Only images with this tag.")
@click.option("--camera", default=None, help="Only images of this camera.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200))
@JSON_OPTION
@URL_OPTION
@DATA_OPTION
def search(
    words: tuple[str, ...],
    tag: str | None,
    camera: str | None,
    limit: int,
    as_json: bool,
    url: str | None,
    data_dir: Path,
) -> None:
    """Find images by words of their name, text or description."""
    from imago.cli.http_client import RemoteError, client_target
    from imago.cli.searching import search_images

    query = {"q": " ".join(words), "tag": tag, "camera": camera, "limit": str(limit)}
    try:
        target = client_target(url, data_dir)
        asyncio.run(search_images(target, {key: value for key, value in query.items() if value}, as_json=as_json))
    except RemoteError as error:
        raise Refused(str(error)) from None


@cli.command()
@click.option("--since", default=None, metavar="EVENT_ID", help="Begin behind this event instead of now.")
@JSON_OPTION
@URL_OPTION
@DATA_OPTION
def watch(since: str | None, as_json: bool, url: str | None, data_dir: Path) -> None:
    """Show what happens to a client's images, live, until Ctrl-C."""
    from imago.cli.http_client import RemoteError, client_target
    from imago.cli.watching import watch_events

    try:
        target = client_target(url, data_dir)
        asyncio.run(watch_events(target, since=since, as_json=as_json))
    except RemoteError as error:
        raise Refused(str(error)) from None
    except KeyboardInterrupt:
        sys.exit(130)


cli.add_command(client)


def main() -> None:
    """Run the command line."""
    cli(prog_name="imago")


if __name__ == "__main__":
    main()
