"""npuc in transformers: `pip install 'npuc[transformers]'`.

Importing this registers attn_implementation="npuc". register: other names, for other backends. collect, Statistics,
LayerStatistics: what served, by layer.
"""

from __future__ import annotations

try:
    import torch
    import transformers
except ModuleNotFoundError as error:
    message = "npuc.transformers needs PyTorch and transformers: pip install 'npuc[transformers]'"
    raise ModuleNotFoundError(message, name=error.name) from error

from npuc.runtime.frameworks.served import LayerStatistics, Statistics, collect
from npuc.runtime.frameworks.transformers_attention import register

__all__ = ["LayerStatistics", "Statistics", "collect", "register"]

register()
