"""How a learner is built of a family's parts, and what the catalog says of it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from metadqn_jax.evaluation import SEGMENTS
from metadqn_jax.judges import Judge, by_steps
from metadqn_jax.learners import multitask, rules
from metadqn_jax.learners.base import MetaLearner
from metadqn_jax.learners.maml_plus_plus import maml_plus_plus
from metadqn_jax.learners.mql import mql
from metadqn_jax.learners.pearl import pearl
from metadqn_jax.learners.reptile import reptile
from metadqn_jax.learners.rl2 import rl2
from metadqn_jax.learners.varibad import varibad
from metadqn_jax.memories.base import blank
from metadqn_jax.programs import Parts
from metadqn_jax.tasks.base import Family
from metadqn_jax.types import Span

SPAN = ("segment_steps", "streams")  # these options, those of an inner loop and a memory, only some learners take
INNER = ("inner_steps", "inner_rate", "bootstrap", "target")


class Entry(NamedTuple):
    """A learner as the command line knows it.

    line, paper: for `metadqn list`.   trained, tested: `(parts, steps, **choices) -> MetaLearner`.
    takes: which of the options that only some learners take.   prepare: what it needs to see of a family.
    judge: how its adaptation is measured.   memory: the name of its usual one.   context: `(memory) -> shape`, what its
    network reads besides the observation.
    """

    line: str
    paper: str
    trained: Callable[..., MetaLearner]
    tested: Callable[..., MetaLearner]
    takes: tuple[str, ...] = SPAN
    prepare: Callable[[Family], Family] = lambda family: family
    judge: Callable[..., Judge] = by_steps
    memory: str | None = None
    context: Callable[[Any], tuple[int, ...] | None] = lambda memory: None


def alike(line: str, paper: str, factory: Callable[..., MetaLearner], **choices: Any) -> Entry:
    """The entry of a learner that is trained as it is tested."""
    return Entry(line, paper, factory, factory, **choices)


def of_descent(factory: Callable[..., MetaLearner], **fixed: Any) -> Callable[..., MetaLearner]:
    """What builds a learner that descends on both losses at the recipe's inner rate."""

    def build(parts: Parts, steps: int, **choices: Any) -> MetaLearner:
        losses = {"inner": parts.inner, "outer": parts.outer}
        return factory(parts.network, **losses, rate=parts.recipe.inner_rate, steps=steps, **{**fixed, **choices})

    return build


def of_maml_plus_plus(parts: Parts, steps: int, **choices: Any) -> MetaLearner:
    """MAML++ whose multi-step loss fades over half of the run."""
    recipe = parts.recipe
    schedule = {"count": recipe.inner_steps * (recipe.span.segments - 1), "over": recipe.outer_steps / 2}
    return of_descent(maml_plus_plus, **schedule)(parts, steps, **choices)


def of_reptile(parts: Parts, steps: int, **choices: Any) -> MetaLearner:
    """Reptile at the recipe's inner rate."""
    return reptile(parts.network, inner=parts.inner, rate=parts.recipe.inner_rate, steps=steps, **choices)


def of_multitask(parts: Parts, steps: int) -> MetaLearner:
    """One DQN on the outer loss."""
    return multitask.multitask(parts.network, loss=parts.outer)


def of_finetune(parts: Parts, steps: int) -> MetaLearner:
    """The multi-task DQN with `sgd` at the recipe's inner rate."""
    return multitask.finetune(parts.network, loss=parts.outer, rule=rules.sgd(parts.recipe.inner_rate), steps=steps)


def _within(parts: Parts, steps: int) -> dict[str, Any]:
    """Settings of a DQN's own training in a task; its store holds all that a judge lets it see."""
    span = parts.recipe.span
    capacity = max(span.segments, *SEGMENTS) * span.steps * span.streams
    return {"transition": blank(parts.spec), "loss": parts.inner, "steps": steps, "capacity": capacity}


def of_continued(parts: Parts, steps: int) -> MetaLearner:
    """The multi-task DQN with a training of its own in each task."""
    return multitask.continued(parts.network, outer=parts.outer, rate=1e-3, **_within(parts, steps))


def of_scratch(parts: Parts, steps: int) -> MetaLearner:
    """A DQN from random weights with a training of its own in each task."""
    return multitask.scratch(parts.network, rate=1e-2, **_within(parts, steps))


def of_rl2(parts: Parts, steps: int) -> MetaLearner:
    """RL² on trials as long as the recipe's span."""
    return rl2(parts.network, parts.memory, **_in_a_trial(parts))


def _in_a_trial(parts: Parts) -> dict[str, Any]:
    return {"loss": parts.outer_at, "length": parts.recipe.span.segments, "centred": parts.recipe.centred}


def of_pearl(parts: Parts, steps: int) -> MetaLearner:
    """PEARL on the outer loss."""
    return pearl(parts.network, parts.spec, loss=parts.outer)


def of_varibad(parts: Parts, steps: int) -> MetaLearner:
    """VariBAD on trials as long as the recipe's span.

    It decodes only what it saw, and so explores; its belief is a vector, whatever memory serves RL² best.
    """
    moments = min(8, parts.recipe.span.segments)
    return varibad(parts.network, parts.memory, parts.spec, weight=3.0, moments=moments, **_in_a_trial(parts))


def of_mql(parts: Parts, steps: int) -> MetaLearner:
    """MQL as it is judged: tuned in each task."""
    sizes: dict[str, Any] = {"span": parts.recipe.span, "steps": steps, "rate": 0.1}
    return mql(parts.network, parts.memory, parts.spec, loss=parts.outer, **sizes)


def of_mql_context(parts: Parts, steps: int) -> MetaLearner:
    """MQL as it is trained: by its context alone."""
    return of_mql(parts, 0)


def one_stream(family: Family) -> Family:
    """The same experience in a row, for learners that read it in its order."""
    span = family.recipe.span
    return family._replace(recipe=dataclasses.replace(family.recipe, span=Span(span.segments, span.steps * span.streams, 1)))


def changed(prepare: Callable[[Family], Family] = lambda family: family, **changes: Any) -> Callable[[Family], Family]:
    """`prepare`, and the recipe changed to what a learner needs on every family."""

    def prepared(family: Family) -> Family:
        family = prepare(family)
        return family._replace(recipe=dataclasses.replace(family.recipe, **changes))

    return prepared
