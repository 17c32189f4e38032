"""A memory that keeps every transition, and attends to them all."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from metadqn_jax.checks import check_count, require
from metadqn_jax.memories.base import Memory, at_outputs, blank, features, from_zeros
from metadqn_jax.types import Array, Spec


class _Block(nn.Module):
    """A pre-norm transformer block, cut where its tokens meet."""

    width: int
    heads: int

    def setup(self):
        self.before, self.between = nn.LayerNorm(), nn.LayerNorm()
        self.project, self.join = nn.Dense(3 * self.width), nn.Dense(self.width)
        self.up, self.down = nn.Dense(2 * self.width), nn.Dense(self.width)

    def split(self, u):
        """Query, key and value, each [heads, width / heads]."""
        return jnp.split(self.project(self.before(u)).reshape(3 * self.heads, -1), 3)

    def merge(self, u, found):
        u = u + self.join(found.ravel())
        return u + self.down(nn.relu(self.up(self.between(u))))


class _Transformer(nn.Module):
    """Blocks over embedded transitions, each with its place in the stream."""

    width: int
    heads: int
    layers: int
    length: int

    def setup(self):
        self.embed = nn.Dense(self.width)
        self.places = nn.Embed(self.length, self.width)
        self.blocks = [_Block(self.width, self.heads) for _ in range(self.layers)]

    def __call__(self, x, steps, store):
        """The output at x after `steps` others; `store(i, key, value)` keeps these, and gives layer i's, [length] each."""
        u, known = self.embed(x) + self.places(steps % self.length), jnp.arange(self.length) <= steps
        for i, block in enumerate(self.blocks):
            query, key, value = block.split(u)
            u = block.merge(u, _attend(query, *store(i, key, value), known))
        return u

    def whole(self, xs):
        """The outputs [T] of a stream of inputs [T]."""
        known = jnp.tri(len(xs), dtype=bool)
        u = self.embed(xs) + self.places(jnp.arange(len(xs)))
        for block in self.blocks:
            query, key, value = jax.vmap(block.split)(u)
            u = jax.vmap(block.merge)(u, jax.vmap(_attend, (0, None, None, 0))(query, key, value, known))
        return u


def _attend(query: Array, keys: Array, values: Array, known: Array) -> Array:
    """Softmax attention of a query [heads, n] over keys and values [T, heads, n], of which some are `known` [T]."""
    match = jnp.einsum("hn,thn->ht", query, keys) / jnp.sqrt(query.shape[-1])
    weights = jax.nn.softmax(jnp.where(known[None], match, -jnp.inf), axis=-1)
    return jnp.einsum("ht,thn->hn", weights, values)


def transformer(spec: Spec, *, length: int, width: int = 32, heads: int = 2, layers: int = 2) -> Memory:
    """A small causal transformer over the last transitions of a stream of up to `length` (Vaswani et al. 2017).

    The step form keeps every layer's keys and values; beyond `length` each takes the place of the oldest. Differs from the
    paper: pre-norm, learned places. Raises `Misuse`.
    """
    for name, size in (("length", length), ("width", width), ("heads", heads), ("layers", layers)):
        check_count(name, size)
    require(width % heads == 0, f"width must be a multiple of heads, got {width} and {heads}; change one of them.")
    module = _Transformer(width, heads, layers, length)
    room = (layers, length, heads, width // heads)

    def init(key):
        kept = jnp.zeros(room[1:])
        return module.init(key, features(spec.head, blank(spec)), jnp.zeros((), jnp.int32), lambda i, key, value: (kept, kept))[
            "params"
        ]

    def begin(params):
        return jnp.zeros(room), jnp.zeros(room), jnp.zeros((), jnp.int32), jnp.zeros(width)

    def step(params, state, transition):
        keys, values, steps, _ = state
        kept, place = [keys, values], steps % length

        def store(i, key, value):
            kept[0], kept[1] = kept[0].at[i, place].set(key), kept[1].at[i, place].set(value)
            return kept[0][i], kept[1][i]

        output = module.apply({"params": params}, features(spec.head, transition), steps, store)
        return *kept, steps + 1, output

    def trace(params, stream):
        steps = stream.reward.shape[0]
        require(steps <= length, f"a transformer of length {length} cannot read {steps} transitions; raise its length.")
        xs = jax.vmap(lambda one: features(spec.head, one))(stream)
        return from_zeros(module.apply({"params": params}, xs, method=_Transformer.whole))

    return Memory(init, begin, step, lambda params, state, obs: state[3], trace, at_outputs, (width,))
