"""The proof kit: designs that show whether an NPU does what npuc takes for granted (README.md)."""
