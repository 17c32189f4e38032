"""CAVIA: a context that the network reads adapts from zero; the network is the same for all tasks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metadqn_jax.checks import require
from metadqn_jax.learners.base import MetaLearner
from metadqn_jax.learners.descent import Subset, descend
from metadqn_jax.learners.rules import made, sgd
from metadqn_jax.td import Loss
from metadqn_jax.types import QNetwork

context_only = Subset(
    pick=lambda policy: jax.tree.map(jnp.zeros_like, policy.context),
    place=lambda policy, context: policy._replace(context=context),
)


def cavia(
    network: QNetwork, *, inner: Loss, outer: Loss, rate: Any, steps: int, rule: Callable = sgd, **choices: Any
) -> MetaLearner:
    """MAML whose inner steps move a context, from zero, by `rule(rate)` (Zintgraf et al. 2019, eqs. 3 and 4).

    Raises `Misuse` if the network reads no context.
    Differs from the paper: Q-learning in place of policy gradients; the support set is data.
    """
    require(
        network.context is not None,
        "CAVIA needs a network that reads a context, got none; build it with mlp(spec, context=8).",
    )
    return descend(network, inner, outer, subset=context_only, rule=made(rule, rate), steps=steps, **choices)
