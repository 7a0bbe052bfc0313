"""Translation of core programs to native code (README.md)."""
