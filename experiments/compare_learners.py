"""Every learner on every family, side by side: python experiments/compare_learners.py [--only FAMILY] [--quick].

All are meta-trained on the same number of environment steps of a family, by the family's recipe. Within a held-out task a
learner adapts after each fresh segment; those with a memory live through a trial, and are judged by its episodes. Results
are kept learner by learner, and what stands is not run again.
"""

import functools

from command_line import start
from side_by_side import Options, Place, compare

from metadqn_jax.catalog import FAMILIES, LEARNERS

BUDGETS = {"navigation": 8_000_000, "tabular": 6_400_000, "cartpole": 4_800_000}  # environment steps of meta-training
PLACES = {name: Place(FAMILIES[name], budget) for name, budget in BUDGETS.items()}

if __name__ == "__main__":
    start(functools.partial(compare, "compare", PLACES, list(LEARNERS)), Options, __doc__)
