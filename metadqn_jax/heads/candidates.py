"""Many discrete actions that are known by their features: `candidates`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metadqn_jax.checks import require
from metadqn_jax.heads.base import Support, bins_of, instead, mean_of
from metadqn_jax.types import ActionHead


def candidates(features: Any, support: Support | None = None) -> ActionHead:
    """Q(s, a) = o[:m] · F_a + o[m]: what the network says of a state meets the features of each action.

    features: F [A, m], a row for each action, of order 1. outputs [m + 1], or [(m + 1) · bins] with a support, whose logits
    are made likewise. All values cost one product with F; no action costs a pass through the network, whatever A. Actions
    are int32 [], and an action's features are what it is embedded by; exploration is as in `discrete` (He et al. 2016, DRRN,
    section 3.2, with the inner product of a state's and an action's representation). Raises `Misuse` on features that are
    no matrix, or not finite.
    Differs from the paper: actions are represented by given features.

    >>> head = candidates([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> head.values(jnp.array([2.0, -1.0, 0.5])).tolist()
    [2.5, -0.5, 1.5]
    """
    try:
        table = np.asarray(features, np.float32)
        got = f"the shape {list(table.shape)}"
    except (TypeError, ValueError):  # rows of unequal length, or no numbers
        table, got = np.zeros((0, 0), np.float32), "rows of unequal length, or no numbers"
    require(
        table.ndim == 2 and table.size > 0,
        f"candidates must have features [actions, m], a row for each action, got {got}; give every action its row, or take "
        "`discrete`.",
    )
    require(bool(np.isfinite(table).all()), "features must be finite, got NaN or infinity among them; mend those rows.")
    actions, size = table.shape
    columns = np.ascontiguousarray(table.T)  # the side from which a batch of states is one fast product
    bins, mean = bins_of(support), mean_of(support)

    def logits(outputs, action):
        weights = outputs.reshape(size + 1, bins)
        return jnp.asarray(table)[action] @ weights[:-1] + weights[-1]

    def value(outputs, action):
        return mean(logits(outputs, action))

    def values(outputs):
        weights = outputs.reshape(size + 1, bins)
        return mean((weights[:-1].T @ columns + weights[-1:].T).T)

    def greedy(outputs):
        return jax.lax.top_k(values(outputs), 1)[1][0]  # on a CPU argmax takes four times as long

    def sample(key):
        return jax.random.randint(key, (), 0, actions, jnp.int32)

    return ActionHead(
        width=(size + 1) * bins,
        greedy=greedy,
        value=value,
        maximum=lambda outputs: value(outputs, greedy(outputs)),
        sample=sample,
        rest=tuple,
        perturb=instead(sample),
        decode=lambda action: action,
        embed=lambda action: jnp.asarray(table)[action],
        policy=lambda outputs, temperature: jax.nn.softmax(values(outputs) / temperature),
        values=values,
        logits=None if support is None else logits,
        support=support,
    )
