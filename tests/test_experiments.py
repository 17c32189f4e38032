"""The experiments run from end to end in their --quick form, which keeps nothing."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SCRIPTS = sorted(path.name for path in (ROOT / "experiments").glob("*.py") if "__main__" in path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_quick(script):
    results = {path: path.stat().st_mtime for path in (ROOT / "experiments" / "results").glob("*")}
    command = [sys.executable, str(ROOT / "experiments" / script), "--quick"]
    cheap = {**os.environ, "XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false"}  # to compile, as in the tests that are not slow
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=900, env=cheap)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert results == {path: path.stat().st_mtime for path in (ROOT / "experiments" / "results").glob("*")}


MISTAKES = {
    "games.py --only nope": "unknown place 'nope'",
    "games.py --learner nope": "unknown learner 'nope'",
    "navigation_2d.py --quick --only nope": "unknown head 'nope'",
    "action_heads.py --only nope": "unknown task 'nope'",
    "bandits.py --only 10,5 100,5": "--only must name a cell, a column or one of each",
    "benchmark.py --only nope": "unknown table 'nope'",
    "tabular_mdps.py --only nope": "unknown row 'nope'",
    "compare_learners.py --budget -5": "--budget must be a whole number of at least 1, got -5",
    "gridnavi.py --tasks 0": "--tasks must be a whole number of at least 1, got 0",
    "adapt_cartpole.py --seeds 0": "--seeds must be a whole number of at least 1, got 0",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_on_the_command_line_are_told_in_one_sentence_before_anything_runs(line):
    script, *words = line.split()
    command = [sys.executable, str(ROOT / "experiments" / script), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    told = [said for said in done.stderr.splitlines() if said.startswith(script)]
    assert len(told) == 1
    assert MISTAKES[line] in told[0]
    assert "Traceback" not in done.stderr
    assert not done.stdout
