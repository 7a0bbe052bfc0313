"""From MLIR to the plain description of one attention."""

from npuc.compiler.frontend.attention import Argument, Attention
from npuc.compiler.frontend.load import Recognised, load, load_file, recognise
from npuc.compiler.frontend.print_attn import to_attn_module

__all__ = ["Argument", "Attention", "Recognised", "load", "load_file", "recognise", "to_attn_module"]
