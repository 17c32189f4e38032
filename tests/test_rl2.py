"""RL²: what is trained is what acts, and its loss against a loop that steps through the trial."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
import pytest

from metadqn_jax import networks, td
from metadqn_jax.actions import discrete
from metadqn_jax.checks import Misuse
from metadqn_jax.explore import by_segment
from metadqn_jax.learners.base import first_slow
from metadqn_jax.learners.rl2 import rl2
from metadqn_jax.memories.gru import gru
from metadqn_jax.memories.linear_attention import linear_attention
from metadqn_jax.tasks.gridnavi import gridnavi
from metadqn_jax.tasks.trials import in_trials
from metadqn_jax.training import make_trainer
from metadqn_jax.types import Lifetime, Span, Spec, Transition

LENGTH, A, DISCOUNT, TRACE = 6, 3, 0.9, 0.6
HEAD = discrete(A)
SPEC = Spec(jax.ShapeDtypeStruct((2,), jnp.float32), HEAD)
LOSS = td.temporal_difference(HEAD, select=td.greedy, target=td.lambda_return(DISCOUNT, TRACE), regression=td.squared)
MEMORIES = {"gru": gru(SPEC, 5), "actions": linear_attention(SPEC, per_action=True)}
every = pytest.mark.parametrize("memory", MEMORIES.values(), ids=MEMORIES)


def build(memory, **choices):
    network = networks.reader(SPEC, memory.context, hidden=(4, 4))
    return rl2(network, memory, loss=lambda step: LOSS, length=LENGTH, **choices)


def lifetime():
    keys = jax.random.split(jax.random.key(1), 4)
    obs = jax.random.normal(keys[0], (LENGTH + 1, 2))
    last = jnp.arange(LENGTH) == LENGTH - 1
    action, reward = jax.random.randint(keys[1], (LENGTH,), 0, A), jax.random.normal(keys[2], (LENGTH,))
    trial = Transition(obs[:-1], action, reward, obs[1:], last, jnp.zeros(LENGTH, bool))
    return Lifetime((), jax.tree.map(lambda leaf: leaf[:, None, None], trial))


def slow_of(learner):
    slow = first_slow(learner, jax.random.key(0))
    return slow._replace(memory=jnp.linspace(-1.0, 1.0, LENGTH))


def stepwise(learner, slow, trial):
    """Q [LENGTH, A] before each transition, and the greatest Q after it at its successor [LENGTH], one step at a time."""
    fast, before, after = learner.begin(jax.random.key(2), slow), [], []
    for t in range(LENGTH):
        segment = jax.tree.map(lambda leaf, t=t: leaf[t], trial)
        before.append(learner.q(slow, fast, segment.obs[0, 0]))
        fast, _ = learner.adapt(jax.random.fold_in(jax.random.key(3), t), slow, fast, segment)
        after.append(learner.q(slow, fast, segment.next_obs[0, 0]).max())
    return jnp.stack(before), jnp.stack(after)


@every
def test_the_loss_is_that_of_the_acting_pass(memory):
    learner = build(memory)
    slow, life = slow_of(learner), lifetime()
    q, following = stepwise(learner, slow, life.experience)
    reward, action = life.experience.reward.ravel() - slow.memory, life.experience.action.ravel()
    goal, goals = 0.0, []
    for t in reversed(range(LENGTH)):  # the trial's last step terminates
        goal = reward[t] + DISCOUNT * (t < LENGTH - 1) * ((1 - TRACE) * following[t] + TRACE * goal)
        goals.append(goal)
    errors = q[jnp.arange(LENGTH), action] - jnp.stack(goals[::-1])
    loss, _ = learner.loss(jax.random.key(4), slow, life)
    assert jnp.allclose(loss, jnp.mean(errors**2) / 2, rtol=1e-4)


@every
def test_the_order_of_transitions_matters(memory):
    learner = build(memory)
    slow, life = slow_of(learner), lifetime()
    swapped = jax.tree.map(lambda leaf: leaf[jnp.array([1, 0, 2, 3, 4, 5])], life.experience)
    assert not jnp.allclose(stepwise(learner, slow, life.experience)[0][3], stepwise(learner, slow, swapped)[0][3], atol=1e-5)


def test_scoring_the_chosen_action_alone_changes_no_value_and_no_gradient():
    network = networks.scorer(SPEC, context=(A, 4), hidden=(5, 6))
    params, obs = network.init(jax.random.key(0)), jnp.ones(2)
    context, action = jax.random.normal(jax.random.key(1), (A, 4)), jnp.int32(2)

    def of_all(params, context):
        return network.apply(params, obs, context)[action]

    def of_one(params, context):
        return network.chosen(params, obs, context, action)[action]

    both = [jax.value_and_grad(one, argnums=(0, 1))(params, context) for one in (of_all, of_one)]
    for a, b in zip(*map(jax.tree.leaves, both), strict=True):
        assert jnp.allclose(a, b, atol=1e-6)


def test_a_scorer_is_blind_to_the_order_of_actions():
    network = networks.scorer(SPEC, context=(A, 4), hidden=(5, 6), layer_norm=True)
    params, order = network.init(jax.random.key(0)), jnp.array([2, 0, 1])
    context = jax.random.normal(jax.random.key(1), (A, 4))
    values = network.apply(params, jnp.ones(2), context)
    assert jnp.allclose(network.apply(params, jnp.ones(2), context[order]), values[order], atol=1e-6)


def test_a_loss_that_reads_every_present_value_is_the_same_through_a_scorer():
    memory = MEMORIES["actions"]
    network = networks.reader(SPEC, memory.context, hidden=(4, 4))
    loss = td.temporal_difference(HEAD, select=td.munchausen(), target=td.one_step(DISCOUNT), regression=td.squared)
    sparing, whole = (
        rl2(one, memory, loss=lambda step: loss, length=LENGTH) for one in (network, network._replace(chosen=None))
    )
    slow, life = slow_of(sparing), lifetime()
    of_both = [jax.jit(jax.value_and_grad(lambda p, one=one: of(one, slow, life, p)))(slow.params) for one in (sparing, whole)]
    for a, b in zip(*map(jax.tree.leaves, of_both), strict=True):
        assert jnp.allclose(a, b, atol=1e-6)


def of(learner, slow, life, params):
    return learner.loss(jax.random.key(4), slow._replace(params=params), life)[0]


def test_rewards_are_centred_by_a_running_mean_for_each_step():
    learner = build(MEMORIES["gru"])
    slow, life = first_slow(learner, jax.random.key(0)), lifetime()
    lives = jax.tree.map(lambda leaf: jnp.stack([leaf, 3 * leaf]), life._replace(task=jnp.zeros(())))
    first = learner.remember(jax.random.key(1), slow, lives)
    assert jnp.allclose(first, 2 * life.experience.reward.ravel(), atol=1e-6)
    later = learner.remember(jax.random.key(1), slow._replace(memory=first, step=jnp.int32(1000)), lives)
    assert jnp.allclose(later, first, atol=1e-6)
    assert not build(MEMORIES["gru"], centred=False).remember(jax.random.key(1), slow, lives).any()


def trainer(span):
    family = in_trials(gridnavi())
    spec = family.split.train.spec
    memory = gru(spec, 4)
    network = networks.reader(spec, memory.context, hidden=(4,))
    loss = td.temporal_difference(spec.head, select=td.greedy, target=td.one_step(0.9), regression=td.squared)
    learner = rl2(network, memory, loss=lambda step: loss, length=span.segments)
    return make_trainer(learner, family.split.train, span, explore=by_segment(0.1), optimizer=optax.sgd(0.1), meta_batch=2)


def test_misuse():
    span = Span(60, 1, 1)
    with pytest.raises(Misuse, match=r"one stream in its order, got span.streams=2"):
        trainer(dataclasses.replace(span, streams=2))
    with pytest.raises(Misuse, match=r"one transition at a time, got span.steps=3"):
        trainer(dataclasses.replace(span, steps=3))
    with pytest.raises(Misuse, match="must read the memory's context"):
        rl2(networks.mlp(SPEC, context=3), MEMORIES["gru"], loss=lambda step: LOSS, length=LENGTH)
    with pytest.raises(Misuse, match="one row for each"):
        networks.scorer(SPEC, context=(A + 1, 4))
    with pytest.raises(Misuse, match="length must be"):
        rl2(networks.mlp(SPEC, context=5), MEMORIES["gru"], loss=lambda step: LOSS, length=0)
