"""RL² on GridNavi beside the Bayes optimum, exact: python experiments/gridnavi.py [--seeds N] [--only NAME] [--quick].

A trial has 4 episodes; goals are drawn from all cells that may hold one, the prior of that optimum.
"""

import in_trials
from command_line import start
from kept import RESULTS

from metadqn_jax.planners.gridnavi import bayes_optimal
from metadqn_jax.tasks.gridnavi import gridnavi

CASES = {"gridnavi": gridnavi}
PATH = RESULTS / "gridnavi.json"


def row(name, options):
    """The result of one case, with its references by episode."""
    result = in_trials.rl2(name, CASES[name](), options)
    episodes = len(result["by_episode"])
    return {**result, "random_episode": result["random"] / episodes, "bound": bayes_optimal(episodes).tolist()}


def save(rows):
    """results/gridnavi.md and .png."""
    PATH.with_suffix(".md").write_text(in_trials.by_episode(rows))
    in_trials.figure(PATH.with_suffix(".png"), "RL² on GridNavi", rows)


def main(options: in_trials.Options) -> None:
    """Run what is missing, and write results/gridnavi.json, .md and .png."""
    in_trials.run(PATH, CASES, options, lambda name: row(name, options), save)


if __name__ == "__main__":
    start(main, in_trials.Options, __doc__)
