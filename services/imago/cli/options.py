"""What the commands share: options, the settings, and how they refuse."""

from pathlib import Path

import click
from pydantic import ValidationError

from imago.settings import Settings

URL_OPTION = click.option("--url", envvar="IMAGO_URL", default=None, help="Where the API is.  [env: IMAGO_URL]")
DATA_OPTION = click.option(
    "--data-dir",
    default="data",
    type=click.Path(path_type=Path),
    help="Of a running `imago dev`, to find its URL and key in.",
)
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


class Refused(click.ClickException):
    """Something a person has to put right: one line, exit code 1."""

    def show(self, file: object = None) -> None:
        """Print the line."""
        del file
        click.echo(f"imago: {self.message}", err=True)


def load_settings() -> Settings:
    """Read the settings from the environment; raise Refused with the variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise Refused(f"{name + ': ' if name else ''}{first['msg'].removeprefix('Value error, ')}") from None
