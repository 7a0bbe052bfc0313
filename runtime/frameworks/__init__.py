"""npuc where models run: PyTorch, transformers, JAX. Nothing here is imported before one of them is asked for."""
