"""How the command line's options become a program."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from metadqn_jax import programs
from metadqn_jax.catalog import BOOTSTRAPS, FAMILIES, LEARNERS, TARGETS, learners_of
from metadqn_jax.checks import check_name, require
from metadqn_jax.entries import INNER, SPAN, Entry
from metadqn_jax.learners.base import MetaLearner
from metadqn_jax.programs import Program
from metadqn_jax.tasks.base import Family, Recipe
from metadqn_jax.training import cvar


def check_options(entry: Entry, options: Any) -> None:
    """Raise `Misuse` on an option that the learner does not take."""
    for name in (*SPAN, *INNER, "memory"):
        given = getattr(options, name) is not None
        option, taken = name.replace("_", "-"), ", ".join(key for key, one in LEARNERS.items() if name in one.takes)
        require(not given or name in entry.takes, f"--{option} needs one of {taken}, got {options.learner}; drop it.")


def recipe_of(family: Family, options: Any) -> Recipe:
    """The family's recipe with what the options change."""
    named = {"outer_steps": options.steps}
    rates, sizes = (
        ("inner_rate", "outer_rate", "discount", "query_epsilon"),
        ("inner_steps", "meta_batch", "fresh", "capacity", "hidden", "dueling", "layer_norm", "film"),
    )
    for name in rates + sizes:
        named[name] = getattr(options, name)
    if options.discount is not None:
        named["last_discount"] = options.discount  # what was asked for does not change on the way
    span = {"steps": options.segment_steps, "streams": options.streams}
    changed = dataclasses.replace(family.recipe.span, **{name: value for name, value in span.items() if value is not None})
    return dataclasses.replace(
        family.recipe, span=changed, **{name: value for name, value in named.items() if value is not None}
    )


class Chosen(NamedTuple):
    """What options name: the family as the learner sees it, its recipe, the learner as it is trained and as it is tested.

    Both are functions of the number of gradient steps each time that it adapts.
    """

    entry: Entry
    family: Family
    recipe: Recipe
    trained: Callable[[int], MetaLearner]
    tested: Callable[[int], MetaLearner]


def choose(options: Any) -> Chosen:
    """What the options name. Raises `Misuse`."""
    entry = check_name("learner", options.learner, LEARNERS)
    check_options(entry, options)
    choices = {}
    for name, value, table in (("bootstrap", options.bootstrap, BOOTSTRAPS), ("target", options.target, TARGETS)):
        if value is not None:
            choices[name] = check_name(name, value, table)
    family = entry.prepare(check_name("task family", options.tasks, FAMILIES)())
    recipe = recipe_of(family, options)
    return Chosen(entry, family, recipe, *learners_of(entry, family, recipe, memory=options.memory, choices=choices))


def build(options: Any, *, tasks: int, steps: tuple[int, ...] | None = None) -> tuple[Program, Recipe]:
    """The program that the options name, and its recipe. Raises `Misuse`."""
    entry, family, recipe, trained, tested = choose(options)
    sizes: dict[str, Any] = {"chunk": options.chunk, "tasks": tasks, "steps": steps}
    objective = None if options.cvar is None else cvar(options.cvar)
    return programs.make_program(
        family, trained, recipe, tested=tested, judge=entry.judge, objective=objective, **sizes
    ), recipe
