"""An agent before and after adaptation, as an animation: python experiments/film.py [--place PLACE] [--quick].

One seed of a learner is meta-trained as in driving.py, games.py or robots.py. In a held-out task it then acts greedily,
unadapted and adapted. The README's films: --per-second 20, --place sided_invaders, and --place permuted_highway --learner maml
--per-second 3.
"""

import dataclasses
from typing import Any

import driving
import games
import jax
import numpy as np
import robots
from command_line import start
from kept import RESULTS, compile_fast
from seeds import trained
from side_by_side import Place

from metadqn_jax import figures, programs
from metadqn_jax.catalog import LEARNERS, learners_of
from metadqn_jax.checks import check_name
from metadqn_jax.environments import highway_film, robots_film
from metadqn_jax.evaluation import SEGMENTS
from metadqn_jax.judges import by_segments
from metadqn_jax.living import epsilon_greedy, live
from metadqn_jax.loops import repeat
from metadqn_jax.tasks.base import sample_tasks

PLACES: dict[str, Place] = {**driving.PLACES, **games.PLACES, **robots.PLACES}
CELL = 12  # pixels, of a game's square
COLOURS = np.array([(86, 180, 233), (230, 159, 0), (0, 158, 115), (213, 94, 0), (204, 121, 167), (240, 228, 66)], np.uint8)


@dataclasses.dataclass(frozen=True)
class Options:
    """Film a learner that adapts to segments."""

    place: str = "arm"
    """One of driving.py, games.py or robots.py whose world has a picture."""
    learner: str = "cavia"
    """Any but those with a memory."""
    budget: int | None = None
    """Environment steps of meta-training; by default the place's own."""
    task: int = 0
    """Which held-out task."""
    per_second: int = 10
    """Steps that the film shows in a second."""
    quick: bool = False
    """A smoke test of one outer step; its film is not kept."""


def robot(name):
    """Frames of a robot, with its goal where that is a spot."""

    def draw(task, worlds, obs):
        goal = np.asarray(task.goal)
        return robots_film.film(name, worlds.position, goal if goal.size == 2 else None)

    return draw


def road(params_of):
    """Frames of the highway as it is, whoever holds the wheel."""
    return lambda task, worlds, obs: highway_film.film(worlds, int(params_of(task).lanes))


def squares(task, worlds, obs):
    """Frames of a game as the agent sees it: a colour for each channel."""
    image = np.zeros((*obs.shape[:-1], 3), np.uint8)
    for channel in range(obs.shape[-1]):
        image = np.where(obs[..., channel, None] > 0, COLOURS[channel % len(COLOURS)], image)
    return image.repeat(CELL, 1).repeat(CELL, 2)


DRAW = {
    "wishes": road(lambda task: task),
    "permuted_highway": road(lambda task: task[0]),
    **dict.fromkeys(("sided_invaders", "breakout", "freeway", "space_invaders", "asterix"), squares),
    "arm": robot("arm"),
    "cheetah_velocity": robot("cheetah"),
    "cheetah_direction": robot("cheetah"),
}


def moves(learner, family, recipe, task):
    """`(key, slow)` -> (worlds, observations, rewards) [horizon, ...] of greedy episodes, before and after three segments."""
    test = family.split.test
    span = dataclasses.replace(recipe.span, segments=SEGMENTS[-1])

    def evaluate(key, slow):
        key_life, key_start, key_steps = jax.random.split(key, 3)
        fasts = live(key_life, learner, slow, test, task, span, programs.make_explore(recipe)).fasts
        start = (*test.reset(key_start, task), test.spec.head.rest())

        def episode(fast):
            act = epsilon_greedy(test.spec.head, lambda obs: learner.q(slow, fast, obs), lambda t: 0.0)

            def step(key, t, stream):
                world, obs, noise = stream
                key_act, key_step = jax.random.split(key)
                noise, action = act(key_act, t, noise, obs)
                after, seen = test.step(key_step, task, world, test.spec.head.decode(action))
                return (after, seen.obs, noise), (world, obs, seen.reward)

            return repeat(key_steps, family.horizon, step, start)[1]

        both = jax.vmap(episode)(jax.tree.map(lambda leaf: leaf[np.array([0, -1])], fasts))
        return {"unadapted": jax.tree.map(lambda leaf: leaf[0], both), "adapted": jax.tree.map(lambda leaf: leaf[1], both)}

    return evaluate


def main(options: Options) -> None:
    """Train, and write results/film_PLACE.gif."""
    if options.quick:
        compile_fast()
    draw, place = check_name("place with a picture", options.place, DRAW), PLACES[options.place]
    entry = check_name("learner", options.learner, LEARNERS)._replace(judge=by_segments)
    family: Any = entry.prepare(place.make())
    per_step = family.recipe.env_steps
    steps = max(1, (1 if options.quick else options.budget or place.budget) // per_step)
    recipe = dataclasses.replace(family.recipe, outer_steps=steps)
    learner, tested = learners_of(entry, family, recipe)
    tasks = sample_tasks(jax.random.key(0), family.split.test, options.task + 1)
    task = jax.tree.map(lambda leaf: leaf[-1], tasks)
    program = programs.make_program(family, learner, recipe, tested=tested, judge=by_segments)
    table = trained(
        options.learner, program._replace(evaluate=moves(tested(recipe.inner_steps), family, recipe, task)), 1, steps
    )
    films = {}
    for when in ("unadapted", "adapted"):
        worlds, obs, rewards = jax.tree.map(lambda leaf: leaf[0], table[when])
        films[f"{options.learner}, {when}: return {rewards.sum():.1f}"] = draw(task, worlds, obs)
    print({label: frames.shape for label, frames in films.items()})
    if not options.quick:
        figures.animation(RESULTS / f"film_{options.place}.gif", films, per_second=options.per_second)


if __name__ == "__main__":
    start(main, Options, __doc__)
