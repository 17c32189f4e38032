"""Exact planning in finite MDPs, and in sets of them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from metadqn_jax.checks import check_count, require
from metadqn_jax.types import Array


def value_iteration(transition: Array, reward: Array, horizon: int) -> tuple[Array, Array]:
    """Backward induction over `horizon` undiscounted steps (Puterman 1994, section 4.5).

    transition [S, A, S], mean reward [S, A] -> values [H + 1, S] and policy [H, S] int32, both indexed by the steps
    *taken*: values[0] is the optimal return of a whole episode, values[H] is 0. Raises `Misuse` on a horizon < 0 and on
    tables of other shapes.

    >>> values, policy = value_iteration(jnp.ones((1, 2, 1)), jnp.array([[0.0, 1.0]]), horizon=3)
    >>> float(values[0, 0]), int(policy[0, 0])
    (3.0, 1)
    """
    check_count("horizon", horizon, least=0)
    shapes = np.shape(transition), np.shape(reward)
    require(
        len(shapes[1]) == 2 and shapes[0] == (*shapes[1], shapes[1][0]),
        f"transition and reward must have the shapes [S, A, S] and [S, A], got {list(shapes[0])} and {list(shapes[1])}; "
        "vmap over sets of them.",
    )
    transition, reward = jnp.asarray(transition), jnp.asarray(reward)
    q = action_values(reward, expectation(transition), horizon)
    last = jnp.zeros_like(q[:1, :, 0])
    return jnp.concatenate([q.max(2), last]), q.argmax(2).astype(jnp.int32)


def action_values(reward: Array, expect: Callable[[Array], Array], horizon: int) -> Array:
    """Q [H, S, A] of backward induction, indexed by the steps taken: Q[h] = reward + expect(max_a Q[h + 1]), Q[H] = 0.

    reward: [S, A].   expect: values [S] of successors -> [S, A], what is expected of them, as by `expectation`.
    """

    def back(value, _):
        q = reward + expect(value)
        return q.max(1), q

    return jax.lax.scan(back, jnp.zeros(reward.shape[0]), length=horizon, reverse=True)[1]


def expectation(transition: Array) -> Callable[[Array], Array]:
    """The mean of a value [S] over successors, as [S, A], where `transition` [S, A, S] is known."""
    return lambda value: jnp.matmul(transition, value, precision=jax.lax.Precision.HIGHEST)  # a GPU's default is coarser


def optimistic_expectation(transition: Array, slack: Array) -> Callable[[Array], Array]:
    """The largest mean of a value [S] over all distributions within an L1 distance of `slack` [S, A] of `transition`'s.

    Half the slack goes to the best successor, and is taken from the worst ones (Jaksch et al. 2010, figure 2).

    >>> optimistic_expectation(jnp.array([[[0.5, 0.5]]]), jnp.array([[0.4]]))(jnp.array([0.0, 1.0])).round(4).tolist()
    [[0.699999988079071]]
    """

    def expect(value):
        best_first = jnp.argsort(value, descending=True)
        raised = transition[..., best_first].at[..., 0].add(slack / 2)
        reached = jnp.minimum(jnp.cumsum(raised, -1), 1.0)  # what goes beyond 1 is what the worst lose
        share = jnp.diff(reached, axis=-1, prepend=0.0)
        return expectation(share)(value[best_first])

    return expect
