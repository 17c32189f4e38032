"""Action heads: how a network's outputs become values and actions."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metadqn_jax.checks import check_count, require
from metadqn_jax.types import ActionHead

MOST_CELLS = 128  # one output for each: more cells than this are seldom visited often enough to be learnt one by one


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


def grid(low: Sequence[float], high: Sequence[float], bins: int) -> ActionHead:
    """`discrete` over the cells of a box: `bins` levels at equal distances in each dimension, both bounds included.

    low, high: the box's bounds [d]. `decode` gives its actions, float32 [d]; the last dimension changes fastest. Raises
    `Misuse` on bounds that are not finite and in order, on fewer than 2 bins, and on more cells bins^d than 128.

    >>> head = grid([-1.0, 0.0], [1.0, 1.0], bins=3)
    >>> head.width, head.decode(jnp.int32(5)).tolist()  # the second level of the first dimension, the third of the second
    (9, [0.0, 1.0])
    """
    check_count("bins", bins, least=2)
    dimensions = np.size(low)
    bounded = np.shape(low) == np.shape(high) == (dimensions,) and np.isfinite([low, high]).all() and np.less(low, high).all()
    require(bool(bounded), f"a grid must lie in a box with finite bounds low < high, [d] each, got {low} and {high}; bound it.")
    cells = bins**dimensions
    require(
        cells <= MOST_CELLS,
        f"a grid must have at most {MOST_CELLS} cells, got {bins}^{dimensions} = {cells}; lower bins, or take a head that "
        "treats dimensions one by one.",
    )

    def decode(action):
        levels = jnp.linspace(jnp.asarray(low, jnp.float32), jnp.asarray(high, jnp.float32), bins)
        level = jnp.stack(jnp.unravel_index(action, (bins,) * dimensions))
        return levels[level, jnp.arange(dimensions)]

    return discrete(cells)._replace(decode=decode)


def held(head: ActionHead, steps: int) -> ActionHead:
    """`head`, whose exploration keeps each action that it draws for `steps` steps; a share ε of steps explores.

    Where none is held, one begins with probability ε / (s − ε (s − 1)), s being `steps`: in the long run that makes the share
    of single steps with probability ε. What is held outlasts an episode's end. Raises `Misuse` on fewer than 1 step.
    """
    check_count("steps", steps)

    def rest():
        action = jax.eval_shape(head.sample, jax.random.key(0))
        return head.rest(), jnp.zeros(action.shape, action.dtype), jnp.int32(0)

    def perturb(key, carry, action, epsilon):
        inner, kept, left = carry
        key_whether, key_which = jax.random.split(key)
        begins = (left == 0) & (jax.random.uniform(key_whether) < epsilon / (steps - epsilon * (steps - 1)))
        inner, drawn = head.perturb(key_which, inner, action, 1.0)
        kept, left = jnp.where(begins, drawn, kept), jnp.where(begins, steps, left)
        return (inner, kept, jnp.maximum(left - 1, 0)), jnp.where(left > 0, kept, action)

    return head._replace(rest=rest, perturb=perturb)
