"""What the command line can name: families, learners and memories.

With `options` and `cli`, the only place that maps names to factories.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from metadqn_jax import networks, programs
from metadqn_jax.checks import check_name
from metadqn_jax.evaluation import Judge, by_episodes, by_segments, by_steps
from metadqn_jax.learners import descent, multitask
from metadqn_jax.learners.anil import anil
from metadqn_jax.learners.base import MetaLearner
from metadqn_jax.learners.cavia import cavia
from metadqn_jax.learners.imaml import imaml
from metadqn_jax.learners.maml_plus_plus import maml_plus_plus
from metadqn_jax.learners.meta_sgd import learnt_sgd, meta_sgd
from metadqn_jax.learners.mql import mql
from metadqn_jax.learners.pearl import pearl
from metadqn_jax.learners.reptile import reptile
from metadqn_jax.learners.rl2 import rl2
from metadqn_jax.learners.varibad import varibad
from metadqn_jax.memories.base import Memory, blank
from metadqn_jax.memories.gru import gru
from metadqn_jax.memories.linear_attention import linear_attention
from metadqn_jax.memories.linear_recurrence import linear_recurrence
from metadqn_jax.memories.transformer import transformer
from metadqn_jax.memories.value_iteration import value_iteration
from metadqn_jax.programs import Parts
from metadqn_jax.tasks.bandit import bernoulli_bandit, gaussian_bandit
from metadqn_jax.tasks.base import Family, Recipe
from metadqn_jax.tasks.classic import cartpole, mixed_cartpole
from metadqn_jax.tasks.dark_room import dark_room, key_to_door
from metadqn_jax.tasks.frozen_lake import frozen_lake
from metadqn_jax.tasks.gridnavi import gridnavi
from metadqn_jax.tasks.highway import highway, permuted_highway
from metadqn_jax.tasks.minatar import asterix, breakout, freeway, space_invaders
from metadqn_jax.tasks.navigation import navigation
from metadqn_jax.tasks.navigation_2d import navigation_2d
from metadqn_jax.tasks.reaching import reaching
from metadqn_jax.tasks.robots import arm, cheetah
from metadqn_jax.tasks.semicircle import semicircle
from metadqn_jax.tasks.sided_invaders import sided_invaders
from metadqn_jax.tasks.tabular import tabular
from metadqn_jax.tasks.trials import in_trials
from metadqn_jax.tasks.varied_control import varied_acrobot, varied_cartpole, varied_mountain_car, varied_pendulum
from metadqn_jax.tasks.wrappers import observed
from metadqn_jax.tasks.xland import xland
from metadqn_jax.types import Span, Spec

_goals = (navigation, navigation_2d, reaching, semicircle, gridnavi, dark_room, key_to_door)
_finite = (tabular, bernoulli_bandit, gaussian_bandit, frozen_lake)
_control = (cartpole, mixed_cartpole, varied_cartpole, varied_mountain_car, varied_acrobot, varied_pendulum)
_driving = (highway, permuted_highway)
_games = (breakout, asterix, freeway, space_invaders, sided_invaders, xland)  # the last by the extra `grid`
_robots = (cheetah, arm)  # by the extra `robots`
_all = (*_goals, *_finite, *_control, *_driving, *_games, *_robots)
FAMILIES: dict[str, Callable[[], Family]] = {one.__name__: one for one in _all}
MEMORIES: dict[str, Callable[[Spec, int], Memory]] = {
    "gru": lambda spec, length: gru(spec),
    "recurrence": lambda spec, length: linear_recurrence(spec),
    "attention": lambda spec, length: linear_attention(spec, heads=4, value=16, units=128),
    "actions": lambda spec, length: linear_attention(spec, heads=4, value=8, per_action=True),
    "transformer": lambda spec, length: transformer(spec, length=length),
    "planner": lambda spec, length: value_iteration(spec),
}
BOOTSTRAPS = {
    "current": descent.from_current,
    "start": descent.from_start,
    "stopped": descent.from_stopped,
    "target": descent.from_target,
}
TARGETS = {"shadow": descent.shadow_target, "plain": descent.plain_target, "own": descent.own_target}


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


def _alike(line: str, paper: str, factory: Callable[..., MetaLearner], **choices: Any) -> Entry:
    """The entry of a learner that is trained as it is tested."""
    return Entry(line, paper, factory, factory, **choices)


def _descent(factory: Callable[..., MetaLearner], **fixed: Any) -> Callable[..., MetaLearner]:
    def build(parts: Parts, steps: int, **choices: Any) -> MetaLearner:
        losses = {"inner": parts.inner, "outer": parts.outer}
        return factory(parts.network, **losses, rate=parts.recipe.inner_rate, steps=steps, **{**fixed, **choices})

    return build


def _maml_plus_plus(parts: Parts, steps: int, **choices: Any) -> MetaLearner:
    recipe = parts.recipe
    schedule = {"count": recipe.inner_steps * (recipe.span.segments - 1), "over": recipe.outer_steps / 2}
    return _descent(maml_plus_plus, **schedule)(parts, steps, **choices)


def _reptile(parts: Parts, steps: int, **choices: Any) -> MetaLearner:
    return reptile(parts.network, inner=parts.inner, rate=parts.recipe.inner_rate, steps=steps, **choices)


def _multitask(parts: Parts, steps: int) -> MetaLearner:
    return multitask.multitask(parts.network, loss=parts.outer)


def _finetune(parts: Parts, steps: int) -> MetaLearner:
    return multitask.finetune(parts.network, loss=parts.outer, rule=descent.sgd(parts.recipe.inner_rate), steps=steps)


def _scratch(parts: Parts, steps: int) -> MetaLearner:
    sizes = {"steps": steps, "capacity": parts.recipe.span.transitions}
    return multitask.scratch(parts.network, blank(parts.spec), loss=parts.inner, rate=1e-2, **sizes)


def _rl2(parts: Parts, steps: int) -> MetaLearner:
    return rl2(parts.network, parts.memory, loss=parts.outer_at, length=parts.recipe.span.segments)


def _pearl(parts: Parts, steps: int) -> MetaLearner:
    return pearl(parts.network, parts.spec, loss=parts.outer)


def _varibad(parts: Parts, steps: int) -> MetaLearner:
    sizes: dict[str, Any] = {"length": parts.recipe.span.segments, "weight": 3.0}
    return varibad(parts.network, parts.memory, parts.spec, loss=parts.outer_at, **sizes)


def _mql(parts: Parts, steps: int) -> MetaLearner:
    sizes: dict[str, Any] = {"span": parts.recipe.span, "steps": steps, "rate": 0.1}
    return mql(parts.network, parts.memory, parts.spec, loss=parts.outer, **sizes)


def _mql_context(parts: Parts, steps: int) -> MetaLearner:
    return _mql(parts, 0)


def _one_stream(family: Family) -> Family:
    """The same experience in a row, for learners that read it in its order."""
    span = family.recipe.span
    return family._replace(recipe=dataclasses.replace(family.recipe, span=Span(span.segments, span.steps * span.streams, 1)))


def _with(prepare: Callable[[Family], Family] = lambda family: family, **changes: Any) -> Callable[[Family], Family]:
    """`prepare`, and the recipe changed to what a learner needs on every family."""

    def prepared(family: Family) -> Family:
        family = prepare(family)
        return family._replace(recipe=dataclasses.replace(family.recipe, **changes))

    return prepared


_inner = {"takes": (*SPAN, *INNER)}
_reads = {"context": lambda memory: memory.context, "memory": "gru"}
_lives = {"takes": ("memory",), "prepare": in_trials, "judge": by_episodes}
LEARNERS = {
    "maml": _alike("second-order MAML on TD losses", "Finn et al. 2017", _descent(descent.maml), **_inner),
    "fomaml": _alike("first-order MAML on TD losses", "Finn et al. 2017, 5.2", _descent(descent.fomaml), **_inner),
    "reptile": _alike(
        "the start moves towards where adaptation ends", "Nichol et al. 2018", _reptile, takes=(*SPAN, *INNER[:3])
    ),
    "anil": _alike("MAML that moves the head alone", "Raghu et al. 2020", _descent(anil), **_inner),
    "meta_sgd": _alike("MAML with a learned rate for every weight", "Li et al. 2017", _descent(meta_sgd), **_inner),
    "maml_plus_plus": _alike("MAML with rates by layer and step", "Antoniou et al. 2019", _maml_plus_plus, **_inner),
    "cavia": _alike(
        "MAML that moves a context of 8 alone, with learned rates",
        "Zintgraf et al. 2019",
        _descent(cavia, rule=learnt_sgd),
        context=lambda _: (8,),
        **_inner,
    ),
    "imaml": _alike(
        "MAML by the implicit derivative",
        "Rajeswaran et al. 2019",
        _descent(imaml, strength=0.1, iterations=30),
        prepare=_with(inner_rate=0.1, inner_steps=30, outer_rate=3e-3),  # what it takes to solve the inner problem
        **_inner,
    ),
    "rl2": _alike("a memory of the trial, read by a Q-network", "Duan et al. 2016", _rl2, **_reads, **_lives),
    "varibad": _alike(
        "RL² on a belief that decodes the task",
        "Zintgraf et al. 2020",
        _varibad,
        memory="gru",
        context=lambda _: (10,),
        **{**_lives, "prepare": _with(in_trials, query_epsilon=1.0, last_epsilon=0.5)},  # it decodes only what it saw
    ),
    "pearl": _alike(
        "a posterior over tasks, acting on draws", "Rakelly et al. 2019", _pearl, judge=by_segments, context=lambda _: (5,)
    ),
    "mql": Entry(
        "a recurrent context, tuned at test time with training data",
        "Fakoor et al. 2020",
        _mql_context,
        _mql,
        takes=(*SPAN, "memory"),
        prepare=_one_stream,
        judge=by_segments,
        memory="gru",
        context=lambda memory: memory.context,
    ),
    "multitask": _alike("one DQN for all tasks, never adapted", "Mnih et al. 2015", _multitask),
    "finetune": Entry(
        "multi-task DQN, fine-tuned at test time", "Finn et al. 2017, 5.3", _multitask, _finetune, (*SPAN, "inner_rate")
    ),
    "scratch": _alike("a DQN from random weights in each task, nothing meta-trained", "Mnih et al. 2015", _scratch),
    "conditioned": _alike(
        "multi-task DQN that is shown the task: an upper reference", "Finn et al. 2017, 5.3", _multitask, prepare=observed
    ),
}


def learners_of(
    entry: Entry, family: Family, recipe: Recipe, *, memory: str | None = None, choices: dict | None = None
) -> tuple[MetaLearner, MetaLearner]:
    """An entry's learner as it is trained and as it is judged, on a family that is prepared for it. Raises `Misuse`."""
    spec, name = family.split.train.spec, memory or (entry.memory and recipe.memory) or entry.memory
    held = None if name is None else check_name("memory", name, MEMORIES)(spec, recipe.span.transitions)
    network = networks.reader(spec, entry.context(held), **recipe.shape)
    parts = programs.make_parts(family.split.train, recipe, lambda spec: network, held)
    adapting = entry.judge(recipe, programs.make_explore(recipe), family.horizon).steps
    choices = choices or {}
    return entry.trained(parts, recipe.inner_steps, **choices), entry.tested(parts, adapting, **choices)
