"""A value that falls off quadratically from one best action: `naf`."""

import jax
import jax.numpy as jnp
import numpy as np

from metadqn_jax.checks import require
from metadqn_jax.heads.base import Bounds, in_box
from metadqn_jax.types import ActionHead


def naf(low: Bounds, high: Bounds) -> ActionHead:
    """Q(s, a) = V(s) − ½ (a − μ(s))ᵀ L(s) L(s)ᵀ (a − μ(s)): the normalised advantage function (Gu et al. 2016, eqs. 5 and 6).

    low, high: the box's bounds [d], d ≤ 2: beyond, one peak is too poor a Q. outputs [1 + d + d (d + 1) / 2]: V, μ before
    its tanh, and L's lower triangle by rows. Actions are float32 [d] in [−1, 1]^d, exploration as in `discrete`; the paper's
    is `ornstein_uhlenbeck(naf(…))`. Raises `Misuse` on d > 2, and on bounds that are not finite and in order.
    Differs from the paper: softplus in place of exp on L's diagonal.

    >>> head = naf([0.0], [10.0])
    >>> outputs = jnp.array([3.0, 0.0, 1.0])
    >>> head.decode(head.greedy(outputs)).tolist(), float(head.maximum(outputs))
    ([5.0], 3.0)
    """
    box = in_box("naf", low, high)
    d = np.size(low)
    require(d <= 2, f"naf must have at most 2 dimensions, got {d}; take `factored` or `sampled`.")
    rows, columns = np.tril_indices(d)

    def peak(outputs):
        return jnp.tanh(outputs[1 : 1 + d])

    def value(outputs, action):
        entries = outputs[1 + d :]
        entries = jnp.where(rows == columns, jax.nn.softplus(entries), entries)
        lower = jnp.zeros((d, d), entries.dtype).at[rows, columns].set(entries)
        return outputs[0] - 0.5 * jnp.sum((lower.T @ (action - peak(outputs))) ** 2)

    return ActionHead(
        width=1 + d + rows.size,
        greedy=lambda outputs: peak(outputs).astype(jnp.float32),
        value=value,
        maximum=lambda outputs: outputs[0],
        **box,
    )
