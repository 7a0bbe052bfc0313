"""The --core option: COLUMN,ROW."""

from __future__ import annotations

import click


class CoreNumber(click.ParamType):
    """`COLUMN,ROW` as two numbers."""

    name = "COL,ROW"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        column, separator, row = str(value).partition(",")
        if not (separator and column.strip().isdecimal() and row.strip().isdecimal()):
            self.fail(f"{value!r} is not COLUMN,ROW, as 0,2", param, ctx)
        return int(column), int(row)
