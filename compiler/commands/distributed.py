"""The two options by which commands give their work to other processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def distributed(command: F) -> F:
    """Adds --workers and --scheduler."""
    command = click.option(
        "--scheduler", metavar="ADDRESS", help="Work on a Dask cluster (extra `cluster`), by its scheduler's address."
    )(command)
    return click.option(
        "--workers", type=click.IntRange(1, 512), default=1, show_default=True, help="Work on so many processes."
    )(command)
