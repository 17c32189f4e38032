"""A robot before and after adaptation, as an animation: python experiments/film_robots.py [--place arm] [--quick].

One seed of a learner is meta-trained as in robots.py. In a held-out task it then acts greedily, unadapted and adapted.
"""

import dataclasses

import jax
import numpy as np
import tyro
from kept import RESULTS, compile_fast
from robots import PLACES
from seeds import trained

from metadqn_jax import figures, programs
from metadqn_jax.catalog import LEARNERS, learners_of
from metadqn_jax.checks import check_name
from metadqn_jax.environments.robots_film import film
from metadqn_jax.evaluation import SEGMENTS, by_segments
from metadqn_jax.living import epsilon_greedy, live
from metadqn_jax.loops import repeat
from metadqn_jax.tasks.base import sample_tasks

PER_SECOND = 20  # steps, of both robots


@dataclasses.dataclass(frozen=True)
class Options:
    """Film a learner that adapts to segments."""

    place: str = "arm"
    """Of robots.py: arm, cheetah_velocity or cheetah_direction."""
    learner: str = "pearl"
    """Any but those with a memory."""
    budget: int | None = None
    """Environment steps of meta-training; by default the place's own."""
    task: int = 0
    """Which held-out task."""
    quick: bool = False
    """A smoke test of one outer step; its film is not kept."""


def moves(learner, family, recipe, task):
    """`(key, slow)` -> joint positions [horizon, nq] of greedy episodes, unadapted and after three segments."""
    test = family.split.test
    span = dataclasses.replace(recipe.span, segments=SEGMENTS[-1])

    def evaluate(key, slow):
        key_life, key_start, key_steps = jax.random.split(key, 3)
        fasts = live(key_life, learner, slow, test, task, span, programs.make_explore(recipe)).fasts
        start = (*test.reset(key_start, task), test.spec.head.rest())

        def positions(fast):
            act = epsilon_greedy(test.spec.head, lambda obs: learner.q(slow, fast, obs), lambda t: 0.0)

            def step(key, t, stream):
                world, obs, noise = stream
                key_act, key_step = jax.random.split(key)
                noise, action = act(key_act, t, noise, obs)
                after, seen = test.step(key_step, task, world, test.spec.head.decode(action))
                return (after, seen.obs, noise), world.position

            return repeat(key_steps, family.horizon, step, start)[1]

        both = jax.vmap(positions)(jax.tree.map(lambda leaf: leaf[np.array([0, -1])], fasts))
        return {"unadapted": both[0], "adapted": both[1]}

    return evaluate


def main(options: Options) -> None:
    """Train, and write results/robots_PLACE.gif."""
    if options.quick:
        compile_fast()
    place, entry = check_name("place", options.place, PLACES), check_name("learner", options.learner, LEARNERS)
    entry, family, robot = entry._replace(judge=by_segments), entry.prepare(place.make()), options.place.split("_")[0]
    per_step = family.recipe.meta_batch * family.recipe.span.transitions
    steps = max(1, (1 if options.quick else options.budget or place.budget) // per_step)
    recipe = dataclasses.replace(family.recipe, outer_steps=steps)
    learner, tested = learners_of(entry, family, recipe)
    tasks = sample_tasks(jax.random.key(0), family.split.test, options.task + 1)
    task = jax.tree.map(lambda leaf: leaf[-1], tasks)
    program = programs.make_program(family, learner, tested, recipe, judge=by_segments)
    table = trained(options.learner, program._replace(evaluate=moves(tested, family, recipe, task)), 1, steps)
    goal = np.asarray(task.goal)
    spot, wish = (goal, "") if goal.size == 2 else (None, f", wanted {goal[0]:.2f}")
    films = {f"{options.learner}, {when}{wish}": film(robot, table[when][0], spot) for when in ("unadapted", "adapted")}
    print({label: frames.shape for label, frames in films.items()})
    if not options.quick:
        figures.animation(RESULTS / f"robots_{options.place}.gif", films, per_second=PER_SECOND)


if __name__ == "__main__":
    main(tyro.cli(Options, description=Options.__doc__))
