"""`imago client`: the administration of clients over a running API."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imago.cli.options import DATA_OPTION, JSON_OPTION, URL_OPTION, Refused, load_settings

if TYPE_CHECKING:
    from imago.cli.http_client import Target

_PAGE = 200


@click.group()
def client() -> None:
    """Manage clients (tenants); needs the administrator's key."""


@client.command("create")
@click.argument("name")
@click.option("--plan", type=click.Choice(["free", "standard", "premium"]), default="standard", show_default=True)
@click.option("--scope", "scopes", multiple=True, help="A scope; may be given several times. Default: all of a client.")
@URL_OPTION
@DATA_OPTION
def create(name: str, plan: str, scopes: tuple[str, ...], url: str | None, data_dir: Path) -> None:
    """Create a client and print it with its key, which is shown only this once."""
    body: dict[str, Any] = {"name": name, "plan": plan}
    if scopes:
        body["scopes"] = list(scopes)
    _show(_ask(_target(url, data_dir), "POST", "auth/clients", json=body))


@client.command("list")
@JSON_OPTION
@URL_OPTION
@DATA_OPTION
def list_all(as_json: bool, url: str | None, data_dir: Path) -> None:
    """List all clients, deactivated ones too."""
    target = _target(url, data_dir)
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = _ask(target, "GET", "auth/clients", params={"limit": str(_PAGE), **cursor})
        found += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    if as_json:
        _show(found)
        return
    for row in found:
        state = "" if row["active"] else "  (deactivated)"
        click.echo(f"{row['id']:>6}  {row['uuid']}  {row['plan']:<8}  {row['lane']:<8}  {row['name']}{state}")


@client.command("show")
@click.argument("ref")
@URL_OPTION
@DATA_OPTION
def show(ref: str, url: str | None, data_dir: Path) -> None:
    """Show a client, named by its id or uuid, with its usage and its keys."""
    _show(_ask(_target(url, data_dir), "GET", f"auth/clients/{_named(ref)}"))


@client.command("rotate-key")
@click.argument("ref")
@click.option("--grace", default=0, show_default=True, help="Seconds for which the keys of before go on opening.")
@URL_OPTION
@DATA_OPTION
def rotate_key(ref: str, grace: int, url: str | None, data_dir: Path) -> None:
    """Give a client another key and print it, which is shown only this once."""
    path = f"auth/clients/{_named(ref)}/rotate-key"
    _show(_ask(_target(url, data_dir), "POST", path, json={"grace_seconds": grace}))


@client.command("transfer")
@click.argument("ref")
@click.argument("owner")
@URL_OPTION
@DATA_OPTION
def transfer(ref: str, owner: str, url: str | None, data_dir: Path) -> None:
    """Hand a client to another owner of the operator's: <cluster id>/<namespace uid>/<name>."""
    _show(_ask(_target(url, data_dir), "PATCH", f"auth/clients/{_named(ref)}", json={"owner": owner}))


@client.command("deactivate")
@click.argument("ref")
@URL_OPTION
@DATA_OPTION
def deactivate(ref: str, url: str | None, data_dir: Path) -> None:
    """Deactivate a client: its keys open nothing any more, its images stay."""
    _ask(_target(url, data_dir), "DELETE", f"auth/clients/{_named(ref)}")


@client.command("erase")
@click.argument("ref")
@click.confirmation_option(prompt="This deletes all images of the client, for good. Go on?")
@URL_OPTION
@DATA_OPTION
def erase(ref: str, url: str | None, data_dir: Path) -> None:
    """Erase a client with all that is its: rows, objects, thumbnails and messages."""
    _show(_ask(_target(url, data_dir), "DELETE", f"auth/clients/{_named(ref)}", params={"erase": "true"}))


def _target(url: str | None, data_dir: Path) -> "Target":
    from imago.cli.http_client import RemoteError, admin_target

    try:
        return admin_target(url, data_dir, load_settings())
    except RemoteError as error:
        raise Refused(str(error)) from None


def _named(ref: str) -> str:
    if not ref or not all(char.isalnum() or char == "-" for char in ref):
        raise Refused("name the client by its id or its uuid")
    return ref


def _ask(target: "Target", method: str, path: str, **options: Any) -> Any:
    from imago.cli.http_client import RemoteError, answer

    async def ask() -> dict[str, Any]:
        async with target.session() as session:
            return await answer(session, method, path, **options)

    try:
        return asyncio.run(ask())
    except RemoteError as error:
        raise Refused(str(error)) from None


def _show(data: Any) -> None:
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))
