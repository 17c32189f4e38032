"""MAML++: rates for each layer and inner step, and an outer loss on every inner step while training is young."""

from typing import Any

import jax
import jax.numpy as jnp

from metadqn_jax import trees
from metadqn_jax.checks import check_count, check_real
from metadqn_jax.learners.base import MetaLearner, annealed
from metadqn_jax.learners.descent import descend
from metadqn_jax.learners.rules import Rule
from metadqn_jax.td import Loss
from metadqn_jax.types import QNetwork


def layer_step_sgd(rate: Any, count: int, clip: Any = 1.0) -> Rule:
    """weights − rates[step] · gradient, with [count] rates for each leaf of the weights (Antoniou et al. 2019, section 4).

    All rates are `rate` at first, and free to become negative; steps beyond `count` use the last. The gradient is clipped
    as in `sgd`. Raises `Misuse` on `count` < 1, or a negative `rate` or `clip`.

    >>> layer_step_sgd(0.5, count=2).rates({"kernel": jnp.zeros((3, 4))})["kernel"].tolist()
    [0.5, 0.5]
    """
    check_real("the inner rate", rate)
    check_real("the inner clip", clip)
    check_count("count", count)

    def update(rates, state, step, weights, gradient):
        now = jnp.minimum(step, count - 1)
        change = jax.tree.map(lambda rate, leaf: rate[now] * leaf, rates, trees.clip(gradient, clip))
        return trees.subtract(weights, change), state

    return Rule(
        rates=lambda weights: jax.tree.map(lambda leaf: jnp.full(count, rate, leaf.dtype), weights),
        begin=lambda weights: (),
        update=update,
    )


def maml_plus_plus(
    network: QNetwork, *, inner: Loss, outer: Loss, rate: Any, steps: int, count: int, over: Any, **choices: Any
) -> MetaLearner:
    """MAML with `layer_step_sgd` and the multi-step loss `annealed(over)` (Antoniou et al. 2019, section 4).

    count: inner steps in one lifetime's training, `steps` after each of its K − 1 support segments, for each of which
    every layer has a rate.   over: outer steps until only the last inner step counts, as in MAML. Raises `Misuse`.
    Differs from the paper: the derivative is of second order from the start, not annealed to it; no batch normalisation,
    hence none by step; cosine annealing of the outer rate is left to the optimizer. Q-learning.
    """
    rule, measure = layer_step_sgd(rate, count), annealed(over)
    return descend(network, inner, outer, rule=rule, measure=measure, steps=steps, **choices)
