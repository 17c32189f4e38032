"""An associative memory."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from metadqn_jax.checks import check_count
from metadqn_jax.memories.base import Memory, blank, features, rows_of
from metadqn_jax.types import Spec


class _Attention(nn.Module):
    """Keys, values and queries of an associative memory, and its sink: what is read before anything was written."""

    heads: int
    key: int
    value: int
    units: int

    def setup(self):
        sharp = nn.initializers.variance_scaling(8.0, "fan_in", "normal")  # so that observations differ from the start
        self.place = nn.Dense(self.heads * self.key, kernel_init=sharp)
        self.hidden = nn.Dense(self.units)
        self.to_value = nn.Dense(self.heads * self.value)
        self.sink = self.param("sink", nn.initializers.zeros, (self.heads,))
        self.empty = self.param("empty", nn.initializers.zeros, (self.heads, self.value))

    def address(self, obs):
        scores = self.place(jnp.ravel(obs).astype(jnp.float32)).reshape(self.heads, self.key)
        return jax.nn.softmax(scores, axis=-1)

    def write(self, obs, x):
        return self.address(obs), self.to_value(nn.relu(self.hidden(x))).reshape(self.heads, self.value)

    def normalise(self, total, weight):
        """(Σ w v + z₀ v₀) / (Σ w + z₀) for a total [heads, …, value] and its weight [heads, …]."""
        between = (1,) * (weight.ndim - 1)
        sink = jax.nn.softplus(self.sink).reshape(-1, *between)
        start = sink[..., None] * self.empty.reshape(self.heads, *between, self.value)
        return (total + start) / (weight + sink)[..., None]

    def __call__(self, obs, x):
        return self.write(obs, x), self.normalise(jnp.zeros((self.heads, self.value)), jnp.zeros(self.heads))


def linear_attention(
    spec: Spec, *, heads: int = 2, key: int = 16, value: int = 4, units: int = 64, per_action: bool = False
) -> Memory:
    """An associative memory: values are written under keys, and read by a query (Katharopoulos et al. 2020, eqs. 8-12).

    A transition is written under the observation that it left; the query is the present observation, and a learned
    sink stands for what has not been seen. With `per_action` it is written under its action too and read once for each
    action, context [A, n]; else once, context [n]. The stream form is quadratic in T.
    Differs from the paper: softmax feature map, keys and queries from observations. Raises `Misuse`.
    """
    for name, size in (("heads", heads), ("key", key), ("value", value), ("units", units)):
        check_count(name, size)
    module = _Attention(heads, key, value, units)
    actions = rows_of(spec.head, "a memory that is read for each action") if per_action else 1

    def call(params, method, *arguments):
        return module.apply({"params": params}, *arguments, method=method)

    def which(action):
        return spec.head.embed(action) if per_action else jnp.ones(1)

    def init(key):
        example = blank(spec)
        return module.init(key, example.obs, features(spec.head, example))["params"]

    def begin(params):
        return jnp.zeros((heads, actions, key, value)), jnp.zeros((heads, actions, key))

    def write(params, transition):
        address, content = call(params, _Attention.write, transition.obs, features(spec.head, transition))
        return address, content, which(transition.action)

    def step(params, state, transition):
        total, weight = state
        address, content, action = write(params, transition)
        added = action[None, :, None] * address[:, None, :]  # [heads, actions, key]
        return total + added[..., None] * content[:, None, None, :], weight + added

    def give(params, total, weight, whole, count):
        found = call(params, _Attention.normalise, total, weight)  # [heads, actions, value]
        mean = call(params, _Attention.normalise, whole, count).ravel()  # of all values, whatever their address
        each = found.transpose(1, 0, 2).reshape(actions, -1)
        rows = jnp.concatenate([each, jnp.broadcast_to(mean[None], each.shape)], 1)
        return rows if per_action else rows[0]

    def read(params, state, obs):
        total, weight = state
        query = call(params, _Attention.address, obs)
        found = jnp.einsum("hk,hakv->hav", query, total), jnp.einsum("hk,hak->ha", query, weight)
        return give(params, *found, total.sum((1, 2)), weight.sum((1, 2)))

    def trace(params, stream):
        return jax.vmap(lambda one: write(params, one))(stream)

    def recall(params, trace, obs, after):
        address, content, action = trace
        steps = obs.shape[0]
        query = jax.vmap(lambda one: call(params, _Attention.address, one))(obs)
        known = jnp.tri(steps, k=0 if after else -1)
        match = jnp.einsum("thk,ihk->hti", query, address) * known[None]
        contents = action[None, :, :, None] * content.transpose(1, 0, 2)[:, :, None, :]  # [heads, T, actions, value]
        total = (match @ contents.reshape(heads, steps, -1)).reshape(heads, steps, actions, value)
        weight = match @ jnp.broadcast_to(action[None], (heads, steps, actions))
        so_far = known @ content.reshape(steps, -1)
        count = jnp.broadcast_to(known.sum(1)[:, None], (steps, heads))
        found = total.transpose(1, 0, 2, 3), weight.transpose(1, 0, 2), so_far.reshape(steps, heads, value), count
        return jax.vmap(lambda *found: give(params, *found))(*found)

    width = 2 * heads * value
    return Memory(init, begin, step, read, trace, recall, (actions, width) if per_action else (width,))
