"""Learners that adapt by gradient steps on a TD loss: subset × rule × derivative × measure (× penalty)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from metadqn_jax import trees
from metadqn_jax.checks import check_callable, check_count, check_real, check_type
from metadqn_jax.derivative import first_order, gradient_of, unrolled
from metadqn_jax.learners.base import MetaLearner, after, forget, td_loss
from metadqn_jax.learners.rules import Rule, sgd
from metadqn_jax.td import Loss
from metadqn_jax.types import Array, Params, QNetwork, Slow, Transition


class Policy(NamedTuple):
    """All that a Q-network reads besides the observation; `context` is a vector, or None."""

    network: Params
    context: Any


class Learnt(NamedTuple):
    """A descent's slow parameters: where adaptation starts, and what its rule has learned (its rates)."""

    start: Policy
    rates: Any


class Descending(NamedTuple):
    """A descent's fast state: the moving weights, the rule's state, and the number of steps taken so far (int32 [])."""

    weights: Any
    rule: Any
    steps: Array


class Subset(NamedTuple):
    """Which weights move. pick: (policy) -> weights to start from;  place: (policy, weights) -> policy."""

    pick: Callable[[Policy], Any]
    place: Callable[[Policy, Any], Policy]


all_weights = Subset(pick=lambda policy: policy.network, place=lambda policy, weights: policy._replace(network=weights))


# --- the penalty on weights that leave the start: (weights, start_weights) -> scalar, added to the inner loss


def no_penalty(weights: Any, start_weights: Any) -> Any:
    """None: the inner loss is the TD loss alone."""
    return 0.0


def proximal(strength: Any) -> Callable:
    """strength/2 ‖weights − start‖² (Rajeswaran et al. 2019, eq. 3). Raises `Misuse` if `strength` is negative.

    >>> float(proximal(2.0)(jnp.array([3.0, 4.0]), jnp.zeros(2)))
    25.0
    """
    check_real("the penalty's strength", strength)
    return lambda weights, start: strength / 2 * trees.squared_norm(trees.subtract(weights, start))


# --- the inner bootstrap: (current, start, target) -> the policy that values the successor; all three are policies:
# current, the one being adapted; start, the meta-parameters; target, the target network


def from_current(current: Policy, start: Policy, target: Policy) -> Policy:
    """The adapting network itself; the gradient step does not differentiate it, the outer derivative does."""
    return current


def from_start(current: Policy, start: Policy, target: Policy) -> Policy:
    """The meta-parameters: all steps regress to one frozen network; the outer derivative flows through it."""
    return start


def from_stopped(current: Policy, start: Policy, target: Policy) -> Policy:
    """The adapting network, a constant for the outer derivative too."""
    return trees.stop(current)


def from_target(current: Policy, start: Policy, target: Policy) -> Policy:
    """The target network, not adapted; a constant."""
    return trees.stop(target)


# --- the outer target: (adapted, shadow, target) -> the policy that the outer loss bootstraps from, always a constant


def shadow_target(adapted: Policy, shadow: Policy, target: Policy) -> Policy:
    """The target network adapted by the same rule on the same support."""
    return shadow


def plain_target(adapted: Policy, shadow: Policy, target: Policy) -> Policy:
    """The target network as it is."""
    return target


def own_target(adapted: Policy, shadow: Policy, target: Policy) -> Policy:
    """The adapted network itself."""
    return adapted


def descend(
    network: QNetwork,
    inner: Loss,
    outer: Loss,
    *,
    subset: Subset = all_weights,
    rule: Rule,
    derivative: Callable = unrolled,
    measure: Callable = after,
    penalty: Callable = no_penalty,
    steps: int,
    bootstrap: Callable = from_current,
    target: Callable = shadow_target,
) -> MetaLearner:
    """Adapt by `steps` gradient steps of `rule` on the `inner` TD loss of each segment; learn by the `outer` one.

    With φ the weights of `subset` in θ = slow.params:  φ ← rule(φ, ∂₁ (L_inner(φ, w) + `penalty`(φ, θ))) with w =
    `bootstrap`, and the outer loss is L_outer(φ_K, stop w′) on what `measure` says, with w′ = `target`. Support and query
    data count as fixed samples, though ε-greedy made them depend on θ. The infos are {"moved": ‖φ_K − θ‖} (of `adapt`: by
    this segment) and the rule's report. Raises `Misuse` on `steps` < 1.
    """
    check_count("steps", steps)
    check_type("the network", network, QNetwork, "make one with networks.mlp(spec), say")
    check_type("the subset", subset, Subset, "take all_weights, say")
    check_type("the rule", rule, Rule, "make one with sgd(rate), say")
    for name, part, takes in (
        ("inner", inner, "views, transitions"),
        ("outer", outer, "views, transitions"),
        ("derivative", derivative, "gradient, update, steps"),
        ("penalty", penalty, "weights, start"),
        ("bootstrap", bootstrap, "current, start, target"),
        ("target", target, "adapted, shadow, target"),
    ):
        check_callable(name, part, takes)

    def inner_loss(weights, given, segment):
        start, bootstrap_from = given
        loss = td_loss(inner, network, subset.place(start, weights), bootstrap_from, segment)
        return loss + penalty(weights, subset.pick(start))

    inner_gradient = gradient_of(inner_loss)

    def gradient(fast, given):
        learnt, target_policy, segment = given
        current = subset.place(learnt.start, fast.weights)
        bootstrap_from = bootstrap(current, learnt.start, target_policy)
        return inner_gradient(fast.weights, (learnt.start, bootstrap_from), segment)

    def update(fast, given, g):
        learnt, _, _ = given
        weights, state = rule.update(learnt.rates, fast.rule, fast.steps, fast.weights, g)
        return Descending(weights, state, fast.steps + 1)

    solve = derivative(gradient, update, steps)

    def start_from(learnt):
        weights = subset.pick(learnt.start)
        return Descending(weights, rule.begin(weights), jnp.zeros((), jnp.int32))

    def report(fast, start_weights):
        moved = jnp.sqrt(trees.squared_norm(trees.stop(trees.subtract(fast.weights, start_weights))))
        return {"moved": moved, **trees.stop(rule.report(fast.rule))}

    def init(key):
        start = Policy(network.init(key), None if network.context is None else jnp.zeros(network.context))
        return Learnt(start, rule.rates(subset.pick(start))), ()

    def q(slow, fast, obs):
        policy = subset.place(slow.params.start, fast.weights)
        return network.apply(policy.network, obs, policy.context)

    def adapt(key, slow, fast, segment):
        adapted, _ = solve(fast, (slow.params, slow.target.start, segment))
        return adapted, report(adapted, fast.weights)

    def loss(key, slow: Slow, lifetime):
        online, shadow = slow.params, trees.stop(slow.target)

        def advance(pair, segment):
            fast, shade = pair
            fast, iterates = solve(fast, (online, shadow.start, segment))
            shade, shades = solve(shade, (shadow, shadow.start, segment))
            return (fast, shade), (iterates, shades)

        def score(pair, segment: Transition):
            fast, shade = pair
            adapted = subset.place(online.start, fast.weights)
            bootstrap_from = target(adapted, subset.place(shadow.start, shade.weights), shadow.start)
            value = td_loss(outer, network, adapted, trees.stop(bootstrap_from), segment)
            return value, report(fast, subset.pick(online.start))

        pair = start_from(online), start_from(shadow)
        return measure(pair, advance, score, lifetime.experience, slow.step)

    return MetaLearner(init, lambda key, slow: start_from(slow.params), q, adapt, loss, forget)


def maml(network: QNetwork, *, inner: Loss, outer: Loss, rate: Any, steps: int, **choices: Any) -> MetaLearner:
    """MAML on TD losses (Finn et al. 2017, eq. 1 and algorithm 3): one for the inner steps, one for the outer.

    Differs from the paper: Q-learning in place of policy gradients; the support set is data.
    """
    return descend(network, inner, outer, rule=sgd(rate), derivative=unrolled, measure=after, steps=steps, **choices)


def fomaml(network: QNetwork, *, inner: Loss, outer: Loss, rate: Any, steps: int, **choices: Any) -> MetaLearner:
    """First-order MAML on TD losses (Finn et al. 2017, section 5.2): one for the inner steps, one for the outer.

    Differs from the paper: Q-learning in place of policy gradients; the support set is data.
    """
    return descend(network, inner, outer, rule=sgd(rate), derivative=first_order, measure=after, steps=steps, **choices)
