"""A memory whose recurrence is linear, so that a whole stream is one associative scan."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from metadqn_jax.checks import check_count
from metadqn_jax.memories.base import Memory, at_outputs, blank, features, from_zeros
from metadqn_jax.types import Spec


class _Gates(nn.Module):
    """One layer of a linear recurrence h ← a ⊙ h + (1 − a) ⊙ b, whose a and b read the input alone."""

    width: int

    def setup(self):
        def spread(key, shape, dtype):  # keep for 1 … 150 steps at the start
            return jnp.linspace(0.0, 5.0, self.width, dtype=dtype)

        self.keep = nn.Dense(self.width, bias_init=spread)
        self.bring = nn.Dense(self.width)
        self.norm = nn.LayerNorm()
        self.up = nn.Dense(self.width)
        self.out = nn.Dense(self.width)

    def change(self, u):
        """(a, (1 − a) b) for an input u [width]."""
        keep = nn.sigmoid(self.keep(u))
        return keep, (1 - keep) * self.bring(u)

    def give(self, u, hidden):
        return u + self.out(nn.relu(self.up(self.norm(jnp.concatenate([u, hidden])))))

    def __call__(self, u):
        return self.change(u), self.give(u, u)


class _Recurrence(nn.Module):
    """Gated layers over an embedded input."""

    width: int
    layers: int

    def setup(self):
        self.embed = nn.Dense(self.width)
        self.gates = [_Gates(self.width) for _ in range(self.layers)]

    def __call__(self, x, advance):
        """The output at x; `advance(i, keep, bring) -> hidden` moves layer i."""
        u = self.embed(x)
        for i, gate in enumerate(self.gates):
            u = gate.give(u, advance(i, *gate.change(u)))
        return u

    def whole(self, xs):
        """The outputs [T] of a stream of inputs [T], each layer in one associative scan."""

        def compose(first, then):
            return first[0] * then[0], then[0] * first[1] + then[1]

        u = self.embed(xs)
        for gate in self.gates:
            hidden = jax.lax.associative_scan(compose, jax.vmap(gate.change)(u))[1]
            u = jax.vmap(gate.give)(u, hidden)
        return u


def linear_recurrence(spec: Spec, *, width: int = 64, layers: int = 2) -> Memory:
    """A gated linear recurrence, trained by an associative scan (Feng et al. 2024, minGRU, section 3.1). Raises `Misuse`.

    Differs from the paper: a residual block after each layer, which carries the observation past the memory.
    """
    check_count("width", width)
    check_count("layers", layers)
    module = _Recurrence(width, layers)

    def init(key):
        x = features(spec.head, blank(spec))
        return module.init(key, x, lambda i, keep, bring: bring)["params"]

    def begin(params):
        return jnp.zeros((layers, width)), jnp.zeros(width)

    def step(params, state, transition):
        moved = list(state[0])

        def advance(i, keep, bring):
            moved[i] = keep * moved[i] + bring
            return moved[i]

        output = module.apply({"params": params}, features(spec.head, transition), advance)
        return jnp.stack(moved), output

    def trace(params, stream):
        xs = jax.vmap(lambda one: features(spec.head, one))(stream)
        return from_zeros(module.apply({"params": params}, xs, method=_Recurrence.whole))

    return Memory(init, begin, step, lambda params, state, obs: state[1], trace, at_outputs, (width,))
