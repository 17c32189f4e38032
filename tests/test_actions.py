"""The discrete head: one greedy action, one value of it, and exploration with the frequencies it promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax.actions import Support, discrete, grid, held
from metadqn_jax.checks import Misuse
from metadqn_jax.loops import repeat

A, DRAWS = 4, 4_000
HEADS = {"plain": discrete(A), "support": discrete(A, Support(-2.0, 6.0, 5))}


def check_frequencies(actions, probabilities, errors=4.5):
    """How often each action came is within `errors` standard errors of its probability."""
    counts = np.bincount(np.asarray(actions), minlength=A)
    probabilities = np.asarray(probabilities)
    spread = np.sqrt(DRAWS * probabilities * (1 - probabilities))
    assert (np.abs(counts - DRAWS * probabilities) <= errors * spread).all(), counts


def some_outputs(head, seed=0, count=16):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(count, head.width)), jnp.float32)


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_the_maximum_is_the_value_of_the_greedy_action(head):
    outputs = some_outputs(head)
    action = jax.vmap(head.greedy)(outputs)
    maximum = jax.vmap(head.maximum)(outputs)
    assert action.dtype == jnp.int32
    np.testing.assert_array_equal(maximum, jax.vmap(head.value)(outputs, action))
    every = jnp.stack([jax.vmap(lambda o, a=a: head.value(o, a))(outputs) for a in range(A)], 1)
    np.testing.assert_array_equal(every, jax.vmap(head.values)(outputs))
    np.testing.assert_array_equal(maximum, every.max(1))


def test_with_a_support_a_value_is_the_mean_of_its_categorical_distribution():
    head = HEADS["support"]
    outputs = some_outputs(head, 1, 1)[0]
    np.testing.assert_allclose(head.support.edges, [-2, -0.4, 1.2, 2.8, 4.4, 6], rtol=1e-5)
    np.testing.assert_allclose(head.support.centers, [-1.2, 0.4, 2.0, 3.6, 5.2], rtol=1e-5)
    for a, logits in enumerate(np.asarray(outputs).reshape(A, 5)):
        weights = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_array_equal(head.logits(outputs, a), logits)
        np.testing.assert_allclose(head.value(outputs, a), weights @ [-1.2, 0.4, 2.0, 3.6, 5.2], rtol=1e-5)


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_the_policy_is_a_softmax_of_the_values(head):
    outputs = some_outputs(head, 2, 1)[0]
    q = np.asarray(head.values(outputs), np.float64)
    np.testing.assert_allclose(head.policy(outputs, 0.5), np.exp(q / 0.5) / np.exp(q / 0.5).sum(), rtol=1e-5)
    np.testing.assert_allclose(head.policy(outputs, 1e-6), np.arange(A) == head.greedy(outputs), atol=1e-6)


def test_sample_is_uniform():
    actions = jax.vmap(HEADS["plain"].sample)(jax.random.split(jax.random.key(0), DRAWS))
    assert actions.dtype == jnp.int32
    check_frequencies(actions, np.full(A, 1 / A))


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_perturb_replaces_the_action_with_probability_epsilon(epsilon):
    head = HEADS["plain"]
    keys = jax.random.split(jax.random.key(1), DRAWS)
    carry, actions = jax.vmap(lambda key: head.perturb(key, head.rest(), jnp.int32(2), epsilon))(keys)
    assert carry == head.rest()
    assert actions.dtype == jnp.int32
    check_frequencies(actions, (1 - epsilon) * (np.arange(A) == 2) + epsilon / A)


def test_the_environment_takes_the_index_itself():
    assert HEADS["plain"].decode(3) == 3


@pytest.mark.parametrize(
    "build",
    [
        lambda: discrete(0),
        lambda: discrete(2.0),
        lambda: discrete(2, Support(0.0, 1.0, 1)),
        lambda: discrete(2, Support(1.0, 1.0, 5)),
    ],
)
def test_impossible_sizes_are_refused_in_one_sentence(build):
    with pytest.raises(Misuse, match=r"^[^\n]*must be[^\n]*; [^\n]*\.$"):
        build()


# --- boxes


def test_a_grid_has_every_combination_of_levels():
    head = grid([-0.1, 0.0], [0.1, 3.0], 4)
    assert head.width == 16
    levels = [(x, y) for x in np.linspace(-0.1, 0.1, 4) for y in np.linspace(0, 3, 4)]
    decoded = jax.vmap(head.decode)(jnp.arange(16))
    assert decoded.dtype == jnp.float32
    np.testing.assert_allclose(decoded, levels, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(grid([0.0], [1.0], 2).decode)(jnp.arange(2)), [[0.0], [1.0]])


@pytest.mark.parametrize(("low", "high"), [([0, 0], [1]), ([0], [np.inf]), ([-np.inf], [1]), (0.0, 1.0), ([0, 1], [1, 1])])
def test_a_grid_needs_a_bounded_box(low, high):
    with pytest.raises(Misuse, match=r"^a grid must lie in a box with finite bounds [^\n]*; bound it\.$"):
        grid(low, high, 3)


def test_a_grid_needs_levels_and_not_too_many_cells():
    with pytest.raises(Misuse, match=r"^bins must be a whole number of at least 2, got 1; change bins\.$"):
        grid([0], [1], 1)
    with pytest.raises(Misuse, match=r"^a grid must have at most 128 cells, got 3\^6 = 729; lower bins, .*\.$"):
        grid([0] * 6, [1] * 6, 3)


def explored(head, epsilon, steps, lives):
    """Actions [lives, steps] of streams whose greedy action is 2."""

    def one(key):
        return repeat(key, steps, lambda key, t, carry: head.perturb(key, carry, jnp.int32(2), epsilon), head.rest())[1]

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(3), lives)))


@pytest.mark.parametrize("epsilon", [0.0, 0.4, 1.0])
def test_held_actions_come_in_runs_and_keep_the_share_of_exploration(epsilon):
    lives, steps, hold = 400, 60, 5
    actions = explored(held(HEADS["plain"], hold), epsilon, steps, lives)
    off = actions != 2  # three in four drawn actions
    share = off[:, 20:].mean(1)  # the first steps are not yet as the later ones
    error = max(share.std(), 1e-6) / np.sqrt(lives)
    assert abs(share.mean() - 0.75 * epsilon) < 4.5 * error + 1e-6
    changes = np.diff(actions, axis=1) != 0
    into = (~off[:, :-1] & off[:, 1:])[:, : steps - hold]  # a wandering action that begins lasts
    for i, t in np.argwhere(into):
        assert not changes[i, t + 1 : t + hold].any()
    assert into.any() == (epsilon > 0)
    if epsilon == 1.0:
        assert (actions.reshape(lives, -1, hold) == actions.reshape(lives, -1, hold)[..., :1]).all()
        check_frequencies(actions[:, ::hold].ravel()[:DRAWS], np.full(A, 1 / A))


def test_holding_for_one_step_is_no_holding():
    actions = explored(held(HEADS["plain"], 1), 0.4, 10, 400)
    check_frequencies(actions.ravel(), 0.6 * (np.arange(A) == 2) + 0.4 / A)


def test_an_action_is_held_for_a_step_at_least():
    with pytest.raises(Misuse, match="steps must be a whole number of at least 1"):
        held(HEADS["plain"], 0)
