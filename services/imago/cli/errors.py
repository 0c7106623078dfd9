"""How commands report errors."""

import click


class CommandError(click.ClickException):
    """A command failed for a reason the user can act on: one line on stderr, exit code 1."""

    def show(self, file: object = None) -> None:
        """Print the line."""
        del file
        click.echo(f"imago: {self.message}", err=True)
