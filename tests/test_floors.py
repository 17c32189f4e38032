"""A file imports only lower floors, and the big libraries stand only where the house says."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent / "metadqn_jax"
FLOORS = [
    {"checks"},
    {"types", "stats", "planners/hidden_goal"},
    {
        "trees",
        "layers",
        "heads/base",
        "heads/exploration",
        "environments/highway_traffic",
        "environments/point",
        "environments/robots",
    },
    {"loops", "heads/*", "environments/highway_collisions"},
    {
        "actions",
        "td",
        "networks",
        "explore",
        "replay",
        "derivative",
        "environments/*",
        "planners/*",
        "figures",
        "memories/base",
    },
    {"tasks/base", "tasks/vary", "learners/base", "learners/rules", "memories/*"},
    {
        "tasks/splits",
        "tasks/wrappers",
        "tasks/from_gymnax",
        "tasks/trials",
        "learners/descent",
        "learners/rl2",
        "learners/pearl",
        "planners/strategy",
    },
    {"tasks/disguises"},
    {"tasks/minatar"},  # of whose games other families are made
    {"tasks/*", "learners/*", "living", "planners/bandit_strategies", "planners/tabular_strategies"},
    {"training", "evaluation"},
    {"judges", "curves"},
    {"programs"},
    {"checkpoints", "report", "progress", "sweep"},
    {"entries"},
    {"catalog"},
    {"options"},
    {"runs", "arguments"},
    {"cli"},
]
MODULES = sorted(str(path.relative_to(ROOT).with_suffix("")) for path in ROOT.rglob("*.py") if path.stem != "__init__")


def floor(module):
    exact = [height for height, names in enumerate(FLOORS) if module in names]
    family = [height for height, names in enumerate(FLOORS) if f"{module.split('/')[0]}/*" in names]
    return (exact or family)[0]


def imported(module):
    """(package modules, other packages) that a module imports anywhere in its file."""
    inside, outside = set(), set()
    for node in ast.walk(ast.parse((ROOT / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] != "metadqn_jax":
                outside.add(parts[0])
                continue
            path = "/".join(parts[1:])
            inside.add(path if path in MODULES else "/".join(parts[1:-1]))
    return inside, outside


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_lower_floors(module):
    for other in imported(module)[0]:
        assert floor(other) < floor(module), f"{module} must not import {other}"


@pytest.mark.parametrize("module", MODULES)
def test_learners_never_meet_tasks_and_tasks_never_meet_learners(module):
    inside, _ = imported(module)
    kind = module.split("/")[0]
    if kind == "learners":
        assert not {name for name in inside if name.split("/")[0] in ("tasks", "environments", "living", "training")}
    if kind == "tasks":
        assert not {name for name in inside if name.split("/")[0] in ("learners", "living", "training")}


HOMES = {
    "flax": {"layers", "networks", "memories/*", "environments/*"},
    "gymnax": {"environments/*", "tasks/*"},
    "xminigrid": {"environments/xland"},
    "optax": {"training", "programs", "learners/*"},
    "orbax": {"checkpoints"},
    "tyro": {"arguments"},
    "rich": {"cli", "report", "progress"},
    "matplotlib": {"figures"},
    "scipy": {"stats", "heads/sampled"},
}


@pytest.mark.parametrize("module", MODULES)
def test_libraries_stay_where_they_belong(module):
    for library in imported(module)[1] & set(HOMES):
        homes = HOMES[library]
        assert module in homes or f"{module.split('/')[0]}/*" in homes, f"{module} must not import {library}"


def test_the_table_of_floors_names_no_module_that_is_gone():
    named = {name for names in FLOORS for name in names if not name.endswith("*")}
    assert named <= set(MODULES)
