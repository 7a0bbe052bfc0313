"""From MLIR to the plain description of one attention."""

from npuc.compiler.frontend.attention import Argument, Attention
from npuc.compiler.frontend.load import load, load_file
from npuc.compiler.frontend.print_attn import to_attn_module

__all__ = ["Argument", "Attention", "load", "load_file", "to_attn_module"]
