"""Meta-SGD: every weight has an inner rate of its own, which is meta-learned with the start."""

from typing import Any

import jax
import jax.numpy as jnp

from metadqn_jax import trees
from metadqn_jax.checks import check_real
from metadqn_jax.learners.base import MetaLearner
from metadqn_jax.learners.descent import descend
from metadqn_jax.learners.rules import Rule
from metadqn_jax.td import Loss
from metadqn_jax.types import QNetwork


def learnt_sgd(rate: Any, clip: Any = 1.0) -> Rule:
    """weights − rates ∘ gradient with a rate for each weight, all `rate` at first (Li et al. 2017, eq. 2).

    Rates are free to become negative, as in the paper. The gradient is clipped as in `sgd`. Raises `Misuse` if `rate` or
    `clip` is negative.

    >>> learnt_sgd(0.5).rates({"kernel": jnp.zeros(2)})["kernel"].tolist()
    [0.5, 0.5]
    """
    check_real("the inner rate", rate)
    check_real("the inner clip", clip)

    def update(rates, state, step, weights, gradient):
        return trees.subtract(weights, jax.tree.map(jnp.multiply, rates, trees.clip(gradient, clip))), state

    return Rule(
        rates=lambda weights: jax.tree.map(lambda leaf: jnp.full_like(leaf, rate), weights),
        begin=lambda weights: (),
        update=update,
    )


def meta_sgd(network: QNetwork, *, inner: Loss, outer: Loss, rate: Any, steps: int, **choices: Any) -> MetaLearner:
    """MAML that learns the rate of every weight (Li et al. 2017, eqs. 2 and 3); at `rate` for all of them, it is MAML.

    Differs from the paper: Q-learning in place of policy gradients; the support set is data; more than one step; rates
    start equal, not random.
    """
    return descend(network, inner, outer, rule=learnt_sgd(rate), steps=steps, **choices)
