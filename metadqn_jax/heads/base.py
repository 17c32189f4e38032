"""What action heads share: supports of HL-Gauss, boxes, and the plainest exploration."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metadqn_jax.checks import check_count, check_real, require
from metadqn_jax.types import ActionHead, Array

Bounds = Sequence[float] | np.ndarray  # of a box, one for each dimension, [d]


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


def bins_of(support: Support | None) -> int:
    """The outputs behind one value: a support's bins, 1 without one. Raises `Misuse` on an impossible support."""
    if support is None:
        return 1
    require(isinstance(support, Support), f"the support must be a Support, got {support!r}; write Support(low, high, bins).")
    check_count("support.bins", support.bins, least=2)
    for name in ("low", "high"):
        check_real(f"support.{name}", getattr(support, name), least=-math.inf)
    require(support.low < support.high, f"support.low must be below support.high, got {support}; swap them.")
    with np.errstate(over="ignore", invalid="ignore"):
        apart = np.isfinite(widths := np.diff(np.asarray(support.edges))).all() and (widths > 0).all()
    require(bool(apart), f"a support's bins must be apart in float32, got {support}; bring it nearer to 0, or take fewer bins.")
    return support.bins


def mean_of(support: Support | None) -> Callable[[Array], Array]:
    """(logits [..., bins]) -> values [...]: the mean of the categorical distribution, or the one output as it is."""
    if support is None:
        return lambda logits: logits[..., 0]
    return lambda logits: jax.nn.softmax(logits) @ support.centers


def instead(sample: Callable) -> Callable:
    """A head's `perturb`: with probability ε a draw of `sample` in place of the action."""

    def perturb(key, carry, action, epsilon):
        key_whether, key_which = jax.random.split(key)
        wander = jax.random.uniform(key_whether) < epsilon
        return carry, jnp.where(wander, sample(key_which), action)

    return perturb


def check_box(head: str, low: Bounds, high: Bounds) -> tuple[np.ndarray, np.ndarray]:
    """The bounds of a box as float32 [d]; raises `Misuse` unless they are finite and in order."""
    try:
        least, most = np.asarray(low, np.float32), np.asarray(high, np.float32)
    except (TypeError, ValueError):  # vectors of vectors
        least = most = np.zeros(0, np.float32)
    words = any(np.asarray(ends).dtype.kind not in "biuf" for ends in (low, high) if least.size)
    with np.errstate(over="ignore", invalid="ignore"):
        vectors = least.shape == most.shape == (least.size,) and least.size > 0
        bounded = vectors and np.isfinite(most - least).all() and np.less(least, most).all()
    require(
        bool(bounded) and not words,
        f"{head} must lie in a box with finite bounds low < high, [d] each, got {low} and {high}; bound it.",
    )
    return least, most


def extremes(head: ActionHead, draws: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest components of the environment's actions, among those that the head gives; of real vectors
    in [−1, 1]^d exactly, of others among so many draws, which make sure of some hundred levels.
    """
    with jax.ensure_compile_time_eval():
        actions = jax.jit(jax.vmap(head.sample))(jax.random.split(jax.random.key(0), draws))
        if jnp.issubdtype(actions.dtype, jnp.floating):
            actions = jnp.concatenate([actions, jnp.ones_like(actions[:1]), -jnp.ones_like(actions[:1])])
        decoded = np.asarray(jax.jit(jax.vmap(head.decode))(actions))
    return decoded.min(0), decoded.max(0)


def within(inner: tuple[np.ndarray, np.ndarray], outer: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether one box, (lowest, highest), lies in another, but for rounding."""
    (least, most), (low, high) = inner, outer
    finite = [np.abs(np.where(np.isfinite(end), end, 0.0)) for end in outer]
    slack = 1e-5 * np.maximum(*finite)
    return bool((least >= low - slack).all() and (most <= high + slack).all())


def by_option(head: ActionHead) -> bool:
    """Whether the network gives an output, or a support's bins, for each option of an action, as `discrete` and `factored` do:
    whether values may be split into one of the state and advantages. Outputs that a head makes on its own are none."""
    if head.outputs is not ActionHead._field_defaults["outputs"]:
        return False
    action = jax.eval_shape(head.sample, jax.random.key(0))
    return head.width == jax.eval_shape(head.embed, action).size * bins_of(head.support)


def in_box(head: str, low: Bounds, high: Bounds) -> dict[str, Any]:
    """The fields of a head whose actions are real vectors, float32 [d] in [−1, 1]^d, which `decode` stretches to a box.

    Exploration replaces an action by a uniform one with probability ε. Raises `Misuse` as `check_box` does.
    """
    least, most = check_box(head, low, high)

    def sample(key):
        return jax.random.uniform(key, least.shape, jnp.float32, -1.0, 1.0)

    return {
        "sample": sample,
        "rest": tuple,
        "perturb": instead(sample),
        "decode": lambda action: jnp.clip(least + (action + 1) / 2 * (most - least), least, most),  # rounding might leave it
        "embed": lambda action: action,
    }
