"""Exact planning in finite MDPs."""

import jax
import jax.numpy as jnp

from metadqn_jax.types import Array


def value_iteration(transition: Array, reward: Array, horizon: int) -> tuple[Array, Array]:
    """Backward induction over `horizon` undiscounted steps (Puterman 1994, section 4.5).

    transition [S, A, S], mean reward [S, A] -> values [H + 1, S] and policy [H, S] int32, both indexed by the steps
    *taken*: values[0] is the optimal return of a whole episode, values[H] is 0.

    >>> values, policy = value_iteration(jnp.ones((1, 2, 1)), jnp.array([[0.0, 1.0]]), horizon=3)
    >>> float(values[0, 0]), int(policy[0, 0])
    (3.0, 1)
    """

    def back(value, _):
        q = reward + transition @ value
        best = q.max(1)
        return best, (best, q.argmax(1).astype(jnp.int32))

    last = jnp.zeros(transition.shape[0])
    _, (values, policy) = jax.lax.scan(back, last, length=horizon, reverse=True)
    return jnp.concatenate([values, last[None]]), policy
