"""`python -m npuc.runtime.validation`: the figures of docs/emulator.md, as JSON on standard output."""

from __future__ import annotations

import json
from dataclasses import asdict

from npuc.runtime.validation.figures import figures

if __name__ == "__main__":
    print(json.dumps([asdict(figure) for figure in figures()], indent=1))
