"""Driving with pedals that somebody has exchanged: python experiments/driving.py [--learner NAME] [--quick].

Learners that adapt beside a multi-task DQN, the same fine-tuned, one from scratch, and one that is shown the task, all
meta-trained on the same number of environment steps. Judged on held-out tasks after 0 … 3 segments, or by a trial's
episodes, all seeds in one compiled program. What stands is not run again.
"""

import functools

import tyro
from side_by_side import Options, Place, compare

from metadqn_jax.tasks.highway import permuted_highway

PLACES = {"permuted_highway": Place(functools.partial(permuted_highway, vehicles=10), 1_000_000)}
LEARNERS = ("maml", "pearl", "rl2", "multitask", "finetune", "scratch", "conditioned")

if __name__ == "__main__":
    compare("driving", PLACES, LEARNERS, tyro.cli(Options, description=__doc__))
