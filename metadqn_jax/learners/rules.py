"""How weights follow a gradient in the inner loop."""

from collections.abc import Callable
from typing import Any, NamedTuple

from metadqn_jax import trees
from metadqn_jax.checks import check_callable, check_real
from metadqn_jax.types import Info


def _nothing(state: Any) -> Info:
    return {}


class Rule(NamedTuple):
    """How weights follow a gradient.

    rates: (weights) -> meta-learned numbers of the rule, () if none.      begin: (weights) -> the rule's state
    update: (rates, state, step, weights, gradient) -> (weights, state)    report: (state) -> a dict of scalars
    """

    rates: Callable
    begin: Callable
    update: Callable
    report: Callable = _nothing


def sgd(rate: Any, clip: Any = 1.0) -> Rule:
    """weights − rate · gradient, the gradient clipped to a global norm of `clip`. Raises `Misuse` if either is negative."""
    check_real("the inner rate", rate)
    check_real("the inner clip", clip)

    def update(rates, state, step, weights, gradient):
        return trees.subtract(weights, trees.scale(rate, trees.clip(gradient, clip))), state

    return Rule(rates=lambda weights: (), begin=lambda weights: (), update=update)


def nesterov(rate: Any, momentum: Any, clip: Any = 1.0) -> Rule:
    """`sgd` along g + momentum · v, where v ← momentum · v + g (Sutskever et al. 2013, eq. 3). Raises `Misuse` as it does."""
    check_real("the inner rate", rate)
    check_real("the inner clip", clip)
    check_real("the inner momentum", momentum, most=1.0)

    def update(rates, velocity, step, weights, gradient):
        gradient = trees.clip(gradient, clip)
        velocity = trees.add(trees.scale(momentum, velocity), gradient)
        ahead = trees.add(gradient, trees.scale(momentum, velocity))
        return trees.subtract(weights, trees.scale(rate, ahead)), velocity

    return Rule(rates=lambda weights: (), begin=lambda weights: trees.scale(0.0, weights), update=update)


def made(rule: Callable[[Any], Rule], rate: Any) -> Rule:
    """`rule(rate)`. Raises `Misuse` where that is no function of a rate.

    >>> made(sgd, 0.5).begin(None)
    ()
    """
    check_callable("rule", rule, "rate", "give what makes one of a rate, such as sgd")
    return rule(rate)
