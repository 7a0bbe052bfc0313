"""What a caller may choose about one compilation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Options:
    """columns: how many array columns to use (1..4), None: the planner's choice.
    precision: 'bf16' or 'int8', None: what the source says.
    options: named choices of single passes; a key no pass knows is the pipeline's UsageError.
    print_ir_after: called with (pass name, text of its result) after each pass.
    """

    columns: int | None = None
    precision: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    print_ir_after: Callable[[str, str], None] | None = None
