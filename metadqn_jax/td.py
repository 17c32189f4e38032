"""Temporal-difference losses over one stream: select × target × regression.

    loss = temporal_difference(head, select=double, target=lambda_return(0.95, 0.8), regression=huber(1.0))
    loss(views, transitions) -> losses [T]

*select* says what the successor is worth, *target* how rewards and those values become a return, *regression* how
Q(s, a) is drawn to it. Nothing here stops a gradient: whoever makes the views decides what is differentiated.
A new loss is one function of one of the three kinds.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metadqn_jax import trees
from metadqn_jax.checks import check_callable, check_count, check_real, is_traced, require
from metadqn_jax.types import ActionHead, Array, Outputs, Transition, check_head


class Views(NamedTuple):
    """A network's outputs along one stream, each with a leading [T].

    now: of the weights being moved, at obs — what is regressed.      next: the same weights at next_obs — only to choose.
    bootstrap_now, bootstrap_next: of the bootstrap weights. What a loss does not read is never computed under jit.
    """

    now: Outputs
    next: Outputs
    bootstrap_now: Outputs
    bootstrap_next: Outputs


Loss = Callable[[Views, Transition], Array]  # (views [T], transitions [T]) -> losses [T]


def temporal_difference(
    head: ActionHead, *, select: Callable, target: Callable, regression: Callable, reward_scale: Any = 1.0
) -> Loss:
    """The loss of regressing Q(s_t, a_t) to a return, for each step of one stream.

    `reward_scale` multiplies rewards before anything else, so that returns are of order 1. Raises `Misuse` when the
    head cannot give what a part needs (logits, probabilities).

    >>> from metadqn_jax.actions import discrete
    >>> loss = temporal_difference(discrete(2), select=greedy, target=one_step(0.9), regression=squared)
    """
    check_head(head)
    check_real("reward_scale", reward_scale)
    check_callable("select", select, "head")
    check_callable("target", target, "rewards, values, terminated, truncated")
    check_callable("regression", regression, "head")
    choose, regress = select(head), regression(head)

    def loss(views: Views, stream: Transition) -> Array:
        bonus, value = jax.vmap(choose)(views, stream.action)
        goal = target(reward_scale * stream.reward + bonus, value, stream.terminated, stream.truncated)
        return jax.vmap(regress)(views.now, stream.action, goal)

    return loss


# --- select: (head) -> (views, action) -> (bonus [], value []), for one transition: a reward bonus, the successor's worth


def greedy(head: ActionHead) -> Callable:
    """max_a Q_w(s′, a) (Watkins 1989; Mnih et al. 2015)."""
    return lambda views, action: (0.0, head.maximum(views.bootstrap_next))


def double(head: ActionHead) -> Callable:
    """Q_w(s′, argmax_a Q(s′, a)): chosen by the moving weights, valued by the bootstrap's (van Hasselt et al. 2016, eq. 4)."""

    def choose(views, action):
        best = jax.lax.stop_gradient(head.greedy(views.next))
        return 0.0, head.value(views.bootstrap_next, best)

    return choose


def expected_sarsa(temperature: Any) -> Callable:
    """Σ_a π(a|s′) Q_w(s′, a) with π = softmax(Q_w / temperature) (van Seijen et al. 2009, eq. 5). Raises `Misuse`."""
    check_real("temperature", temperature, least=1e-8)

    def select(head):
        _needs("expected SARSA", "action probabilities", head.policy)

        def choose(views, action):
            probabilities = head.policy(views.bootstrap_next, temperature)
            return 0.0, jnp.sum(probabilities * head.values(views.bootstrap_next))

        return choose

    return select


def munchausen(temperature: Any = 0.03, weight: Any = 0.9, floor: Any = -1.0) -> Callable:
    """Soft value of the successor plus the scaled log-policy of the action taken (Vieillard et al. 2020, eq. 2).

    bonus = weight · clip(τ log π(a|s), floor, 0); value = Σ_a π(a|s′)(Q_w(s′, a) − τ log π(a|s′)). Raises `Misuse`.
    """
    check_real("temperature", temperature, least=1e-8)
    check_real("weight", weight, most=1.0)
    check_real("floor", floor, least=-math.inf, most=0.0)

    def select(head):
        _needs("Munchausen", "action probabilities", head.policy)

        def scaled_log_policy(outputs):  # τ log π: a log-softmax, for which a policy's underflow does not matter
            values = head.values(outputs)
            return values - temperature * jax.nn.logsumexp(values / temperature)

        def choose(views, action):
            now, following = views.bootstrap_now, views.bootstrap_next
            chosen = head.value(now, action) - temperature * jax.nn.logsumexp(head.values(now) / temperature)
            soft = head.values(following) - scaled_log_policy(following)
            return weight * jnp.clip(chosen, floor, 0.0), jnp.sum(head.policy(following, temperature) * soft)

        return choose

    return select


# --- target: (reward [T], value [T], terminated [T], truncated [T]) -> returns [T]


def one_step(discount: Any) -> Callable:
    """r_t + γ (1 − terminated_t) v_{t+1}: the TD(0) target."""
    return n_step(discount, 1)


def n_step(discount: Any, steps: int) -> Callable:
    """The sum of up to `steps` discounted rewards and a bootstrap, cut short where the episode or the stream ends.

    G¹_t = r_t + γ c_t v_{t+1};  Gⁿ_t = r_t + γ c_t (v_{t+1} if the stream is cut after t else Gⁿ⁻¹_{t+1}), c = 1 − terminated
    (Sutton & Barto 2018, eq. 7.1). Raises `Misuse`.
    """
    check_real("discount", discount, most=1.0)
    check_count("n-step's steps", steps)
    if _no_discount(discount):
        return _reward_alone

    def returns(reward, value, terminated, truncated):
        following = value
        for _ in range(steps):
            result = reward + discount * jnp.where(terminated, 0, following)
            following = jnp.where(_cut(terminated, truncated), value, jnp.roll(result, -1))
        return result

    return returns


def lambda_return(discount: Any, trace: Any) -> Callable:
    """G_t = r_t + γ c_t ((1 − l_t) v_{t+1} + l_t G_{t+1}) with c = 1 − terminated and l = trace, 0 where the stream is cut.

    Peng's Q(λ) with a greedy value; cut rows, the last included, bootstrap fully (Peng & Williams 1996). Raises `Misuse`.
    """
    check_real("discount", discount, most=1.0)
    check_real("trace", trace, most=1.0)
    if _no_discount(discount):
        return _reward_alone

    def returns(reward, value, terminated, truncated):
        link = jnp.where(_cut(terminated, truncated), 0.0, trace)

        def back(following, row):
            r, v, ends, l = row
            result = r + discount * jnp.where(ends, 0, (1 - l) * v + l * following)
            return result, result

        rows = (reward, value, terminated, link)
        last, _ = jax.eval_shape(back, value[-1], trees.first(rows))  # a return's type: a value's need not be a reward's
        return jax.lax.scan(back, trees.zeros(last), rows, reverse=True)[1]

    return returns


def _no_discount(discount: Any) -> bool:
    return not is_traced(discount) and discount == 0


def _reward_alone(reward: Array, value: Array, terminated: Array, truncated: Array) -> Array:
    """The return where the discount is 0: as no value is read, no bootstrap network is evaluated or adapted under jit."""
    return reward


def _cut(terminated: Array, truncated: Array) -> Array:
    """Where the next row does not continue this one: after an episode's end, and at the stream's."""
    last = jnp.arange(terminated.shape[0]) == terminated.shape[0] - 1
    return terminated | truncated | last


# --- regression: (head) -> (outputs, action, target) -> loss [], for one transition


def squared(head: ActionHead) -> Callable:
    """½ (Q(s, a) − G)²."""
    return lambda outputs, action, goal: 0.5 * (head.value(outputs, action) - goal) ** 2


def huber(threshold: Any = 1.0) -> Callable:
    """½ e² for |e| ≤ threshold, and linear beyond (Mnih et al. 2015, error clipping). Raises `Misuse`."""
    check_real("huber's threshold", threshold, least=1e-8)

    def regression(head):
        def regress(outputs, action, goal):
            error = head.value(outputs, action) - goal
            inside = jnp.clip(error, -threshold, threshold)
            return inside * (error - 0.5 * inside)

        return regress

    return regression


def hl_gauss(spread: Any = 0.75) -> Callable:
    """Cross-entropy to a Gaussian around G, `spread` bins wide, integrated over each bin of the head's support.

    Farebrother et al. 2024, section 3.1 (HL-Gauss); `spread` is the standard deviation; targets beyond the support
    count as its border. Raises `Misuse`.
    """
    check_real("hl_gauss's spread", spread, least=1e-3)

    def regression(head):
        _needs("HL-Gauss", "logits over bins; build it with a Support", head.logits)
        low, high, bins = head.support
        width = (high - low) / bins

        def regress(outputs, action, goal):
            offsets = (head.support.edges - jnp.clip(goal, low, high)) / (spread * width)
            below = jax.scipy.stats.norm.cdf(offsets)
            probabilities = (below[1:] - below[:-1]) / (below[-1] - below[0])
            return -jnp.sum(probabilities * jax.nn.log_softmax(head.logits(outputs, action)))

        return regress

    return regression


def _needs(who: str, what: str, given: Any) -> None:
    require(
        given is not None,
        f"{who} needs an action head that gives {what}, and this head does not; choose another head or loss.",
    )
