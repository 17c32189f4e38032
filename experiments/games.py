"""Games whose aims, buttons, views or rules are hidden: python experiments/games.py [--only GAME] [--learner NAME] [--quick].

Learners that adapt beside multi-task, fine-tuned and scratch DQN, and one that is shown the task, on MinAtar's games and on
XLand-MiniGrid. All are meta-trained on the same number of environment steps of a game, and judged on held-out tasks after 0,
1, 2 and 3 fresh segments, or by the episodes of a trial. What stands is not run again.
"""

import functools

from command_line import start
from side_by_side import BY_EPISODE, Options, Place, compare

from metadqn_jax.catalog import FAMILIES
from metadqn_jax.tasks.xland import xland

BUDGETS = {"sided_invaders": 3_000_000, "freeway": 2_000_000}  # environment steps of meta-training
BUDGETS |= dict.fromkeys(("breakout", "space_invaders", "asterix"), 5_000_000)


def small_room():
    """XLand-MiniGrid in a room of 6² cells: one of three objects is to be picked up, and nobody says which."""
    return xland(rules=0, distractors=2, size=6, horizon=20, unseen="rulesets", goals=("hold",))


PLACES = {name: Place(FAMILIES[name], budget) for name, budget in BUDGETS.items()} | {"xland": Place(small_room, 2_000_000)}
LEARNERS = ("cavia", "maml", "rl2", "multitask", "finetune", "continued", BY_EPISODE, "scratch", "conditioned")

if __name__ == "__main__":
    start(functools.partial(compare, "games", PLACES, LEARNERS), Options, __doc__)
