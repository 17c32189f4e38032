"""The command `metadqn`: what a run leaves behind, stopping and going on, and errors of one sentence."""

import dataclasses
import json
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax import checkpoints, cli, programs, runs
from metadqn_jax.arguments import Evaluate, Train, _sentence, parse
from metadqn_jax.catalog import FAMILIES, LEARNERS
from metadqn_jax.checks import Misuse
from metadqn_jax.living import live
from metadqn_jax.options import build, choose
from metadqn_jax.training import steps_together

TINY = ["--hidden", "4", "--meta-batch", "2", "--segment-steps", "4", "--streams", "2", "--eval-tasks", "4"]
KEYS = {"tasks", "learner", "seed", "outer_steps", "env_steps", "num_tasks"}
CURVE = {"steps", "mean_return", "iqm", "ci95", "random", "optimum"}
pytestmark = pytest.mark.xdist_group("cli")


def metadqn(*arguments):
    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code
    return 0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    assert metadqn("train", "--steps", 4, "--out", folder, *TINY) == 0
    return folder


def test_a_run_leaves_its_folder(run):
    result = json.loads((run / "evaluation.json").read_text())
    assert set(result) == KEYS | CURVE
    assert result["steps"] == [0, 1, 2, 3, 5, 10]
    assert (result["tasks"], result["learner"], result["seed"]) == ("navigation", "maml", 0)
    assert (result["outer_steps"], result["env_steps"], result["num_tasks"]) == (4, 4 * 2 * 2 * 4 * 2, 4)
    for mean, (low, high) in zip(result["mean_return"], result["ci95"], strict=True):
        assert low <= mean <= high <= result["optimum"] + 1e-3
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert {"loss", "gradient_norm", "return_before", "return_after", "seconds"} <= set(rows[0])
    config = json.loads((run / "config.json").read_text())
    assert config["options"]["seed"] == 0
    assert "jax" in config["versions"]
    assert checkpoints.latest(run / "checkpoints") == 4
    assert (run / "figures" / "adaptation.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_measures_a_run_again(run):
    before = json.loads((run / "evaluation.json").read_text())
    assert metadqn("evaluate", run, "--tasks", 3, "--steps", 0, 2, "--seed", 1) == 0
    result = json.loads((run / "evaluation.json").read_text())
    assert (result["steps"], result["num_tasks"], result["outer_steps"]) == ([0, 2], 3, 4)
    (run / "evaluation.json").write_text(json.dumps(before))


def saved_leaves(folder):
    data = checkpoints.latest(folder / "checkpoints")
    manifest = json.loads((folder / "checkpoints" / str(data) / "manifest.json").read_text())
    return [leaf["sha256"] for leaf in manifest["leaves"]]


def test_a_stopped_run_goes_on_bit_for_bit(run, tmp_path, monkeypatch):
    folder = tmp_path / "stopped"
    show = cli.Dashboard.show

    def interrupt(self, done, row):
        if done == 2:
            signal.raise_signal(signal.SIGINT)
        return show(self, done, row)

    with monkeypatch.context() as patch:
        patch.setattr(cli.Dashboard, "show", interrupt)
        assert metadqn("train", "--steps", 4, "--out", folder, *TINY) == 130
    assert checkpoints.latest(folder / "checkpoints") == 2
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('[1]\n{"loss": 1}\n{"step": 3, "loss"}\n{"step": 3, "loss"')  # broken, or cut off in the middle of a row
    assert metadqn("train", "--resume", "--out", folder) == 0
    assert saved_leaves(folder) == saved_leaves(run)
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]


def test_a_stop_outside_of_training_is_told_in_one_line(monkeypatch, capsys):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "listing", stopped)
    assert metadqn("list") == 130
    assert capsys.readouterr().err.startswith("metadqn: stopped; ")


@pytest.mark.parametrize("spoilt", [b"\xff\xfe", b"[1]", b'{"options": {}, "recipe": null}', b""], ids=str)
def test_a_config_that_cannot_be_read_is_told_in_one_sentence(tmp_path, capsys, spoilt):
    (tmp_path / "config.json").write_bytes(spoilt)
    for arguments in (["evaluate", tmp_path], ["train", "--resume", "--out", tmp_path]):
        assert metadqn(*arguments) == 2
        assert "holds no run with a readable config.json" in capsys.readouterr().err
    with pytest.raises(Misuse, match="holds no run with a readable config"):
        runs.load(tmp_path)


def test_weights_that_are_not_finite_are_told_before_they_are_saved(tmp_path, capsys, monkeypatch):
    def spoilt(trainer, size):
        def steps(key, state):
            state, metrics = steps_together(trainer, size)(key, state)
            broken = jax.tree.map(lambda leaf: leaf * jnp.nan, state.slow.params)
            return state._replace(slow=state.slow._replace(params=broken)), metrics

        return steps

    monkeypatch.setattr(runs, "steps_together", spoilt)
    assert metadqn("train", "--steps", 1, "--out", tmp_path / "run", *TINY) == 2
    assert "the weights must stay finite" in capsys.readouterr().err
    assert checkpoints.latest(tmp_path / "run" / "checkpoints") is None


def test_list_names_everything(capsys):
    assert metadqn("list") == 0
    shown = capsys.readouterr().out
    for name in (*FAMILIES, *LEARNERS):
        assert name in shown
    assert all(entry.paper in " ".join(shown.split()) for entry in LEARNERS.values())


def test_every_option_is_documented(capsys):
    for command in ("train", "evaluate"):
        assert metadqn(command, "--help") == 0
        shown = " ".join(capsys.readouterr().out.split())
        for field in dataclasses.fields({"train": Train, "evaluate": Evaluate}[command]):
            assert field.name.replace("_", "-") in shown or field.name.upper() in shown


MISTAKES = {
    "unknown family": (["train", "chess"], "navigation"),
    "unknown learner": (["train", "navigation", "magic"], "maml"),
    "negative steps": (["train", "--steps", "-3"], "at least 1"),
    "no steps": (["train", "--steps", "0"], "at least 1"),
    "a fraction of a step": (["train", "--steps", "1.5"], "steps"),
    "no tasks": (["train", "--meta-batch", "0"], "meta_batch"),
    "negative rate": (["train", "--inner-rate", "-1"], "rate"),
    "small store": (["train", "--capacity", "3"], "capacity"),
    "unknown bootstrap": (["train", "--bootstrap", "shoes"], "current"),
    "bootstrap without inner loop": (["train", "navigation", "multitask", "--bootstrap", "current"], "drop it"),
    "rate without inner loop": (["train", "navigation", "scratch", "--inner-rate", "0.1"], "drop it"),
    "no worst tasks": (["train", "--cvar", "0"], "worst tasks"),
    "all and more": (["train", "--cvar", "1.5"], "worst tasks"),
    "resume without folder": (["train", "--resume"], "--out"),
    "hidden layers of no size": (["train", "--hidden"], "--hidden needs at least one value"),
    "no argument of a family": (["train", "--family"], "--family needs at least one value"),
    "evaluate nothing": (["evaluate", "/no/such/run"], "folder of a run"),
    "unknown option": (["train", "--colour", "red"], "colour"),
    "unknown command": (["trian"], "Unrecognized options: trian; see metadqn --help."),
    "no command": ([], "Expected one of {train, evaluate, list}"),
    "a word for a number": (["train", "--steps", "abc"], "Error parsing --steps"),
    "a seed that no key holds": (["train", "--seed", "99999999999999999999"], "at most"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_in_one_sentence(mistake, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, hint = MISTAKES[mistake]
    assert metadqn(*arguments) == 2
    told = capsys.readouterr().err
    assert hint in told
    assert "Traceback" not in told
    assert len(told.strip().splitlines()) == 1


BOXES = {
    "in a terminal": "\x1b[31m╭─ Value error ─╮\x1b[0m\n│ Error parsing │\n│ --steps. │\n│ ─── │\n│ For help │\n╰──╯\n",
    "in plain letters": "Value error\n-----------\nError parsing\n--steps.\n-----\nFor help\n",
}


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_a_box_is_read_with_and_without_a_frame(box):
    assert _sentence(box) == "Error parsing --steps"


@pytest.mark.parametrize(("option", "kept"), [("True", True), ("False", False), (None, True)])
def test_a_flag_is_on_off_or_the_recipes(option, kept):
    given = ["train", "navigation", "rl2", *(["--dueling", option] if option else [])]
    assert build(dataclasses.replace(parse(given), chunk=1), tasks=2)[1].dueling is kept


def test_a_run_goes_on_in_python(run):
    loaded = runs.load(run)
    test = loaded.family.split.test
    life = live(
        jax.random.key(0),
        loaded.learner,
        loaded.slow,
        test,
        test.sample(jax.random.key(1)),
        loaded.recipe.span,
        programs.make_explore(loaded.recipe),
    )
    assert int(loaded.slow.step) == 4
    assert np.abs(np.diff(jax.tree.leaves(life.fasts)[0], axis=0)).max() > 0
    with pytest.raises(Misuse, match="holds no run"):
        runs.load(run / "nothing")


def test_folders_that_cannot_be_used(run, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    cases = [
        (["train", "--out", tmp_path / "file" / "run", "--steps", 1, *TINY], "--out"),
        (["train", "--out", run, *TINY], "already holds a run"),
        (["train", "--resume", "--out", run, "--seed", 5], "with seed=0, got 5"),
        (["train", "navigation", "fomaml", "--resume", "--out", run], "with learner='maml', got 'fomaml'"),
        (["train", "--resume", "--out", tmp_path / "nothing"], "folder of a run"),
    ]
    for arguments, hint in cases:
        assert metadqn(*arguments) == 2
        told = capsys.readouterr().err
        assert hint in told
        assert len(told.strip().splitlines()) == 1


def test_a_checkpoint_of_another_config_is_refused(run, capsys):
    config = json.loads((run / "config.json").read_text())
    changed = json.loads(json.dumps(config))
    changed["options"]["hidden"] = [5]
    (run / "config.json").write_text(json.dumps(changed))
    assert metadqn("evaluate", run, "--tasks", 3) == 2
    told = capsys.readouterr().err
    (run / "config.json").write_text(json.dumps(config))
    assert "hidden" in told
    assert len(told.strip().splitlines()) == 1


def test_the_installed_command_shows_no_traceback(tmp_path):
    command = [sys.executable, "-m", "metadqn_jax.cli", "train", "chess"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("metadqn: unknown task family 'chess'")


def test_families_and_recipes_take_arguments():
    options = Train("navigation_2d", "maml", family=("bins=3",), recipe=("inner_trace=0.5", "last_discount=None"))
    chosen = choose(options)
    assert chosen.family.split.train.spec.head.width == 9
    assert (chosen.recipe.inner_trace, chosen.recipe.last_discount) == (0.5, None)


MINE = """
from metadqn_jax.entries import alike, of_descent
from metadqn_jax.learners.descent import fomaml
from metadqn_jax.tasks.navigation_2d import navigation_2d

def few(bins=3):
    return navigation_2d(bins)

def sized(size):
    return navigation_2d(size)

half = alike("half of MAML", "nobody", of_descent(fomaml))
"""


def test_families_and_learners_of_one_s_own(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    chosen = choose(Train("mine:few", "mine:half", family=("bins=2",)))
    assert chosen.family.split.train.spec.head.width == 4
    assert chosen.entry.line == "half of MAML"
    for name, words in (
        ("mine:many", "mend the name"),
        ("yours:few", "mend the name"),
        (":", "mend the name"),
        ("./mine.py:few", "mend the name"),
    ):
        with pytest.raises(Misuse, match=words):
            choose(Train(name, "maml"))
    with pytest.raises(Misuse, match="the learner must be an Entry"):
        choose(Train("navigation", "mine:few"))
    with pytest.raises(Misuse, match="mine:sized needs its argument size, got none; give --family size=VALUE"):
        choose(Train("mine:sized", "maml"))
    with pytest.raises(Misuse, match="named by the function that makes it"):
        choose(Train("builtins:dict", "maml"))
    with pytest.raises(Misuse, match="a Family is needed here, got a Entry"):
        choose(Train("mine:alike", "maml", family=("line=1", "paper=2", "factory=3")))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"family": ("bin=3",)}, "unknown name in --family 'bin'; did you mean 'bins'"),
        ({"family": ("bins",)}, "--family takes NAME=VALUE, got 'bins'"),
        ({"tasks": "navigation", "family": ("bins=3",)}, "--family must be left out"),
        ({"recipe": ("discount=0.5",)}, "unknown name in --recipe 'discount'"),
        ({"tasks": "semicircle", "family": ("dense=no",)}, "dense must be True or False, got 'no'"),
        ({"recipe": ("reward_scale=big",)}, "reward_scale must be a finite number at least 0, got 'big'"),
    ],
)
def test_arguments_that_there_are_not(changes, words):
    with pytest.raises(Misuse, match=words):
        choose(dataclasses.replace(Train("navigation_2d", "maml"), **changes))


def test_a_word_for_a_flag_of_the_recipe():
    with pytest.raises(Misuse, match="centred must be True or False, got 'no'"):
        build(Train("gridnavi", "rl2", recipe=("centred=no",), chunk=1), tasks=2)


def test_a_given_discount_stays():
    assert FAMILIES["gridnavi"]().trial.last_discount is not None
    recipe = choose(Train("gridnavi", "rl2", discount=0.5)).recipe
    assert (recipe.discount, recipe.last_discount) == (0.5, None)
    assert choose(Train("navigation", "maml", discount=1.0)).recipe.discount == 1.0


def test_a_bound_that_nobody_knows_is_null():
    known = runs.as_json({"optimum": float("nan"), "random": 1.5, "learner": "maml", "mean_return": [1.0]})
    assert known == {"optimum": None, "random": 1.5, "learner": "maml", "mean_return": [1.0]}
