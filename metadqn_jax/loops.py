"""The one scan: every loop of the house folds its index into one key."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metadqn_jax.types import Key


def repeat(key: Key, length: int, body: Callable, carry: Any) -> tuple[Any, Any]:
    """`carry, out = body(key_i, i, carry)` for i = 0 … length−1, with key_i = fold_in(key, i); outs are stacked."""

    def step(carry, i):
        return body(jax.random.fold_in(key, i), i, carry)

    return jax.lax.scan(step, carry, jnp.arange(length))
