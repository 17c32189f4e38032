"""Learning curves of long lives in one task, and the pieces that a DQN from scratch stores in them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax import td
from metadqn_jax.actions import discrete
from metadqn_jax.checks import Misuse
from metadqn_jax.curves import learning_curve
from metadqn_jax.learners.base import MetaLearner, first_slow, forget
from metadqn_jax.learners.multitask import scratch
from metadqn_jax.memories.base import blank
from metadqn_jax.networks import mlp
from metadqn_jax.tasks.base import TaskDistribution
from metadqn_jax.types import Slow, Span, Spec, Step, Transition

HEAD = discrete(10)
SPEC = Spec(jax.ShapeDtypeStruct((1,), jnp.float32), HEAD)
SLOW = Slow((), (), (), jnp.int32(0))


def paying() -> TaskDistribution:
    """A step pays the action, and 100 in its second place the steps before; nothing ends."""

    def step(key, task, world, action):
        world = world + 1
        obs = jnp.float32(world)[None]
        return world, Step(obs, obs, jnp.float32(action), jnp.bool_(False), jnp.bool_(False))

    return TaskDistribution(lambda key: jnp.int32(0), lambda key, task: (task, jnp.zeros(1)), step, SPEC)


def test_a_curve_shows_a_life_after_each_of_its_parts():
    """The learner's greedy action is the number of adaptations so far, and it checks what it adapts on."""

    def adapt(key, slow, fast, segment):
        first = fast * 3.0  # streams go on from segment to segment
        whole = (segment.obs[0, :, 0] == first).all() & (segment.reward == fast).all() & (segment.obs.shape == (3, 2, 1))
        return jnp.where(whole, fast + 1, -1), {}

    learner = MetaLearner(
        init=lambda key: ((), ()),
        begin=lambda key, slow: jnp.int32(0),
        q=lambda slow, fast, obs: jax.nn.one_hot(fast, 10),
        adapt=adapt,
        loss=lambda key, slow, lifetime: (jnp.zeros(()), {}),
        remember=forget,
    )
    life = (learner, SLOW, paying(), jnp.int32(0), Span(6, 3, 2))
    explore = lambda outer_step, segment, t: 0.0  # noqa: E731
    curve = learning_curve(jax.random.key(0), *life, explore, points=3, horizon=5, episodes=2)
    np.testing.assert_array_equal(curve, [10.0, 20.0, 30.0])  # five steps of the action 2, 4 or 6
    with pytest.raises(Misuse, match="points must divide the 6 segments, got 4; change"):
        learning_curve(jax.random.key(0), *life, explore, points=4, horizon=5)


def test_exploration_follows_the_segments_of_the_whole_life():
    learner = MetaLearner(
        init=lambda key: ((), ()),
        begin=lambda key, slow: jnp.float32(0),
        q=lambda slow, fast, obs: jnp.append(fast, jnp.zeros(9)),  # action 0 is greedy, and does not pay
        adapt=lambda key, slow, fast, segment: (fast + jnp.any(segment.reward > 0), {}),
        loss=lambda key, slow, lifetime: (jnp.zeros(()), {}),
        remember=forget,
    )
    explored = learner._replace(q=lambda slow, fast, obs: jax.nn.one_hot(fast.astype(jnp.int32), 10) * (obs[0] < 0.5))
    span = Span(6, 4, 8)
    curve = learning_curve(
        *(jax.random.key(0), explored, SLOW, paying(), jnp.int32(0), span),
        lambda outer_step, segment, t: jnp.where(segment % 2 == 1, 1.0, 0.0),
        points=3,
        horizon=1,
        episodes=1,
    )
    np.testing.assert_array_equal(curve, [1.0, 2.0, 3.0])  # one segment in two of each part explores


@pytest.mark.parametrize(("length", "context"), [(1, 0), (3, 0), (1, 2)])
def test_a_dqn_from_scratch_stores_transitions_in_a_row(length, context):
    loss = td.temporal_difference(HEAD, select=td.greedy, target=td.lambda_return(0.9, 0.8), regression=td.squared)
    sizes = {"steps": 1, "capacity": 12 // length, "minibatch": 2, "length": length}
    learner = scratch(mlp(SPEC, hidden=(4,), context=context), blank(SPEC), loss=loss, rate=1e-3, **sizes)
    slow = first_slow(learner, jax.random.key(0))
    fast = learner.begin(jax.random.key(1), slow)
    time, stream = np.meshgrid(np.arange(6), np.arange(2), indexing="ij")
    numbers = jnp.float32(10 * stream + time)
    segment = Transition(numbers[..., None], jnp.zeros((6, 2), jnp.int32), numbers, numbers[..., None], *[numbers < 0] * 2)
    adapted, _ = jax.jit(learner.adapt)(jax.random.key(2), slow, fast, segment)
    stored = np.asarray(adapted.store.items.reward)
    expected = [[10 * s + first + i for i in range(length)] for first, s in itertools.product(range(0, 6, length), range(2))]
    np.testing.assert_array_equal(stored, expected)
    assert jnp.isfinite(learner.q(slow, adapted, segment.obs[0, 0])).all()
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(fast.params), jax.tree.leaves(adapted.params), strict=True))


def test_pieces_must_fit_a_segment():
    loss = td.temporal_difference(HEAD, select=td.greedy, target=td.one_step(0.9), regression=td.squared)
    sizes = {"steps": 1, "capacity": 12, "minibatch": 2, "length": 4}
    learner = scratch(mlp(SPEC, hidden=(4,)), blank(SPEC), loss=loss, rate=1e-3, **sizes)
    segment = jax.tree.map(lambda leaf: jnp.zeros((6, 2, *leaf.shape), leaf.dtype), blank(SPEC))
    slow = jax.eval_shape(lambda: first_slow(learner, jax.random.key(0)))
    with pytest.raises(Misuse, match="cut into pieces of 4 steps, got 6; change length"):
        jax.eval_shape(lambda key, slow: learner.adapt(key, slow, learner.begin(key, slow), segment), jax.random.key(0), slow)
