"""ANIL: only the output layers adapt; the layers below are learned for all tasks."""

from collections.abc import Callable
from typing import Any

from metadqn_jax.checks import require
from metadqn_jax.learners.base import MetaLearner
from metadqn_jax.learners.descent import Policy, Subset, descend
from metadqn_jax.learners.rules import made, sgd
from metadqn_jax.td import Loss
from metadqn_jax.types import QNetwork


def _heads(policy: Policy) -> dict:
    heads = {name: weights for name, weights in policy.network.items() if name.startswith("head")}
    names = ", ".join(policy.network)
    require(bool(heads), f'ANIL needs parameters whose names start with "head", got {names}; name the output layers so.')
    return heads


head_weights = Subset(pick=_heads, place=lambda policy, heads: policy._replace(network={**policy.network, **heads}))


def anil(
    network: QNetwork, *, inner: Loss, outer: Loss, rate: Any, steps: int, rule: Callable = sgd, **choices: Any
) -> MetaLearner:
    """MAML whose inner steps move the head alone (Raghu et al. 2020, section 4), by `rule(rate)`.

    The head is what lies under parameter names that start with "head". Raises `Misuse` if there is none.
    Differs from the paper: Q-learning in place of policy gradients; the support set is data.
    """
    return descend(network, inner, outer, subset=head_weights, rule=made(rule, rate), steps=steps, **choices)
