"""Results that are kept cell by cell: an experiment that is stopped goes on where it was, and what stands is not run again."""

import json
import pathlib

import jax

RESULTS = pathlib.Path(__file__).parent / "results"


def compile_fast():
    """For smoke tests, which compute next to nothing: what is compiled from now on leaves the expensive passes out."""
    jax.config.update("jax_disable_most_optimizations", True)


def fill(path, cells, work, show, *, anew=False, quick=False):
    """Put `work(*cell)` where the JSON file at `path` holds nothing yet, for each of `cells`: tuples of names, the outer first.

    After each, `show(results)` makes the tables and figures of all that is there. anew: what stands is made again.
    quick: all is run, nothing is kept.
    """
    if quick:
        compile_fast()
    for cell in cells:
        if not (anew or quick) and _at(load(path), cell) is not None:
            continue
        found = work(*cell)
        if not quick:
            results = load(path)  # another process may have written meanwhile
            place = results
            for name in cell[:-1]:
                place = place.setdefault(name, {})
            place[cell[-1]] = found
            path.write_text(json.dumps(results, indent=1))
            show(results)


def load(path):
    """What the file holds, {} where there is none."""
    return json.loads(path.read_text()) if path.exists() else {}


def _at(results, cell):
    for name in cell:
        results = (results or {}).get(name)
    return results
