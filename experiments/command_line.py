"""How experiments are started: their options are read, and a mistake in them ends in one sentence, before anything runs."""

import pathlib
import sys

import tyro

from metadqn_jax.checks import Misuse, check_count

COUNTS = ("seeds", "tasks", "budget", "steps")  # options that are at least 1 where they are given


def start(main, options, description):
    """`main(options)`, as the command line gives them; exit 2 and one sentence for a mistake of the caller's."""
    given = tyro.cli(options, description=description)
    try:
        for name in COUNTS:
            value = getattr(given, name, None)
            if value is not None:
                check_count(f"--{name}", value)
        main(given)
    except Misuse as misuse:
        print(f"{pathlib.Path(sys.argv[0]).name}: {misuse}", file=sys.stderr)
        sys.exit(2)
