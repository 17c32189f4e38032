"""A recurrent memory."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from metadqn_jax.checks import check_count
from metadqn_jax.memories.base import Memory, at_outputs, blank, features, from_zeros
from metadqn_jax.types import Spec


def gru(spec: Spec, width: int = 128) -> Memory:
    """A gated recurrent unit over the transitions (Cho et al. 2014; the memory of Duan et al. 2016). Raises `Misuse`."""
    check_count("width", width)
    cell = nn.GRUCell(width)

    def init(key):
        return cell.init(key, jnp.zeros(width), features(spec.head, blank(spec)))["params"]

    def begin(params):
        return jnp.zeros(width)

    def advance(params, state, x):
        return cell.apply({"params": params}, state, x)[0]

    def trace(params, stream):
        def step(state, x):
            state = advance(params, state, x)
            return state, state

        xs = jax.vmap(lambda one: features(spec.head, one))(stream)
        return from_zeros(jax.lax.scan(step, begin(params), xs)[1])

    def step(params, state, transition):
        return advance(params, state, features(spec.head, transition))

    return Memory(init, begin, step, lambda params, state, obs: state, trace, at_outputs, (width,))
