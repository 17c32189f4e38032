"""A sweep is the same as its members one by one, in one compiled program."""

import dataclasses

import jax
import numpy as np
import pytest

from metadqn_jax import networks, programs, training
from metadqn_jax.checks import Misuse
from metadqn_jax.learners.descent import maml
from metadqn_jax.sweep import members, sweep
from metadqn_jax.tasks.navigation import navigation
from metadqn_jax.training import steps_together
from metadqn_jax.types import Span

RATES, SEEDS, STEPS = [0.1, 0.5], [0, 3], 3


@pytest.fixture(scope="module")
def train():
    family = navigation()
    recipe = dataclasses.replace(family.recipe, span=Span(2, 3, 2), meta_batch=2, outer_steps=STEPS, inner_steps=2)
    traces = []

    def train(hyper):
        traces.append(1)
        changed = dataclasses.replace(recipe, discount=hyper.get("discount", 0.7))
        network, inner, outer, *_ = programs.make_parts(
            family.split.train, changed, lambda spec: networks.mlp(spec, hidden=(8,))
        )

        def learner(steps):
            return maml(network, inner=inner, outer=outer, rate=hyper["rate"], steps=steps)

        return programs.make_program(family, learner, changed, tasks=4, steps=(0, 1), episodes=1)

    train.traces = traces
    return train


def test_a_run_is_a_member_of_a_sweep_however_it_is_chunked(train):
    program = train({"rate": 0.5})
    seen = []
    state, metrics = training.train(program.trainer, jax.random.key(3), STEPS, chunk=2, progress=lambda *row: seen.append(row))
    assert [done for done, _ in seen] == [2, 3]
    assert metrics["loss"].shape == (STEPS,)
    returns = jax.jit(program.evaluate)(jax.random.key(0), state.slow)["returns"]
    table = sweep(train, {"rate": [0.5]}, [3], steps=STEPS)
    np.testing.assert_allclose(returns, table["returns"][0], rtol=1e-4, atol=1e-4)
    whole, _ = training.train(program.trainer, jax.random.key(3), STEPS)
    jax.tree.map(np.testing.assert_array_equal, state.slow.params, whole.slow.params)
    with pytest.raises(Misuse, match="steps"):
        training.train(program.trainer, jax.random.key(3), 0)


def test_a_run_ends_where_its_progress_says_so(train):
    trainer = train({"rate": 0.5}).trainer
    state, metrics = training.train(trainer, jax.random.key(3), STEPS, chunk=1, progress=lambda done, row: done == 2)
    assert int(state.slow.step) == len(metrics["loss"]) == 2


def test_a_run_that_diverges_says_so(train):
    trainer = train({"rate": 0.5}).trainer

    def broken(key, state):
        state, metrics = trainer.step(key, state)
        return state, {**metrics, "loss": np.nan * metrics["loss"]}

    with pytest.warns(UserWarning, match="training diverged: the loss is nan after 1 outer steps"):
        training.train(trainer._replace(step=broken), jax.random.key(3), 1)


def test_a_sweep_equals_its_members(train):
    table = sweep(train, {"rate": RATES}, SEEDS, steps=STEPS, chunk=2)
    assert table["rate"].tolist() == [0.1, 0.1, 0.5, 0.5]
    assert table["seed"].tolist() == [0, 3, 0, 3]
    assert table["returns"].shape == (4, 4, 2)
    row = 2
    key_init, key_steps = jax.random.split(jax.random.key(0))
    program = train({"rate": np.float32(0.5)})
    state, _ = jax.jit(steps_together(program.trainer, STEPS))(key_steps, jax.jit(program.trainer.init)(key_init))
    alone = jax.jit(program.evaluate)(jax.random.key(0), state.slow)
    np.testing.assert_allclose(table["returns"][row], alone["returns"], atol=1e-3)
    assert np.ptp(table["returns"][:, 0, 1]) > 0, "members must differ"


def test_a_member_that_diverged_is_nan_and_no_policy(train):
    with pytest.warns(UserWarning, match="1 of 2 members of the sweep diverged"):
        table = sweep(train, {"rate": [0.1, 1e38]}, [0], steps=STEPS)
    assert np.isfinite(table["returns"][0]).all()
    assert np.isnan(table["returns"][1]).all()


def test_more_members_take_no_more_traces(train):
    train.traces.clear()
    sweep(train, {"rate": [0.1]}, [0], steps=1)
    few = len(train.traces)
    train.traces.clear()
    sweep(train, {"rate": [0.1, 0.2, 0.3], "discount": [0.5, 0.9]}, [0, 1], steps=1)
    assert len(train.traces) == few


def test_members_run_seeds_fastest():
    table = members({"a": [1.0, 2.0], "b": [3.0]}, [5, 6])
    assert {name: column.tolist() for name, column in table.items()} == {
        "a": [1.0, 1.0, 2.0, 2.0],
        "b": [3.0] * 4,
        "seed": [5, 6, 5, 6],
    }
