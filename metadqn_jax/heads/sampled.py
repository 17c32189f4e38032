"""A learned Q(s, a) on real vectors, whose best action is searched for: `sampled`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm, qmc

from metadqn_jax.checks import check_count, require
from metadqn_jax.heads.base import Bounds, Support, bins_of, in_box, mean_of
from metadqn_jax.types import ActionHead, Array


def search(q: Callable[[Array], Array], points: Array, noises: Array, elites: int) -> Array:
    """The best action that the cross-entropy method finds for `q`: (action [d]) -> [], within [−1, 1]^d.

    The best `elites` of points [n, d] are kept; then each of noises [iterations, n, d], standard normal, is scaled to the
    kept ones' mean and standard deviation, and the best of both are kept (Kalashnikov et al. 2018, QT-Opt, section 4.1).
    Differs from the paper: elites stay, so that no iteration loses what was found; points and noises are given.
    """

    def best(points):
        return points[jax.lax.top_k(jax.vmap(q)(points), elites)[1]]

    def refine(kept, noise):
        fresh = kept.mean(0, keepdims=True) + kept.std(0, keepdims=True) * noise
        return best(jnp.concatenate([kept, jnp.clip(fresh, -1.0, 1.0)])), None

    return jax.lax.scan(refine, best(points), noises)[0][0]


def sampled(
    low: Bounds,
    high: Bounds,
    support: Support | None = None,
    *,
    units: int = 64,
    points: int = 32,
    iterations: int = 2,
    elites: int = 6,
) -> ActionHead:
    """A learned Q(s, a) that the cross-entropy method maximises (Kalashnikov et al. 2018, QT-Opt, section 4.1).

    low, high: the box's bounds [d]. Actions are float32 [d] in [−1, 1]^d, exploration as in `discrete`. The network's outputs
    [units] meet the action in a layer that the head owns, and another of `units` follows; with a `support` it gives logits.
    outputs: (vector [units], the head's own parameters). `greedy` is `search` over `points` fixed Sobol points and as many
    draws in each of the `iterations`, fixed too, so that it needs no key and gives equal actions for equal outputs; nothing
    is differentiated through it. `maximum` is the value of what it finds. Raises `Misuse` on sizes < 1, and on bounds that
    are not finite and in order.

    >>> sampled([-2.0], [2.0], units=8).width
    8
    """
    for name, size in (("units", units), ("points", points), ("iterations", iterations), ("elites", elites)):
        check_count(name, size)
    require(elites <= points, f"elites must be at most the points, {points}, got {elites}; lower elites.")
    box, d = in_box("a sampled head", low, high), np.size(low)
    bins, mean = bins_of(support), mean_of(support)
    fixed, noises = _sobol(points, iterations, d)

    def init(key):
        return {
            name: jax.nn.initializers.lecun_normal()(jax.random.fold_in(key, i), shape)
            for i, (name, shape) in enumerate({"action": (d, units), "hidden": (units, units), "last": (units, bins)}.items())
        } | {"hidden_bias": jnp.zeros(units), "last_bias": jnp.zeros(bins)}

    def logits(outputs, action):
        vector, own = outputs
        met = jax.nn.relu(vector + action @ own["action"])
        return jax.nn.relu(met @ own["hidden"] + own["hidden_bias"]) @ own["last"] + own["last_bias"]

    def value(outputs, action):
        return mean(logits(outputs, action))

    def greedy(outputs):
        outputs = jax.lax.stop_gradient(outputs)
        return search(lambda action: value(outputs, action), jnp.asarray(fixed), jnp.asarray(noises), elites)

    return ActionHead(
        width=units,
        greedy=greedy,
        value=value,
        maximum=lambda outputs: value(outputs, greedy(outputs)),
        **box,
        outputs=lambda parameter, vector: (vector, parameter("head_action", init)),
        logits=None if support is None else logits,
        support=support,
    )


def _sobol(points: int, iterations: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Points [n, d] uniform in [−1, 1]^d and noises [iterations, n, d], standard normal, of one Sobol sequence."""
    rows = points * (iterations + 1)
    size = int(np.ceil(np.log2(rows)))
    uniform = qmc.Sobol(d, scramble=False).random_base2(size)[:rows] + 0.5 / 2**size  # inside the cells, off their corners
    uniform = uniform.reshape(iterations + 1, points, d).astype(np.float32)
    return 2 * uniform[0] - 1, norm.ppf(uniform[1:]).astype(np.float32)
