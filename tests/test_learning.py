"""The ladder: short runs on families with a known optimum, several seeds at once, on held-out tasks."""

import dataclasses

import numpy as np
import pytest

from metadqn_jax import programs
from metadqn_jax.catalog import FAMILIES, LEARNERS, learners_of
from metadqn_jax.sweep import sweep

pytestmark = pytest.mark.slow


def learn(family_name, learner_name, steps, **changes):
    """{"returns": [seeds, tasks, k], …} after `steps` outer steps of a small network on two seeds."""
    entry = LEARNERS[learner_name]
    family = entry.prepare(FAMILIES[family_name]())
    recipe = dataclasses.replace(family.recipe, outer_steps=steps, hidden=(32, 32), **changes)
    learner, tested = learners_of(entry, family, recipe)
    program = programs.make_program(family, learner, recipe, tested=tested, judge=entry.judge, tasks=64)
    return sweep(lambda hyper: program, {}, seeds=range(2), steps=steps)


def share(table, k):
    """How much of the way from random to optimal is gone after the k-th of 0, 1, 2, 3, 5, 10 steps; by seed."""
    low, high = table["random"].mean(1), table["optimum"].mean(1)
    return (np.asarray(table["returns"])[..., k].mean(1) - low) / (high - low)


LADDER = [
    ("navigation", "maml", 0.5),
    ("navigation", "fomaml", 0.5),
    ("navigation", "meta_sgd", 0.5),
    ("navigation", "cavia", 0.6),
    ("tabular", "maml", 0.6),
    ("tabular", "fomaml", 0.6),
    ("tabular", "anil", 0.6),
]


@pytest.mark.parametrize(("family", "learner", "reached"), LADDER)
def test_meta_learners_adapt(family, learner, reached):
    table = learn(family, learner, 500)
    assert (share(table, 3) > reached).all()
    assert (share(table, 3) > share(table, 0) + 0.2).all()
    assert (table["returns"].mean(1) <= table["optimum"].mean(1)[:, None] + 0.1).all()


def test_multitask_does_not():
    table = learn("navigation", "multitask", 300)
    assert np.ptp(np.asarray(table["returns"]), axis=2).max() == 0
    assert (share(table, 3) < 0.35).all()
