"""What the command line can name: families, learners and memories.

With `options` and `cli`, the only place that maps names to factories.
"""

import functools
from collections.abc import Callable

from metadqn_jax import entries, networks, programs
from metadqn_jax.checks import check_name
from metadqn_jax.entries import INNER, SPAN, Entry
from metadqn_jax.judges import by_episodes, by_segments
from metadqn_jax.learners import descent
from metadqn_jax.learners.anil import anil
from metadqn_jax.learners.base import MetaLearner
from metadqn_jax.learners.cavia import cavia
from metadqn_jax.learners.imaml import imaml
from metadqn_jax.learners.meta_sgd import learnt_sgd, meta_sgd
from metadqn_jax.memories.base import Memory
from metadqn_jax.memories.gru import gru
from metadqn_jax.memories.linear_attention import linear_attention
from metadqn_jax.memories.linear_recurrence import linear_recurrence
from metadqn_jax.memories.transformer import transformer
from metadqn_jax.memories.value_iteration import value_iteration
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
from metadqn_jax.types import Spec

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


_inner = {"takes": (*SPAN, *INNER)}
_reads = {"context": lambda memory: memory.context, "memory": "gru"}
_lives = {"takes": ("memory",), "prepare": in_trials, "judge": by_episodes}
LEARNERS = {
    "maml": entries.alike("second-order MAML on TD losses", "Finn et al. 2017", entries.of_descent(descent.maml), **_inner),
    "fomaml": entries.alike(
        "first-order MAML on TD losses", "Finn et al. 2017, 5.2", entries.of_descent(descent.fomaml), **_inner
    ),
    "reptile": entries.alike(
        "the start moves towards where adaptation ends", "Nichol et al. 2018", entries.of_reptile, takes=(*SPAN, *INNER[:3])
    ),
    "anil": entries.alike("MAML that moves the head alone", "Raghu et al. 2020", entries.of_descent(anil), **_inner),
    "meta_sgd": entries.alike(
        "MAML with a learned rate for every weight", "Li et al. 2017", entries.of_descent(meta_sgd), **_inner
    ),
    "maml_plus_plus": entries.alike(
        "MAML with rates by layer and step", "Antoniou et al. 2019", entries.of_maml_plus_plus, **_inner
    ),
    "cavia": entries.alike(
        "MAML that moves a context of 8 alone, with learned rates",
        "Zintgraf et al. 2019",
        entries.of_descent(cavia, rule=learnt_sgd),
        context=lambda _: (8,),
        **_inner,
    ),
    "imaml": entries.alike(
        "MAML by the implicit derivative",
        "Rajeswaran et al. 2019",
        entries.of_descent(imaml, strength=0.1, iterations=30),
        prepare=entries.changed(inner_rate=0.1, inner_steps=30, outer_rate=3e-3),  # what it takes to solve the inner problem
        judge=by_segments,  # each time that it adapts it solves a problem anew: single steps are no part of it
        **_inner,
    ),
    "rl2": entries.alike("a memory of the trial, read by a Q-network", "Duan et al. 2016", entries.of_rl2, **_reads, **_lives),
    "varibad": entries.alike(
        "RL² on a belief that decodes the task",
        "Zintgraf et al. 2020",
        entries.of_varibad,
        memory="gru",
        context=lambda _: (10,),
        **{
            **_lives,
            "prepare": entries.changed(in_trials, memory="gru", query_epsilon=1.0, last_epsilon=0.5),
        },  # see `of_varibad`
    ),
    "pearl": entries.alike(
        "a posterior over tasks, acting on draws",
        "Rakelly et al. 2019",
        entries.of_pearl,
        judge=by_segments,
        context=lambda _: (5,),
    ),
    "mql": Entry(
        "a recurrent context, tuned at test time with training data",
        "Fakoor et al. 2020",
        entries.of_mql_context,
        entries.of_mql,
        takes=(*SPAN, "memory"),
        prepare=entries.one_stream,
        judge=by_segments,
        memory="gru",
        context=lambda memory: memory.context,
    ),
    "multitask": entries.alike("one DQN for all tasks, never adapted", "Mnih et al. 2015", entries.of_multitask),
    "finetune": Entry(
        "multi-task DQN, fine-tuned at test time",
        "Finn et al. 2017, 5.3",
        entries.of_multitask,
        entries.of_finetune,
        (*SPAN, "inner_rate"),
    ),
    "continued": Entry(
        "multi-task DQN that trains on in each task with replay and Adam",
        "Mnih et al. 2015",
        entries.of_multitask,
        entries.of_continued,
    ),
    "scratch": entries.alike(
        "a DQN from random weights in each task, nothing meta-trained", "Mnih et al. 2015", entries.of_scratch
    ),
    "conditioned": entries.alike(
        "multi-task DQN that is shown the task: an upper reference",
        "Finn et al. 2017, 5.3",
        entries.of_multitask,
        prepare=observed,
    ),
}


def learners_of(
    entry: Entry, family: Family, recipe: Recipe, *, memory: str | None = None, choices: dict | None = None
) -> tuple[Callable[[int], MetaLearner], Callable[[int], MetaLearner]]:
    """An entry's learner as it is trained and as it is judged, on a family that is prepared for it. Raises `Misuse`.

    Both are functions of the number of gradient steps each time that it adapts.
    """
    spec, name = family.split.train.spec, memory or (entry.memory and recipe.memory) or entry.memory
    held = None if name is None else check_name("memory", name, MEMORIES)(spec, recipe.span.transitions)
    network = networks.reader(spec, entry.context(held), **recipe.shape)
    parts = programs.make_parts(family.split.train, recipe, lambda spec: network, held)
    given = choices or {}
    return functools.partial(entry.trained, parts, **given), functools.partial(entry.tested, parts, **given)
