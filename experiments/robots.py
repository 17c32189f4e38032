"""Continuous actions, adapted to a task: python experiments/robots.py [--only PLACE] [--learner NAME] [--quick].

Learners that adapt beside a multi-task DQN, the same fine-tuned, one from scratch, and one that is shown the task, all with
the factored head on the same number of environment steps: on robots (extra `robots`), on the pendulum with varied physics
whose torques are a box, and reaching in 12 dimensions, by motors turned by one angle or two. Judged on held-out tasks after
0 … 3 segments, or by a trial's episodes, all seeds in one compiled program. What stands is not run again.
"""

import functools

from command_line import start
from side_by_side import Options, Place, compare

from metadqn_jax.actions import factored, held
from metadqn_jax.tasks.reaching import reaching
from metadqn_jax.tasks.robots import arm, cheetah
from metadqn_jax.tasks.varied_control import varied_pendulum
from metadqn_jax.tasks.wrappers import with_head


def pendulum():
    """`varied_pendulum` whose torques are a box of 5 levels, held for 5 steps in exploration."""
    return with_head(varied_pendulum(), held(factored([-2.0], [2.0], bins=5), 5))


PLACES = {
    "reaching": Place(reaching, 6_000_000),
    "reaching_two": Place(lambda: reaching(angles=2), 12_000_000),
    "pendulum": Place(pendulum, 10_000_000),
    "arm": Place(arm, 6_000_000),
    "cheetah_velocity": Place(cheetah, 1_000_000),
    "cheetah_direction": Place(lambda: cheetah("direction"), 1_000_000),
}
LEARNERS = ("rl2", "cavia", "maml", "pearl", "multitask", "finetune", "continued", "scratch", "conditioned")

if __name__ == "__main__":
    start(functools.partial(compare, "robots", PLACES, LEARNERS), Options, __doc__)
