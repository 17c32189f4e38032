"""The README's Python blocks run as they stand, in order, in one namespace; its promises about length hold."""

import pathlib
import re

import matplotlib.figure  # noqa: F401  (matplotlib warns where it is first imported under warnings as errors)
import numpy as np

from metadqn_jax import cli

ROOT = pathlib.Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_first_block_is_short_and_early():
    lines = TEXT.splitlines()
    end = lines.index("```", lines.index("```python"))
    assert end <= 25
    assert len([line for line in BLOCKS[0].splitlines() if line.strip()]) <= 15


def test_the_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli.main(
        ["train", "cartpole", "fomaml", "--steps", "2", "--meta-batch", "2", "--eval-tasks", "2", "--out", "runs/cartpole"]
    )
    namespace = {}
    for number, block in enumerate(BLOCKS, start=1):
        exec(compile(block, f"README block {number}", "exec"), namespace)
        if number == 1:
            assert namespace["returns"].shape == (256, 6)
            curve = np.asarray(namespace["returns"]).mean(0)
            assert curve[-1] > curve[0] + 3, f"ten gradient steps must help, got {curve}"


def test_the_tables_are_those_that_the_experiments_wrote():
    tables = sorted((ROOT / "experiments" / "results").glob("*.md"))
    assert tables
    for path in tables:
        assert path.read_text() in TEXT, f"README.md must show {path.name} as it is; copy it there"


def test_ci_runs_the_readmes_own_test_command():
    assert re.search(r"^python3 -m venv .*pytest$", TEXT, flags=re.MULTILINE)
    assert "grep -m 1 '^python3 -m venv .*pytest$' README.md" in (ROOT / ".ci" / "run").read_text()
