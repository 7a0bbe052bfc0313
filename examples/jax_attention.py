"""A compiled JAX function whose attention runs on npuc, one call for a whole vmap.

pip install '.[jax]' && python examples/jax_attention.py [emulator|xrt|reference|auto]
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp

import npuc.jax


def main(backend: str = "emulator") -> int:
    @jax.jit
    @jax.vmap
    def layer(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        """[heads, length, head size] of one sequence."""
        return jnp.tanh(npuc.jax.attention(q, k, v, causal=True, backend=backend, fallback=()))

    keys = jax.random.split(jax.random.key(0), 3)
    q, k, v = (jax.random.normal(key, (2, 4, 24, 32), jnp.bfloat16) for key in keys)
    ours = layer(q, k, v)
    turned = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
    theirs = jnp.tanh(jax.nn.dot_product_attention(*turned, is_causal=True)).transpose(0, 2, 1, 3)
    difference = float(jnp.abs(ours.astype(jnp.float32) - theirs.astype(jnp.float32)).max())
    print(f"largest difference from jax.nn.dot_product_attention: {difference:.2e}")
    return 0 if difference < 2e-2 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
