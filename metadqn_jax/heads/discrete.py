"""One value for each action: `discrete`, and `grid` over the cells of a box."""

import jax
import jax.numpy as jnp

from metadqn_jax.checks import check_count, require
from metadqn_jax.heads.base import Bounds, Support, bins_of, check_box, instead, mean_of
from metadqn_jax.types import ActionHead

MOST_CELLS = 128  # one output for each: more cells than this are seldom visited often enough to be learnt one by one


def discrete(actions: int, support: Support | None = None) -> ActionHead:
    """One Q-value for each of `actions` actions; with a `support`, each the mean of a categorical distribution over its bins.

    outputs [A], or [A · bins] with a support (Farebrother et al. 2024, "Stop Regressing", section 3). Actions are
    int32 [] in 0 … A−1; exploration replaces an action by a uniform one with probability ε. Raises `Misuse` on sizes < 1.

    >>> head = discrete(3)
    >>> int(head.greedy(jnp.array([0.0, 2.0, 1.0]))), float(head.maximum(jnp.array([0.0, 2.0, 1.0])))
    (1, 2.0)
    """
    check_count("actions", actions)
    bins, mean = bins_of(support), mean_of(support)

    def all_logits(outputs):
        return outputs.reshape(actions, bins)

    def values(outputs):
        return mean(all_logits(outputs))

    def greedy(outputs):
        return jnp.argmax(values(outputs)).astype(jnp.int32)

    def sample(key):
        return jax.random.randint(key, (), 0, actions, jnp.int32)

    return ActionHead(
        width=actions * bins,
        greedy=greedy,
        value=lambda outputs, action: values(outputs)[action],
        maximum=lambda outputs: values(outputs)[greedy(outputs)],  # jnp.max's derivative is NaN where XLA rounds copies apart
        sample=sample,
        rest=tuple,
        perturb=instead(sample),
        decode=lambda action: action,
        embed=lambda action: jax.nn.one_hot(action, actions),
        policy=lambda outputs, temperature: jax.nn.softmax(values(outputs) / temperature),
        values=values,
        logits=None if support is None else lambda outputs, action: all_logits(outputs)[action],
        support=support,
    )


def grid(low: Bounds, high: Bounds, bins: int) -> ActionHead:
    """`discrete` over the cells of a box: `bins` levels at equal distances in each dimension, both bounds included.

    low, high: the box's bounds [d]. `decode` gives its actions, float32 [d]; the last dimension changes fastest. Raises
    `Misuse` on bounds that are not finite and in order, on fewer than 2 bins, and on more cells bins^d than 128.

    >>> head = grid([-1.0, 0.0], [1.0, 1.0], bins=3)
    >>> head.width, head.decode(jnp.int32(5)).tolist()  # the second level of the first dimension, the third of the second
    (9, [0.0, 1.0])
    """
    check_count("bins", bins, least=2)
    least, most = check_box("a grid", low, high)
    dimensions = least.size
    cells = bins**dimensions
    require(
        cells <= MOST_CELLS,
        f"a grid must have at most {MOST_CELLS} cells, got {bins}^{dimensions} = {cells}; lower bins, or take `factored`, "
        "which treats dimensions one by one.",
    )

    def decode(action):
        levels = jnp.linspace(least, most, bins)
        level = jnp.stack(jnp.unravel_index(action, (bins,) * dimensions))
        return levels[level, jnp.arange(dimensions)]

    return discrete(cells)._replace(decode=decode)
