"""npuc in JAX: `pip install 'npuc[jax]'`. attention: as npuc.attention, also inside jax.jit and jax.vmap."""

from __future__ import annotations

try:
    import jax
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("npuc.jax needs JAX: pip install 'npuc[jax]'", name=error.name) from error

from npuc.runtime.frameworks.jax_attention import attention

__all__ = ["attention"]
