"""Reptile: the start moves towards where adaptation ends; nothing is differentiated through."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metadqn_jax import trees
from metadqn_jax.derivative import detached
from metadqn_jax.learners.base import MetaLearner
from metadqn_jax.learners.descent import Subset, all_weights, descend, from_current, no_penalty
from metadqn_jax.learners.rules import made, sgd
from metadqn_jax.loops import repeat
from metadqn_jax.td import Loss
from metadqn_jax.types import QNetwork


def reptile(
    network: QNetwork,
    *,
    inner: Loss,
    rate: Any,
    steps: int,
    rule: Callable = sgd,
    subset: Subset = all_weights,
    penalty: Callable = no_penalty,
    bootstrap: Callable = from_current,
) -> MetaLearner:
    """The loss ½‖θ − stop φ‖², whose gradient θ − φ is Reptile's direction (Nichol et al. 2018, algorithm 1).

    φ has adapted by `rule(rate)` on every segment of the lifetime in turn; there is no query. The loss is no measure of
    success: it is small where adaptation moves little. A rule's learnt rates get no gradient.
    Differs from the paper: the direction goes to any optimizer, where the paper takes SGD or Adam; Q-learning, for which
    the paper has none. Raises `Misuse` on `steps` < 1.
    """
    base = descend(
        network,
        inner,
        inner,
        subset=subset,
        rule=made(rule, rate),
        derivative=detached,
        penalty=penalty,
        steps=steps,
        bootstrap=bootstrap,
    )

    def loss(key, slow, lifetime):
        key_begin, key_adapt = jax.random.split(key)
        start = base.begin(key_begin, slow)

        def adapt(key, k, fast):
            return base.adapt(key, slow, fast, jax.tree.map(lambda leaf: leaf[k], lifetime.experience))[0], None

        segments = lifetime.experience.reward.shape[0]
        adapted = repeat(key_adapt, segments, adapt, start)[0]
        square = trees.squared_norm(trees.subtract(start.weights, trees.stop(adapted.weights)))
        return square / 2, {"moved": jnp.sqrt(trees.stop(square))}

    return base._replace(loss=loss)
