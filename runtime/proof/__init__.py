"""The proof kit: designs that an owner of an NPU runs to see whether it does what npuc takes for granted (README.md)."""
