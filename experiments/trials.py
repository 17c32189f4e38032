"""RL² on random MDPs for 10 episodes, with two memories: python experiments/trials.py [--seeds N] [--only NAME] [--quick]."""

from command_line import start
from in_trials import Options, rl2, run
from kept import RESULTS

from metadqn_jax.tasks.tabular import tabular

CASES = {  # (memory, changes to the family's recipe for trials)
    "tabular, read for each action": ("actions", {"hidden": (64, 64)}),
    "tabular, attention": ("attention", {}),
}
PUBLISHED = "tabular: published: RL² 156.2, SNAIL 159.0 (Duan et al. 2016; Mishra et al. 2018)"
PATH = RESULTS / "trials.json"


def row(name, options):
    """The result of one memory."""
    memory, changes = CASES[name]
    return rl2(name, tabular(), options, memory=memory, **changes)


def save(rows):
    """results/trials.md: one line a memory."""
    lines = [
        "| RL² over a trial | return | seeds | episodes 1, 2, last | random | CPU-s a seed |",
        "|---|---:|---|---|---:|---:|",
    ]
    for name, one in rows.items():
        episodes = one["by_episode"]
        spread = (one["ci95"][1] - one["ci95"][0]) / 2
        seeds = ", ".join(f"{value:.1f}" for value in one["by_seed"])
        shown = ", ".join(f"{episodes[i]:.2f}" for i in (0, 1, -1))
        lines.append(
            f"| {name} | {one['trial']:.2f} ± {spread:.2f} | {seeds} | {shown} "
            f"| {one['random']:.1f} | {one['cpu_seconds'] // one['seeds']} |"
        )
    PATH.with_suffix(".md").write_text("\n".join([*lines, f"| *{PUBLISHED}* | | | | | |"]) + "\n")


def main(options: Options) -> None:
    """Run what is missing, and write results/trials.json and .md."""
    run(PATH, CASES, options, lambda name: row(name, options), save)


if __name__ == "__main__":
    start(main, Options, __doc__)
