"""npuc version."""

from __future__ import annotations

import click

from npuc import __version__


@click.command("version")
def command() -> None:
    """Print the version."""
    click.echo(f"npuc {__version__}")
