"""Splits into train and test that cannot overlap, and distributions over finite sets of tasks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metadqn_jax import trees
from metadqn_jax.checks import Misuse, check_callable, check_count, check_real, check_same, require
from metadqn_jax.tasks.base import TaskDistribution, TaskSplit, check_kind
from metadqn_jax.types import Array, Task


def split(
    distribution: TaskDistribution, test_share: float = 0.2, by: Callable[[Task], Any] = lambda task: task, again: int = 0
) -> TaskSplit:
    """Give each task to one side by a hash of its numbers: about `test_share` of p(τ) to test, the rest to train.

    A side draws from p(τ) until a task is its own, so no task can ever be on both sides, in finite families too. With `by`
    the hash is that of a part of the task, which the sides then share no value of. To split a side once more, say for
    validation, take another hash: `again` says how often it is scrambled.
    Raises `Misuse` where 1,024 draws leave a side without a task.
    """
    check_kind(distribution)
    check_callable("by", by, "task")
    check_real("test_share", test_share, least=0.001, most=0.999)
    check_count("again", again, least=0)
    _check_hashed(distribution, by)
    border = jnp.uint32(test_share * 2**32)

    def is_test(task):
        hashed = fingerprint(by(task))
        for _ in range(again):
            hashed = _scramble(hashed + 1)
        return hashed < border

    drawn = _answers(distribution, is_test)
    for name, none in (("test", not drawn.any()), ("train", drawn.all())):
        require(
            not none,
            f"the split with test_share={test_share} leaves no {name} task among 1,024 draws; let more of the task vary, "
            "change test_share, or, where it was split before, `again`.",
        )
    return TaskSplit(train=_redrawn(distribution, is_test), test=_redrawn(distribution, lambda task: ~is_test(task)))


def _check_hashed(distribution: TaskDistribution, by: Callable[[Task], Any]) -> None:
    """Raise `Misuse` unless `by` gives numbers that can be hashed."""
    try:
        part = jax.eval_shape(lambda key: by(distribution.sample(key)), jax.random.key(0))
    except TypeError as error:  # as jax says of what is no array
        raise Misuse(
            f"by must give arrays of the task, got the error {' '.join(str(error).split())!r}; return some."
        ) from error
    require(len(jax.tree.leaves(part)) > 0, f"by must give a part of the task, got {part}; return some of its arrays.")


def reserve(distribution: TaskDistribution, test: Task) -> TaskSplit:
    """The finite set `test`, a pytree with a leading [tasks], for testing alone: train draws from p(τ) what is not in it.

    Raises `Misuse` where 1,024 draws are all in it, or they are no set of this distribution's tasks.
    """
    test, _ = _as_set(distribution, test)
    prints = jax.jit(jax.vmap(fingerprint))(test)

    def is_test(task):
        return jnp.any(fingerprint(task) == prints)

    require(
        not _answers(distribution, is_test).all(),
        f"the {len(prints)} tasks that are for testing alone must leave some to train on, got none among 1,024 draws; "
        "keep fewer of them.",
    )
    return TaskSplit(train=_redrawn(distribution, is_test), test=finite(distribution, test))


def _answers(distribution: TaskDistribution, question: Callable[[Task], Array]) -> Array:
    """What `question` answers about 1,024 draws, bool [draws]."""
    with jax.ensure_compile_time_eval():
        ask = jax.jit(lambda key: jax.vmap(lambda k: question(distribution.sample(k)))(jax.random.split(key, 1024)))
        return ask(jax.random.key(0))


def _redrawn(distribution: TaskDistribution, refused: Callable[[Task], Array]) -> TaskDistribution:
    """Draws again until a task is not refused."""

    def sample(key):
        def redraw(state):
            i, _ = state
            return i + 1, distribution.sample(jax.random.fold_in(key, i))

        # What a loop carries is what it returns: a compiler that draws twice, with other roundings, would ask of another task.
        return jax.lax.while_loop(lambda state: refused(state[1]), redraw, redraw((jnp.int32(0), None)))[1]

    return distribution._replace(sample=sample)


def separate(distribution: TaskDistribution, train: Task, test: Task) -> TaskSplit:
    """Uniform draws from two finite sets of tasks, each a pytree with a leading [tasks]. Raises `Misuse` if they overlap."""
    sides = TaskSplit(train=finite(distribution, train), test=finite(distribution, test))
    both = len(_rows(train) & _rows(test))
    require(both == 0, f"train and test must share no task, got {both} in common; remove these from one side.")
    return sides


def _rows(tasks: Task) -> set[bytes]:
    """The numbers of each of `tasks`; not their hashes, two of which may be equal among thousands."""
    leaves = [np.asarray(jnp.asarray(leaf)) + 0 for leaf in jax.tree.leaves(tasks)]  # −0 and 0 are one number
    return {b"".join(leaf[i].tobytes() for leaf in leaves) for i in range(len(leaves[0]))}


def withhold(distribution: TaskDistribution, tasks: Task, held_out: int) -> TaskSplit:
    """Uniform draws from the finite set `tasks`, of which `held_out`, always the same, are for testing alone.

    With `held_out` = 0 both sides draw from all of them: what is measured then is exploration under a known prior, not
    generalisation. Raises `Misuse` unless 0 ≤ held_out < the number of tasks.
    """
    tasks, count = _as_set(distribution, tasks)
    check_count("held_out", held_out, least=0)
    require(held_out < count, f"held_out must leave a task to train on, got {held_out} of {count}; lower it.")
    if held_out == 0:
        return TaskSplit(*[finite(distribution, tasks)] * 2)
    mixed = np.random.default_rng(0).permutation(count)
    train, test = (jax.tree.map(lambda leaf, some=some: leaf[some], tasks) for some in (mixed[held_out:], mixed[:held_out]))
    return separate(distribution, train, test)


def finite(distribution: TaskDistribution, tasks: Task) -> TaskDistribution:
    """`distribution` restricted to uniform draws from `tasks`, a pytree with a leading [tasks].

    Raises `Misuse` unless each of them is like one that the distribution draws, and there is one.
    """
    tasks, count = _as_set(distribution, tasks)

    def sample(key):
        i = jax.random.randint(key, (), 0, count)
        return jax.tree.map(lambda leaf: leaf[i], tasks)

    return distribution._replace(sample=sample)


def _as_set(distribution: TaskDistribution, tasks: Task) -> tuple[Task, int]:
    """A pytree of arrays with a leading [tasks], each task like one that the distribution draws, and how many they are."""
    check_kind(distribution)
    tasks = trees.strengthen(jax.tree.map(jnp.asarray, tasks))
    like = jax.eval_shape(distribution.sample, jax.random.key(0))
    count = max([leaf.shape[0] for leaf in jax.tree.leaves(tasks) if leaf.ndim], default=0)
    cure = "give all that the distribution's sample returns, with a leading [tasks]"
    check_same("a set of tasks", trees.lead(count, like), trees.shapes(tasks), cure)
    require(count > 0, "a set of tasks must have at least one task, got an empty set; add tasks to it.")
    return tasks, count


def fingerprint(task: Task) -> Array:
    """A hash of a task's numbers, uint32 []: equal tasks have equal ones (murmur3's finaliser over position and bits)."""
    total = jnp.uint32(0)
    for leaf in map(jnp.asarray, jax.tree.leaves(task)):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        flat = jnp.ravel(jax.random.key_data(leaf) if is_key else leaf)
        bits = _bits(flat)
        place = jnp.arange(1, bits.size + 1, dtype=jnp.uint32)
        total = _scramble(total + jnp.sum(_scramble(bits + _scramble(place)), dtype=jnp.uint32))
    return total


def _bits(flat: Array) -> Array:
    if jnp.issubdtype(flat.dtype, jnp.floating):
        bits = jax.lax.bitcast_convert_type(flat.astype(jnp.float32), jnp.uint32)
        return jnp.where(bits << 1 == 0, 0, bits)  # −0 and 0 are one number; XLA would drop an addition of 0
    return flat.astype(jnp.uint32)


def _scramble(x: Array) -> Array:
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
