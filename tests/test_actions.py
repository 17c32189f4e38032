"""The discrete head: one greedy action, one value of it, and exploration with the frequencies it promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax.actions import Support, discrete
from metadqn_jax.checks import Misuse

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
