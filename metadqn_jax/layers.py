"""The flax modules that networks are built from."""

import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from flax import linen as nn

from metadqn_jax.types import Array


class DenseLayers(nn.Module):
    """Dense layers, each followed by LayerNorm (if asked) and the activation; `gain` scales the units of the first."""

    sizes: Sequence[int]
    activation: Callable
    layer_norm: bool

    @nn.compact
    def __call__(self, x, gain=1.0):
        for size in self.sizes:
            x, gain = gain * nn.Dense(size)(x), 1.0
            x = nn.LayerNorm()(x) if self.layer_norm else x
            x = self.activation(x)
        return x


class Seen(nn.Module):
    """An observation as a vector: 3×3 convolutions of the image that it begins with, if there are any, and the rest of it."""

    image: Sequence[int]
    channels: Sequence[int]
    activation: Callable

    @nn.compact
    def __call__(self, obs):
        x = obs.astype(jnp.promote_types(obs.dtype, jnp.float32)).reshape(-1)
        if not self.channels:
            return x
        size = math.prod(self.image)
        seen = x[:size].reshape(self.image)
        for channels in self.channels:
            seen = self.activation(nn.Dense(channels)(neighbours(seen)))
        return jnp.concatenate([seen.reshape(-1), x[size:]])


def neighbours(image: Array) -> Array:
    """Each pixel's 3×3 neighbourhood [height, width, 9 · channels], zeros beyond the border.

    Dense layers over it are convolutions whose kernels may differ from task to task at the cost of a matrix product, where
    XLA's grouped convolutions are slow.
    """
    height, width, _ = image.shape
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))
    shifted = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifted, axis=-1)
