"""npuc where models run: PyTorch, transformers. Nothing here is imported before one of them is asked for."""
