"""Action heads: how a network's outputs become values and actions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metadqn_jax.checks import check_count, require
from metadqn_jax.types import ActionHead


class Support(NamedTuple):
    """The interval that HL-Gauss divides into `bins` equal bins, in the units of the (scaled) return."""

    low: float
    high: float
    bins: int

    @property
    def edges(self) -> jax.Array:
        """The bins' borders, [bins + 1]."""
        return jnp.linspace(self.low, self.high, self.bins + 1)

    @property
    def centers(self) -> jax.Array:
        """The bins' centres, [bins]."""
        return (self.edges[1:] + self.edges[:-1]) / 2


def discrete(actions: int, support: Support | None = None) -> ActionHead:
    """One Q-value for each of `actions` actions; with a `support`, each the mean of a categorical distribution over its bins.

    outputs [A], or [A · bins] with a support (Farebrother et al. 2024, "Stop Regressing", section 3). Actions are
    int32 [] in 0 … A−1; exploration replaces an action by a uniform one with probability ε. Raises `Misuse` on sizes < 1.

    >>> head = discrete(3)
    >>> int(head.greedy(jnp.array([0.0, 2.0, 1.0]))), float(head.maximum(jnp.array([0.0, 2.0, 1.0])))
    (1, 2.0)
    """
    check_count("actions", actions)
    if support is not None:
        check_count("support.bins", support.bins, least=2)
        require(support.low < support.high, f"support.low must be below support.high, got {support}; swap them.")

    def all_logits(outputs):
        return outputs.reshape(actions, -1)

    def values(outputs):
        if support is None:
            return outputs
        return jax.nn.softmax(all_logits(outputs)) @ support.centers

    def greedy(outputs):
        return jnp.argmax(values(outputs)).astype(jnp.int32)

    def sample(key):
        return jax.random.randint(key, (), 0, actions, jnp.int32)

    def perturb(key, carry, action, epsilon):
        key_whether, key_which = jax.random.split(key)
        wander = jax.random.uniform(key_whether) < epsilon
        return carry, jnp.where(wander, sample(key_which), action)

    return ActionHead(
        width=actions if support is None else actions * support.bins,
        greedy=greedy,
        value=lambda outputs, action: values(outputs)[action],
        maximum=lambda outputs: values(outputs)[greedy(outputs)],  # jnp.max's derivative is NaN where XLA rounds copies apart
        sample=sample,
        rest=tuple,
        perturb=perturb,
        decode=lambda action: action,
        embed=lambda action: jax.nn.one_hot(action, actions),
        policy=lambda outputs, temperature: jax.nn.softmax(values(outputs) / temperature),
        values=values,
        logits=None if support is None else lambda outputs, action: all_logits(outputs)[action],
        support=support,
    )
