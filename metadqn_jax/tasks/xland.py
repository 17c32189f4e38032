"""`xland`: find out what to do with the objects of a room, and do it (XLand-MiniGrid, Nikulin et al. 2023)."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from metadqn_jax import trees
from metadqn_jax.checks import check_count, check_name, check_real, require
from metadqn_jax.environments.xland import COLOURS, TILES, XLand
from metadqn_jax.environments.xland_rulesets import KINDS, held_out, make_rulesets
from metadqn_jax.planners.xland import expert_return
from metadqn_jax.tasks.base import Family, Recipe
from metadqn_jax.tasks.from_gymnax import from_gymnax
from metadqn_jax.tasks.splits import separate
from metadqn_jax.tasks.trials import REPLAYED
from metadqn_jax.types import Span

RECIPE = Recipe(  # near one with which a DQN that is shown the goal learns on train tasks of 6² cells; streams, film untried
    span=Span(segments=2, steps=80, streams=8),
    discount=0.95,
    inner_trace=0.5,
    outer_trace=0.7,
    reward_scale=1.0,
    query_epsilon=0.3,
    outer_rate=1e-3,
    meta_batch=8,
    fresh=2,
    capacity=128,
    hidden=(128, 128),
    film=True,
)
TRIAL_RECIPE = dataclasses.replace(REPLAYED, reward_scale=1.0, outer_rate=4e-3)  # RL² learned with it on those tasks
PARTS = {"combinations": True, "rulesets": False}  # what held-out tasks have that train tasks have not
GOALS, RULES = 15, 12  # kinds that xminigrid knows


def xland(
    rules: int = 1,
    distractors: int = 2,
    size: int = 9,
    view: int = 5,
    horizon: int = 80,
    unseen: str = "combinations",
    share: float = 0.2,
    count: int = 10_000,
    goals: Sequence[str] = tuple(KINDS),
) -> Family:
    """Reach a goal that is not shown, with objects that unknown rules make, in a room of which one sees a part.

    A task is a ruleset (`make_rulesets`, which makes up to `count` of them, with these `goals`, without a download) in the
    room of `XLand`; its objects lie elsewhere in each episode. An episode ends at the goal, for 1 − 0.9 · time / horizon, or
    at the horizon, for 0.
    Train and test share no ruleset, by a hash that gives test about `share` of them: with `unseen` = "combinations" also no
    goal with the same rules, though each goal and each rule of test is in train, elsewhere; with "rulesets" two may differ in
    their distractors alone. The package xminigrid is needed: pip install ".[grid]".

    The `optimum` is what an expert reaches who knows the ruleset and sees the room, and takes a shortest way to one thing
    after the other (`expert_return`): nearly the best, though no bound. `features` are the goal and the rules, one-hot.
    The recipes are from smaller rooms, without rules. Raises `Misuse` on sizes that are too small, on other goals, on rooms
    with too little space, on more rules and distractors than there are objects, where a side has no task, and without the
    package.
    """
    check_count("horizon", horizon)
    check_real("share", share, most=1.0)
    combinations = check_name("kind of unseen tasks", unseen, PARTS)
    env = XLand(size, view)
    made = make_rulesets(count, rules, distractors, goals=goals)
    _check_space(size, made.objects.shape[1])
    base = dataclasses.replace(env.default_params, max_steps_in_episode=horizon)
    train, test = (_tasks(base, side) for side in held_out(made, share, combinations))
    everywhere = from_gymnax(env, lambda key, params: params, params=trees.first(train), redraw=("grid",))

    def optimum(key, task):
        key_start, key_steps = jax.random.split(key)
        return expert_return(key_steps, everywhere.reset(key_start, task)[0], env.step_env, task, horizon)

    recipe = RECIPE.with_steps(horizon)
    trial = dataclasses.replace(TRIAL_RECIPE, span=Span(3 * horizon, 1, 1))
    return Family(separate(everywhere, train, test), recipe, horizon, optimum, _features, trial)


def _tasks(base, rulesets):
    """`base` with each of the rulesets."""
    fill = jax.vmap(lambda goal, rules, objects: base.replace(goal=goal, rules=rules, objects=objects))
    return trees.strengthen(fill(*map(jnp.asarray, rulesets)))


def _features(task):
    """The goal and the rules, one-hot number by number: their kinds, and the tiles and colours of their objects."""
    numbers = max(TILES, COLOURS)
    kinds = jax.nn.one_hot(task.goal[0], GOALS), jax.nn.one_hot(task.rules[:, 0], RULES).ravel()
    objects = (jax.nn.one_hot(part, numbers).ravel() for part in (task.goal[1:], task.rules[:, 1:]))
    return jnp.concatenate([*kinds, *objects])


def _check_space(size: int, objects: int) -> None:
    """Three quarters of the room's floor stay free, so that hardly anybody is shut in, who then has to pick something up."""
    cells = (size - 2) ** 2
    require(
        objects <= cells // 4,
        f"a room must have four cells for each object, got {cells} for {objects}; raise size, or lower rules or distractors.",
    )
