"""What the command line can name: families, learners and options, and how they become a program.

With `cli`, the only place that maps names to factories.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from metadqn_jax import networks, programs
from metadqn_jax.checks import check_name, require
from metadqn_jax.learners import descent, multitask
from metadqn_jax.learners.base import MetaLearner
from metadqn_jax.programs import Parts, Program
from metadqn_jax.tasks.base import Family, Recipe
from metadqn_jax.tasks.classic import cartpole
from metadqn_jax.tasks.navigation import navigation
from metadqn_jax.tasks.tabular import tabular
from metadqn_jax.tasks.wrappers import observed

FAMILIES: dict[str, Callable[[], Family]] = {"navigation": navigation, "cartpole": cartpole, "tabular": tabular}
BOOTSTRAPS = {
    "current": descent.from_current,
    "start": descent.from_start,
    "stopped": descent.from_stopped,
    "target": descent.from_target,
}
TARGETS = {"shadow": descent.shadow_target, "plain": descent.plain_target, "own": descent.own_target}


class Entry(NamedTuple):
    """A learner's line for `metadqn list`, and its factories: `learner(parts, steps, **choices)`, trained and tested."""

    line: str
    trained: Callable[..., MetaLearner]
    tested: Callable[..., MetaLearner]
    sees_task: bool = False
    has_inner_loop: bool = False


def _descent(factory: Callable[..., MetaLearner]) -> Callable[..., MetaLearner]:
    def build(parts: Parts, steps: int, **choices: Any) -> MetaLearner:
        return factory(
            parts.network, inner=parts.inner, outer=parts.outer, rate=parts.recipe.inner_rate, steps=steps, **choices
        )

    return build


def _multitask(parts: Parts, steps: int) -> MetaLearner:
    return multitask.multitask(parts.network, loss=parts.outer)


def _finetune(parts: Parts, steps: int) -> MetaLearner:
    return multitask.finetune(parts.network, loss=parts.outer, rule=descent.sgd(parts.recipe.inner_rate), steps=steps)


def _scratch(parts: Parts, steps: int) -> MetaLearner:
    capacity = parts.recipe.span.transitions
    return multitask.scratch(parts.network, parts.transition, loss=parts.inner, rate=1e-2, steps=steps, capacity=capacity)


_maml, _fomaml = _descent(descent.maml), _descent(descent.fomaml)
LEARNERS = {
    "maml": Entry("second-order MAML on TD losses (Finn et al. 2017)", _maml, _maml, has_inner_loop=True),
    "fomaml": Entry("first-order MAML on TD losses (Finn et al. 2017, 5.2)", _fomaml, _fomaml, has_inner_loop=True),
    "multitask": Entry("one DQN for all tasks, never adapted (Mnih et al. 2015)", _multitask, _multitask),
    "finetune": Entry("multi-task DQN, fine-tuned at test time", _multitask, _finetune),
    "scratch": Entry("a DQN from random weights in each task; nothing is meta-trained", _scratch, _scratch),
    "conditioned": Entry("multi-task DQN that is shown the task: an upper reference", _multitask, _multitask, sees_task=True),
}


def recipe_of(family: Family, options: Any) -> Recipe:
    """The family's recipe with what the options change."""
    named = {"outer_steps": options.steps}
    for name in ("inner_steps", "inner_rate", "outer_rate", "meta_batch", "discount", "query_epsilon"):
        named[name] = getattr(options, name)
    span = {"steps": options.segment_steps, "streams": options.streams}
    changed = dataclasses.replace(family.recipe.span, **{name: value for name, value in span.items() if value is not None})
    return dataclasses.replace(
        family.recipe, span=changed, **{name: value for name, value in named.items() if value is not None}
    )


def build(options: Any, *, tasks: int, steps: tuple[int, ...]) -> tuple[Program, Recipe]:
    """The program that the options name, and its recipe. Raises `Misuse`."""
    entry = check_name("learner", options.learner, LEARNERS)
    choices = {}
    for name, value, table in (("bootstrap", options.bootstrap, BOOTSTRAPS), ("target", options.target, TARGETS)):
        if value is not None:
            require(entry.has_inner_loop, f"--{name} needs a learner with an inner loop, got {options.learner}; drop it.")
            choices[name] = check_name(name, value, table)
    family = check_name("task family", options.tasks, FAMILIES)()
    family = observed(family) if entry.sees_task else family
    recipe = recipe_of(family, options)
    shape = {"hidden": options.hidden, "dueling": options.dueling, "layer_norm": options.layer_norm}
    parts = programs.make_parts(family.split.train, recipe, lambda spec: networks.mlp(spec, **shape))
    trained, tested = entry.trained(parts, recipe.inner_steps, **choices), entry.tested(parts, 1, **choices)
    sizes: dict[str, Any] = {"capacity": options.capacity, "chunk": options.chunk, "tasks": tasks, "steps": steps}
    return programs.make_program(family, trained, tested, recipe, **sizes), recipe
