"""One value for each level of each dimension: `multi_discrete`, and `factored` over the levels of a box."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from metadqn_jax.checks import check_count, require
from metadqn_jax.heads.base import Bounds, Support, bins_of, check_box, instead, mean_of
from metadqn_jax.heads.exploration import by_dimension
from metadqn_jax.types import ActionHead


def multi_discrete(sizes: Sequence[int] | np.ndarray, support: Support | None = None) -> ActionHead:
    """Q(s, a) = 1/d Σ_i U_i(s, a_i), with one output for each option of each dimension (Seyde et al. 2023, DecQN, eq. 3).

    sizes: options of each dimension [d]. outputs [Σ sizes], or [Σ sizes · bins] with a support: Q is then the mean of the
    mixture 1/d Σ_i softmax(o_i(a_i)), which HL-Gauss regresses. Actions are int32 [d]; the greedy one takes the best of each
    dimension, exact for such a Q. Exploration is `by_dimension`. Raises `Misuse` on sizes < 1.

    >>> head = multi_discrete([2, 3])
    >>> head.greedy(jnp.array([0.0, 4.0, 1.0, 0.0, 2.0])).tolist(), float(head.maximum(jnp.array([0.0, 4.0, 1.0, 0.0, 2.0])))
    ([1, 2], 3.0)
    """
    sizes = sizes.tolist() if isinstance(sizes, np.ndarray | jax.Array) else sizes
    require(
        isinstance(sizes, Sequence), f"sizes must be a sequence, the options of each dimension, got {sizes!r}; give [{sizes}]."
    )
    require(len(sizes) > 0, "multi_discrete needs at least one dimension, got none; give the options of each.")
    for size in sizes:
        check_count("the options of a dimension", size)
    bins, mean = bins_of(support), mean_of(support)
    options = np.asarray(sizes)
    first = np.cumsum(options) - options  # where each dimension's outputs begin
    place = np.minimum(np.arange(options.max()), options[:, None] - 1) + first[:, None]  # [d, most]: the last repeated

    def chosen(outputs, action):  # [d, bins]
        return outputs.reshape(-1, bins)[first + action]

    def value(outputs, action):
        return jnp.mean(mean(chosen(outputs, action)))

    def greedy(outputs):  # what is repeated comes behind what it repeats, so that argmax passes it over
        return jnp.argmax(mean(outputs.reshape(-1, bins))[place], 1).astype(jnp.int32)

    def logits(outputs, action):
        return jax.nn.logsumexp(jax.nn.log_softmax(chosen(outputs, action)), 0) - np.log(options.size)

    def sample(key):
        return jax.random.randint(key, options.shape, 0, options, jnp.int32)

    head = ActionHead(
        width=int(options.sum()) * bins,
        greedy=greedy,
        value=value,
        maximum=lambda outputs: value(outputs, greedy(outputs)),
        sample=sample,
        rest=tuple,
        perturb=instead(sample),
        decode=lambda action: action,
        embed=lambda action: jax.nn.one_hot(first + action, int(options.sum())).sum(0),
        logits=None if support is None else logits,
        support=support,
    )
    return by_dimension(head)


def factored(low: Bounds, high: Bounds, bins: int, support: Support | None = None) -> ActionHead:
    """`multi_discrete` over the levels of a box: `bins` of them at equal distances in each dimension, both bounds included.

    low, high: the box's bounds [d]. `decode` gives its actions, float32 [d] (Seyde et al. 2023, DecQN, section 4). Raises
    `Misuse` on bounds that are not finite and in order, and on bins that are not odd: the box's middle is to be a level.

    >>> head = factored([-1.0] * 12, [1.0] * 12, bins=3)
    >>> head.width, head.decode(jnp.zeros(12, jnp.int32)).tolist()[:2]
    (36, [-1.0, -1.0])
    """
    check_count("bins", bins, least=3)
    require(bins % 2 == 1, f"bins must be odd, so that the middle of the box is a level, got {bins}; take {bins + 1}.")
    least, most = check_box("a factored head", low, high)

    def decode(action):
        return jnp.linspace(least, most, bins)[action, np.arange(least.size)]

    return multi_discrete([bins] * least.size, support)._replace(decode=decode)
