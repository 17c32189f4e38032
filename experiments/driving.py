"""Driving with wishes or pedals that nobody shows: python experiments/driving.py [--only PLACE] [--learner NAME] [--quick].

Learners that adapt beside a multi-task DQN, the same fine-tuned, one from scratch, and one that is shown the task, all
meta-trained on the same number of environment steps. Judged on held-out tasks after 0 … 3 segments, or by a trial's
episodes, all seeds in one compiled program. What stands is not run again.
"""

import dataclasses
import functools

from command_line import start
from side_by_side import BY_EPISODE, Options, Place, compare

from metadqn_jax.tasks.highway import RANGES, TRIAL_RECIPE, highway, permuted_highway
from metadqn_jax.types import Span

OPPOSITE = {**RANGES, "wanted_speed": ((20.0, 22.0), (28.0, 30.0)), "wanted_lane": ((0.0, 0.05), (0.95, 1.0))}


def wishes():
    """`highway` whose tasks want slow or fast, left or right: whoever does not find out does half of it right."""
    family = highway(5, ranges=OPPOSITE)
    many = {"span": Span(2, 30, 4), "meta_batch": 8, "outer_rate": 5e-3}  # small outer steps, chosen on train tasks
    trial = dataclasses.replace(TRIAL_RECIPE, meta_batch=16)
    return family._replace(recipe=dataclasses.replace(family.recipe, **many), trial=trial)


PLACES = {
    "wishes": Place(wishes, 3_000_000),
    "permuted_highway": Place(functools.partial(permuted_highway, vehicles=10), 1_000_000),
}
LEARNERS = ("cavia", "maml", "pearl", "rl2", "multitask", "finetune", "continued", BY_EPISODE, "scratch", "conditioned")

if __name__ == "__main__":
    start(functools.partial(compare, "driving", PLACES, LEARNERS), Options, __doc__)
