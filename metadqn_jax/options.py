"""How the command line's options become a program."""

import ast
import dataclasses
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from metadqn_jax import programs
from metadqn_jax.catalog import BOOTSTRAPS, FAMILIES, LEARNERS, TARGETS, learners_of
from metadqn_jax.checks import Misuse, check_name, check_type, require
from metadqn_jax.entries import INNER, SPAN, Entry
from metadqn_jax.learners.base import MetaLearner
from metadqn_jax.programs import Program
from metadqn_jax.tasks.base import Family, Recipe, check_family
from metadqn_jax.training import cvar

WORDS = {"true": "True", "false": "False", "none": "None"}  # as other languages write them


def check_options(entry: Entry, options: Any) -> None:
    """Raise `Misuse` on an option that the learner does not take."""
    for name in (*SPAN, *INNER, "memory"):
        given = getattr(options, name) is not None
        option, taken = name.replace("_", "-"), ", ".join(key for key, one in LEARNERS.items() if name in one.takes)
        require(not given or name in entry.takes, f"--{option} needs one of {taken}, got {options.learner}; drop it.")


def pairs(option: str, given: tuple[str, ...] | None, allowed: Iterable[str]) -> dict[str, Any]:
    """NAME=VALUE pairs as arguments, each VALUE a Python literal, true, false, none or else a string.

    Raises `Misuse` on other names.

    >>> pairs("family", ("bins=9", "source=pearl", "dense=false"), ["bins", "source", "dense"])
    {'bins': 9, 'source': 'pearl', 'dense': False}
    """
    found, known = {}, dict.fromkeys(allowed)
    for pair in given or ():
        name, equals, value = pair.partition("=")
        require(len(known) > 0, f"--{option} must be left out where there is nothing to set, got {pair!r}; drop it.")
        require(equals == "=", f"--{option} takes NAME=VALUE, got {pair!r}; write {next(iter(known))}=9, say.")
        check_name(f"name in --{option}", name, known)
        try:
            found[name] = ast.literal_eval(WORDS.get(value, value))
        except (SyntaxError, ValueError):
            found[name] = value
    return found


def named(kind: str, name: str, table: Any) -> Any:
    """The entry of `table` called `name`, or what `module:attribute` names, a module here or on Python's path. Raises `Misuse`.

    >>> named("task family", "metadqn_jax.tasks.gridnavi:gridnavi", {}).__name__
    'gridnavi'
    """
    module, colon, attribute = str(name).partition(":")
    if not colon:
        return check_name(kind, name, table)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise Misuse(f"a {kind} of one's own is named module:attribute, got {name!r} ({error}); mend the name.") from error


def family_of(options: Any) -> Family:
    """The family that the options name, made with their arguments. Raises `Misuse`."""
    make = named("task family", options.tasks, FAMILIES)
    require(callable(make), f"a task family is named by the function that makes it, got {options.tasks!r}; name that.")
    try:
        parameters = inspect.signature(make).parameters
    except ValueError as error:  # a builtin that does not say what it takes
        raise Misuse(f"a task family is named by the function that makes it, got {options.tasks!r}; name that.") from error
    arguments = pairs("family", options.family, parameters)
    for name, one in parameters.items():
        left_out = one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD) and name not in arguments
        require(not left_out, f"{options.tasks} needs its argument {name}, got none; give --family {name}=VALUE.")
    family = make(**arguments)
    check_family(family)
    return family


def recipe_of(family: Family, options: Any) -> Recipe:
    """The family's recipe with what the options change."""
    own = [field.name for field in dataclasses.fields(Recipe) if hasattr(options, field.name) and field.name != "span"]
    named = {"outer_steps": options.steps, **{name: getattr(options, name) for name in own}}
    named = {name: value for name, value in named.items() if value is not None}
    if options.discount is not None:
        named["last_discount"] = None  # what was asked for does not change on the way
    others = [field.name for field in dataclasses.fields(Recipe) if field.name not in (*own, "span", "outer_steps")]
    named |= pairs("recipe", options.recipe, others)
    span = {"steps": options.segment_steps, "streams": options.streams}
    changed = dataclasses.replace(family.recipe.span, **{name: value for name, value in span.items() if value is not None})
    return dataclasses.replace(family.recipe, span=changed, **named)


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
    entry = named("learner", options.learner, LEARNERS)
    check_type("the learner", entry, Entry, "make one with entries.alike, as in metadqn_jax/catalog.py")
    check_options(entry, options)
    choices = {}
    for name, value, table in (("bootstrap", options.bootstrap, BOOTSTRAPS), ("target", options.target, TARGETS)):
        if value is not None:
            choices[name] = check_name(name, value, table)
    family = entry.prepare(family_of(options))
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
