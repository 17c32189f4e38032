"""MQL: a multi-task Q-network that reads a recurrent context, and is tuned at test time with the training data's help."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metadqn_jax import replay, trees
from metadqn_jax.checks import check_count, check_real, require
from metadqn_jax.learners.base import MetaLearner, views_of
from metadqn_jax.learners.rl2 import Recurrent, check_context, check_one_stream, in_order
from metadqn_jax.memories.base import Memory, blank
from metadqn_jax.td import Loss
from metadqn_jax.types import Array, Params, QNetwork, Span, Spec, Transition


class Tuned(NamedTuple):
    """The fast state: what the memory holds of the segments that are over, and the network's weights φ."""

    state: Any
    weights: Params


def mql(
    network: QNetwork,
    memory: Memory,
    spec: Spec,
    *,
    loss: Loss,
    span: Span,
    steps: int,
    rate: Any,
    clip: Any = 1.0,
    capacity: int = 16,
    strength: Any = 1.0,
    ridge: Any = 0.01,
    bound: Any = 1.0,
) -> MetaLearner:
    """Meta-Q-learning (Fakoor et al. 2020, section 3, algorithms 1-2): trained with `steps` = 0, tested with more.

    Training is multi-task: the mean TD loss of a lifetime's segments, each with the context that `memory` holds of those
    before it; the target network bootstraps with the same context. A segment is read, in its order, when it is over.
    At test time `steps` gradient steps of `rate`, clipped to a global norm of `clip`, then take φ from θ to less of

        L(new segment) + mean β L(stored lifetimes) + (1 − ESS) · `strength`/2 ‖φ − θ‖²

    with β the `propensity` of a stored transition's context, and ESS = (Σβ)² / (n Σβ²). No step leaves the context learner.
    slow.memory holds `capacity` lifetimes of the `span`; the memory reads them anew, so that no context is stale.
    Differs from the paper: DQN in place of TD3; both TD losses in every step, on all data; balanced classes in the
    propensity. Raises `Misuse` on sizes, or where the order of transitions is lost.
    """
    check_count("steps", steps, least=0)
    check_count("capacity", capacity)
    for name, number in (("the rate", rate), ("the clip", clip), ("the strength", strength), ("the bound", bound)):
        check_real(name, number)
    check_real("the ridge", ridge, least=1e-6)
    check_context(network, memory)
    require(span.segments >= 2, f"MQL must read a segment before another, got span.segments={span.segments}; raise it to 2.")
    check_one_stream(span.streams)

    def apply(params, obs, state):
        return network.apply(params.network, obs, memory.read(params.memory, state, obs))

    reader = QNetwork(network.init, apply)

    def losses(params, slow, state, segment):
        """The TD losses [T, 1] of a segment [T, 1] in a context."""
        bootstrap = Recurrent(slow.target.network, slow.params.memory)
        views = views_of(reader, (params, state), trees.stop((bootstrap, state)), segment)
        return jax.vmap(loss, in_axes=1, out_axes=1)(views, segment)

    def init(key):
        key_network, key_memory = jax.random.split(key)
        params = Recurrent(network.init(key_network), memory.init(key_memory))
        sizes = (span.segments, span.steps, 1)
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*sizes, *leaf.shape), leaf.dtype), blank(spec))
        return params, replay.make_store(like, capacity)

    def adapt(key, slow, fast, segment):
        params = slow.params
        state, new = follow(memory, params.memory, fast.state, in_order(segment))
        stored = slow.memory.items
        _, states, contexts = jax.vmap(lambda experience: read_lifetime(memory, params.memory, experience))(stored)
        known = jnp.broadcast_to((jnp.arange(capacity) < slow.memory.added)[:, None, None], contexts.shape[:-1])
        flat = contexts.reshape(-1, contexts.shape[-1])
        beta = propensity(new, flat, known.ravel(), ridge=ridge, bound=bound)
        shares = (beta / jnp.maximum(known.sum(), 1)).reshape(known.shape)[..., None]
        pull = strength * (1.0 - effective_size(beta, known.ravel()))

        def objective(weights):
            now = params._replace(network=weights)
            of_stored = jax.vmap(jax.vmap(lambda state, segment: losses(now, slow, state, segment)))(states, stored)
            left = trees.squared_norm(trees.subtract(weights, params.network))
            return jnp.mean(losses(now, slow, state, segment)) + jnp.sum(shares * of_stored) + pull / 2 * left

        def step(_, weights):
            return trees.subtract(weights, trees.scale(rate, trees.clip(jax.grad(objective)(weights), clip)))

        return Tuned(state, jax.lax.fori_loop(0, steps, step, fast.weights)), {}

    def lifetime_loss(key, slow, lifetime):
        states, _, _ = read_lifetime(memory, slow.params.memory, lifetime.experience)
        return jnp.mean(jax.vmap(lambda s, segment: losses(slow.params, slow, s, segment))(states, lifetime.experience)), {}

    def remember(key, slow, lifetimes):
        return replay.add(slow.memory, jax.tree.map(lambda leaf: leaf[:capacity], lifetimes.experience))

    return MetaLearner(
        init=init,
        begin=lambda key, slow: Tuned(memory.begin(slow.params.memory), slow.params.network),
        q=lambda slow, fast, obs: apply(Recurrent(fast.weights, slow.params.memory), obs, fast.state),
        adapt=adapt,
        loss=lifetime_loss,
        remember=remember,
    )


def follow(memory: Memory, params: Params, state: Any, stream: Transition) -> tuple[Any, Array]:
    """The state after a stream [T], and what the memory gives to read after each transition [T, n]."""

    def step(state, transition):
        state = memory.step(params, state, transition)
        return state, jnp.ravel(memory.read(params, state, transition.next_obs))

    return jax.lax.scan(step, state, stream)


def read_lifetime(memory: Memory, params: Params, experience: Transition) -> tuple[Any, Any, Array]:
    """The states before and after each segment of a lifetime [K, T, 1], and the contexts [K, T, n]."""

    def step(state, segment):
        following, contexts = follow(memory, params, state, in_order(segment))
        return following, (state, following, contexts)

    return jax.lax.scan(step, memory.begin(params), experience)[1]


def propensity(new: Array, stored: Array, known: Array, *, ridge: Any, bound: Any, iterations: int = 10) -> Array:
    """β [m]: how much likelier each of the `stored` contexts [m, n] is among the `new` ones [l, n]; 0 where not `known`.

    exp of the logit of a logistic regression that tells the two apart (Fakoor et al. 2020, eq. 13), each side weighing one
    half, with the penalty ridge/2 ‖w‖², fitted by Newton's method; at most `bound`. Numbers of a context whose root mean
    square exceeds 1 are divided by it: the ridge would be lost in them, and Newton's system singular.
    """
    x = jnp.concatenate([jnp.concatenate([new, stored]), jnp.ones((len(new) + len(stored), 1))], 1)
    labels = jnp.concatenate([jnp.ones(len(new)), jnp.zeros(len(stored))])
    count = jnp.maximum(known.sum(), 1)
    mass = jnp.concatenate([jnp.full(len(new), 0.5 / len(new)), 0.5 * known / count])
    x = x / jnp.maximum(1.0, jnp.sqrt(mass @ x**2))[None]

    def newton(_, w):
        p = jax.nn.sigmoid(x @ w)
        gradient = x.T @ (mass * (p - labels)) + ridge * w
        curvature = (x * (mass * p * (1 - p))[:, None]).T @ x + ridge * jnp.eye(len(w))
        return w - jax.scipy.linalg.solve(curvature, gradient, assume_a="pos")

    w = jax.lax.fori_loop(0, iterations, newton, jnp.zeros(x.shape[1]))
    logits = (x @ w)[len(new) :]
    return jnp.where(known, jnp.minimum(jnp.exp(jnp.minimum(logits, 30.0)), bound), 0.0)


def effective_size(beta: Array, known: Array) -> Array:
    """ESS = (Σβ)² / (n Σβ²) in [0, 1] over the n that are `known`; 0 where none is (Fakoor et al. 2020, eq. 14)."""
    square = known.sum() * jnp.sum(beta**2)
    return jnp.sum(beta) ** 2 / jnp.where(square > 0, square, 1.0)
