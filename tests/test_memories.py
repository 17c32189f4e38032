"""Memories: the stream form equals the step form, and each remembers what it should."""

import jax
import jax.numpy as jnp
import pytest

from metadqn_jax.actions import candidates, discrete, naf
from metadqn_jax.checks import Misuse
from metadqn_jax.memories.gru import gru
from metadqn_jax.memories.linear_attention import linear_attention
from metadqn_jax.memories.linear_recurrence import linear_recurrence
from metadqn_jax.memories.transformer import transformer
from metadqn_jax.memories.value_iteration import value_iteration
from metadqn_jax.types import Spec, Transition

T, A = 7, 4
SPEC = Spec(jax.ShapeDtypeStruct((3,), jnp.float32), discrete(A))
MEMORIES = {
    "gru": gru(SPEC, 5),
    "linear recurrence": linear_recurrence(SPEC, width=6),
    "linear attention": linear_attention(SPEC),
    "linear attention, read for each action": linear_attention(SPEC, per_action=True),
    "transformer": transformer(SPEC, length=T + 2, width=4),
    "value iteration": value_iteration(SPEC, places=5, plans=3, sweeps=2),
}
every = pytest.mark.parametrize("memory", MEMORIES.values(), ids=MEMORIES)


def stream():
    keys = jax.random.split(jax.random.key(1), 4)
    never = jnp.zeros(T, bool)
    obs, next_obs = (jax.random.normal(key, (T, 3)) for key in keys[:2])
    return Transition(obs, jax.random.randint(keys[2], (T,), 0, A), jax.random.normal(keys[3], (T,)), next_obs, never, never)


def parameters(memory):
    """Away from the zeros that some start with."""
    leaves, tree = jax.tree.flatten(memory.init(jax.random.key(2)))
    keys = jax.random.split(jax.random.key(3), len(leaves))
    noise = [0.3 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, [leaf + move for leaf, move in zip(leaves, noise, strict=True)])


@every
def test_whole_stream_equals_step_by_step(memory):
    params, seen = parameters(memory), stream()
    trace = memory.trace(params, seen)
    before, after = memory.recall(params, trace, seen.obs, False), memory.recall(params, trace, seen.next_obs, True)
    state = memory.begin(params)
    for t in range(T):
        one = jax.tree.map(lambda leaf, t=t: leaf[t], seen)
        context = memory.read(params, state, one.obs)
        assert context.shape == memory.context
        assert jnp.allclose(context, before[t], atol=1e-5)
        state = memory.step(params, state, one)
        assert jnp.allclose(memory.read(params, state, one.next_obs), after[t], atol=1e-5)


@every
def test_both_forms_have_one_gradient(memory):
    params, seen = parameters(memory), stream()

    def whole(params):
        return jnp.sum(memory.recall(params, memory.trace(params, seen), seen.obs, True) ** 2)

    def stepwise(params):
        def step(state, one):
            state = memory.step(params, state, one)
            return state, memory.read(params, state, one.obs)

        return jnp.sum(jax.lax.scan(step, memory.begin(params), seen)[1] ** 2)

    for a, b in zip(*map(jax.tree.leaves, (jax.grad(whole)(params), jax.grad(stepwise)(params))), strict=True):
        assert jnp.allclose(a, b, rtol=1e-3, atol=1e-4)


@every
def test_what_comes_later_is_not_read(memory):
    params, seen = parameters(memory), stream()
    changed = seen._replace(reward=seen.reward.at[4].add(10.0))
    for after in (False, True):
        first, second = (memory.recall(params, memory.trace(params, one), seen.obs, after) for one in (seen, changed))
        same = jnp.isclose(first, second, atol=1e-6).reshape(T, -1).all(1)
        assert same.tolist() == [t < 4 if after else t <= 4 for t in range(T)]


def test_a_memory_read_for_each_action_finds_what_that_action_gave():
    memory = linear_attention(SPEC, per_action=True)
    params, seen = parameters(memory), stream()._replace(action=jnp.full(T, 2))
    changed = seen._replace(reward=seen.reward + 5.0)
    own = memory.context[1] // 2  # the other half is the mean of all values
    first, second = (memory.recall(params, memory.trace(params, one), seen.obs, True)[:, :, :own] for one in (seen, changed))
    assert (~jnp.isclose(first, second)).any((0, 2)).tolist() == [False, False, True, False]


def test_a_memory_that_plans_prefers_the_way_to_a_reward_two_steps_ahead():
    memory = value_iteration(SPEC, places=3, plans=2, sweeps=3)
    state, params = memory.begin(None), memory.init(jax.random.key(0))
    for here, action, reward, there in ((0, 0, 0.0, 0), (0, 1, 0.0, 1), (1, 2, 5.0, 2)):
        place, following = jnp.eye(3)[here], jnp.eye(3)[there]
        seen = Transition(place, jnp.int32(action), jnp.float32(reward), following, jnp.bool_(False), jnp.bool_(False))
        state = memory.step(params, state, seen)
    context = memory.read(params, state, jnp.eye(3)[0])
    value, reward = context[:, :2], context[:, 4:]
    assert (value[1] > value[0] + 0.1).all()
    assert jnp.allclose(reward[1], reward[0], atol=0.05)


def test_a_transformer_of_one_layer_reads_the_last_transitions_alone():
    memory, seen = transformer(SPEC, length=3, width=4, layers=1), stream()
    params = parameters(memory)

    def read_after(first):
        state = memory.begin(params)
        for t in range(first, T):  # from a multiple of the length on, so that places are the same
            state = memory.step(params, state, jax.tree.map(lambda leaf, t=t: leaf[t], seen))
        return memory.read(params, state, seen.obs[-1])

    assert jnp.allclose(read_after(0), read_after(3), atol=1e-5)
    assert not jnp.allclose(read_after(0), read_after(6), atol=1e-3)


@pytest.mark.parametrize("build", [value_iteration, lambda spec: linear_attention(spec, per_action=True)])
def test_actions_that_features_stand_for_are_not_known_one_by_one(build):
    with pytest.raises(Misuse, match=r"one by one, got 5 actions embedded in 2 numbers each; [^\n]*\.$"):
        build(SPEC._replace(head=candidates(jax.random.normal(jax.random.key(0), (5, 2)))))


def test_misuse():
    with pytest.raises(Misuse, match="multiple of heads"):
        transformer(SPEC, length=4, width=3, heads=2)
    short = transformer(SPEC, length=4)
    params = short.init(jax.random.key(0))
    with pytest.raises(Misuse, match="length 4 cannot read 7"):
        short.trace(params, stream())
    with pytest.raises(Misuse, match="know the actions one by one"):
        value_iteration(SPEC._replace(head=naf([-1.0], [1.0])))
    with pytest.raises(Misuse, match="width must be"):
        gru(SPEC, 0)
