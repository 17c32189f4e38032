"""The one interface of all meta-learners, where an outer loss may be measured, and the checks of both."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metadqn_jax import trees
from metadqn_jax.checks import Misuse, check_real, check_same, describe, require
from metadqn_jax.td import Views
from metadqn_jax.types import Array, Fast, Info, Key, Lifetime, Outputs, Params, QNetwork, Slow, Spec, Transition


class MetaLearner(NamedTuple):
    """Pure functions: five about one task, and one that carries what is not differentiated.

    init:  (key) -> (Params, memory)                                 once per run
    begin: (key, slow) -> Fast                                       once per task
    q:     (slow, fast, obs) -> outputs                              every step
    adapt: (key, slow, fast, Transition [T, E]) -> (Fast, Info)      every segment
    loss:  (key, slow, Lifetime) -> (scalar, Info)                   its gradient in slow.params is the outer step
    remember: (key, slow, Lifetime [B, …]) -> memory                 after an outer step, same structure
    """

    init: Callable[[Key], tuple[Params, Any]]
    begin: Callable[[Key, Slow], Fast]
    q: Callable[[Slow, Fast, Array], Outputs]
    adapt: Callable[[Key, Slow, Fast, Transition], tuple[Fast, Info]]
    loss: Callable[[Key, Slow, Lifetime], tuple[Array, Info]]
    remember: Callable[[Key, Slow, Lifetime], Any]


def forget(key: Key, slow: Slow, lifetimes: Lifetime) -> Any:
    """`remember` of a learner that remembers nothing: the memory as it was."""
    return slow.memory


def first_slow(learner: MetaLearner, key: Key) -> Slow:
    """The slow state at the start of a run; the target network starts equal to the parameters."""
    params, memory = learner.init(key)
    return Slow(params, jax.tree.map(jnp.copy, params), memory, jnp.zeros((), jnp.int32))


# --- measures: where in a lifetime the outer loss is taken.
# (fast, advance, score, experience [K, …], outer_step) -> scores, averaged as the measure says, with
# advance: (fast, segment) -> (fast, iterates [steps, …]), score: (fast, segment) -> scores, a pytree of scalars


def before(fast: Fast, advance: Callable, score: Callable, experience: Transition, outer_step: Array) -> Any:
    """All segments, with no adaptation: multi-task learning."""
    return trees.mean(jax.vmap(lambda segment: score(fast, segment))(experience))


def throughout(fast: Fast, advance: Callable, score: Callable, experience: Transition, outer_step: Array) -> Any:
    """Every segment but the first, each with what all before it taught."""

    def step(fast, segments):
        now, following = segments
        fast, _ = advance(fast, now)
        return fast, score(fast, following)

    past, _ = _support_and_query(experience)
    future = jax.tree.map(lambda leaf: leaf[1:], experience)
    return trees.mean(jax.lax.scan(step, fast, (past, future))[1])


def after(fast: Fast, advance: Callable, score: Callable, experience: Transition, outer_step: Array) -> Any:
    """The last segment only, with what all before it taught: MAML's query loss (Finn et al. 2017, eq. 1)."""
    past, query = _support_and_query(experience)
    return score(jax.lax.scan(advance, fast, past)[0], query)


def annealed(over: Any) -> Callable:
    """The last segment after every inner step before it: MAML++'s multi-step loss (Antoniou et al. 2019, eq. 4).

    All steps count the same at outer step 0; from there the weights go linearly to `after`'s, the last step only, which
    they reach at outer step `over`. The infos are weighted like the loss. Raises `Misuse` on `over` < 1.
    """
    check_real("over", over, least=1.0)

    def measure(fast, advance, score, experience, outer_step):
        past, query = _support_and_query(experience)
        iterates = trees.flatten_axes(jax.lax.scan(advance, fast, past)[1], 2)
        scores = jax.vmap(lambda fast: score(fast, query))(iterates)
        count = jax.tree.leaves(iterates)[0].shape[0]
        progress = jnp.minimum(outer_step / over, 1.0)
        weights = (1.0 - progress) / count + progress * (jnp.arange(count) == count - 1)
        return jax.tree.map(lambda leaf: weights @ leaf, scores)

    return measure


def _support_and_query(experience: Transition) -> tuple[Transition, Transition]:
    """All segments but the last [K − 1, …], and the last."""
    _check_segments(experience)
    return jax.tree.map(lambda leaf: leaf[:-1], experience), jax.tree.map(lambda leaf: leaf[-1], experience)


def _check_segments(experience: Transition) -> None:
    segments = experience.reward.shape[0]
    require(
        segments >= 2,
        f"a loss after adaptation needs a support and a query, got span.segments={segments}; raise it to 2.",
    )


def views_of(network: QNetwork, params: Any, bootstrap: Any, segment: Transition) -> Views:
    """The Views [T, E] of a segment [T, E]; `params` and `bootstrap` are (network parameters, context) pairs."""

    def outputs(pair, obs):
        weights, context = pair
        return jax.vmap(jax.vmap(lambda o: network.apply(weights, o, context)))(obs)

    return Views(
        now=outputs(params, segment.obs),
        next=outputs(params, segment.next_obs),
        bootstrap_now=outputs(bootstrap, segment.obs),
        bootstrap_next=outputs(bootstrap, segment.next_obs),
    )


def td_loss(loss: Callable, network: QNetwork, params: Any, bootstrap: Any, segment: Transition) -> Array:
    """The mean over a segment [T, E] of a TD loss that is written for one stream [T]."""
    views = views_of(network, params, bootstrap, segment)
    return jnp.mean(jax.vmap(loss, in_axes=1)(views, segment))


# --- checks, by shapes alone


def _check_outputs(learner: MetaLearner, spec: Spec, slow: Slow, fast: Any) -> None:
    """Raise `Misuse` unless `q` takes the spec's observations and gives what its head reads."""
    observation = describe(spec.observation).removeprefix(": ")
    cure = "build its network for the spec of these tasks"
    try:
        given = jax.eval_shape(learner.q, slow, fast, spec.observation)
    except Exception as error:  # flax and jax raise what they please
        reason = " ".join(str(error).split())[:200]
        raise Misuse(f"the learner must take observations {observation}, got the error {reason!r}; {cure}.") from error
    own, vector = jax.random.key(0), jax.ShapeDtypeStruct((spec.head.width,), jnp.float32)
    read = jax.eval_shape(lambda key, vector: spec.head.outputs(lambda name, init: init(key), vector), own, vector)
    check_same("what the learner's q gives the head", *map(_of_one_precision, (read, given)), cure)


def _of_one_precision(abstract: Any) -> Any:
    """Floats of any precision as float32: which one a network computes in is its own affair."""

    def leaf(one):
        return jax.ShapeDtypeStruct(one.shape, jnp.float32) if jnp.issubdtype(one.dtype, jnp.floating) else one

    return jax.tree.map(leaf, abstract)


def check_life(learner: MetaLearner, spec: Spec, slow: Slow, segment: Transition) -> None:
    """Raise `Misuse` unless the learner can live in tasks of `spec`, by segments like this abstract one."""
    key = jax.random.key(0)
    fast = jax.eval_shape(learner.begin, key, slow)
    _check_outputs(learner, spec, slow, fast)
    adapted, info = jax.eval_shape(learner.adapt, key, slow, fast, segment)
    check_same("what adapt returns", fast, adapted, "let adapt return a fast state of begin's structure, shapes and dtypes")
    scalars = all(leaf.shape == () for leaf in jax.tree.leaves(info))
    require(scalars, f"adapt's info must be a dict of scalars, got {info}; reduce it.")


def check_learner(learner: MetaLearner, spec: Spec, segment: Transition, lifetime: Lifetime, lifetimes: Lifetime) -> None:
    """Raise `Misuse` unless the learner's functions fit together, and tasks of `spec`; the others are abstract, for sizes."""
    key = jax.random.key(0)
    slow = jax.eval_shape(lambda key: first_slow(learner, key), key)
    check_life(learner, spec, slow, segment)
    try:
        loss, _ = jax.eval_shape(learner.loss, key, slow, lifetime)
        memory = jax.eval_shape(learner.remember, key, slow, lifetimes)
    except Misuse:
        raise
    except Exception as error:
        reason, size = " ".join(str(error).split())[:200], list(lifetime.experience.reward.shape)
        cure = "build it for the trainer's span, with a td.temporal_difference whose parts are called"
        raise Misuse(f"the learner must take lifetimes {size}, got the error {reason!r}; {cure}.") from error
    require(loss.shape == (), f"the loss of one lifetime must be a scalar, got shape {loss.shape}; take a mean.")
    check_same(
        "what remember returns",
        slow.memory,
        memory,
        "let remember return memory of init's structure, shapes and dtypes",
    )
