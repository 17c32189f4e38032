"""A checkpoint gives back what was saved, bit for bit, or says in one sentence why it does not."""

import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from metadqn_jax import checkpoints
from metadqn_jax.checkpoints import DamagedCheckpoint, latest, restore, save
from metadqn_jax.checks import Misuse

IDENTITY = {"learner": {"name": "maml", "rate": 0.1, "layers": (64, 64)}, "seed": 0}


class State(NamedTuple):
    params: Any
    memory: Any
    optimiser: Any
    keys: Any
    step: Any


def make(step):
    """A state with every kind of leaf: nested, empty, of size 0, half precision, boolean, keys."""
    params = {"w": jnp.arange(6.0).reshape(2, 3) + step, "b": jnp.ones(3, jnp.bfloat16), "none": jnp.zeros((0, 3))}
    optimiser = optax.chain(optax.clip(1.0), optax.adam(1e-3)).init(params)
    keys = [jax.random.key(step), jax.random.split(jax.random.key(1), 3), jax.random.key(2, impl="rbg")]
    return State(params, ((), {"seen": jnp.array([True, False])}, None), optimiser, keys, jnp.int32(step))


def numbers(leaf):
    return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)


def assert_same(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert isinstance(ours, jax.Array)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert numbers(ours).tobytes() == numbers(theirs).tobytes()


def like():
    return jax.eval_shape(lambda: make(0))


def told(caught):
    """The one sentence of an error."""
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


@pytest.fixture
def folder(tmp_path):
    """Two steps, 10 and 20."""
    for step in (10, 20):
        save(tmp_path, step, make(step), IDENTITY)
    return tmp_path


def data_files(folder, step):
    return [path for path in (folder / str(step) / "data").rglob("*") if path.is_file() and path.stat().st_size]


def test_a_state_comes_back_bit_for_bit(folder):
    for template in (like(), make(0)):
        step, state = restore(folder, template, IDENTITY)
        assert step == latest(folder) == 20
        assert_same(state, make(20))


def test_a_restored_key_draws_what_the_saved_one_would(folder):
    _, state = restore(folder, like(), IDENTITY)
    assert jax.random.normal(state.keys[0]) == jax.random.normal(jax.random.key(20))


def test_a_state_that_ran_compiles_once_with_the_restored_one(folder):
    traces = []

    @jax.jit
    def advance(state):
        traces.append(1)
        return state._replace(step=state.step + 1)

    state = advance(advance(make(20)))
    _, restored = restore(folder, state, IDENTITY)
    assert advance(restored).step == 21
    assert len(traces) == 1


def test_a_named_step_is_restored(folder):
    step, state = restore(folder, like(), IDENTITY, step=10)
    assert step == 10
    assert_same(state, make(10))
    with pytest.raises(Misuse, match=r"step 15 is not among \[10, 20\]") as caught:
        restore(folder, like(), IDENTITY, step=15)
    told(caught)


def test_relative_paths_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save("run/checkpoints", 1, make(1), IDENTITY)
    assert latest("run/checkpoints") == 1
    assert restore("run/checkpoints", like(), IDENTITY)[0] == 1


def test_the_folder_may_be_moved(folder):
    moved = folder.rename(folder.with_name("moved"))
    assert_same(restore(moved, like(), IDENTITY)[1], make(20))


def test_the_last_two_steps_stay_and_later_ones_are_never_touched(folder):
    save(folder, 30, make(30), IDENTITY)
    assert sorted(path.name for path in folder.iterdir()) == ["20", "30"]
    save(folder, 25, make(25), IDENTITY)
    assert sorted(path.name for path in folder.iterdir()) == ["20", "25", "30"]
    save(folder, 40, make(40), IDENTITY, keep=1)
    assert sorted(path.name for path in folder.iterdir()) == ["40"]


def test_saving_a_step_again_replaces_it(folder):
    save(folder, 20, make(7), IDENTITY)
    step, state = restore(folder, like(), IDENTITY)
    assert step == 20
    assert_same(state, make(7))
    assert sorted(path.name for path in folder.iterdir()) == ["10", "20"]


def test_saving_again_mends_a_damaged_step(folder):
    data_files(folder, 20)[0].write_bytes(b"")
    save(folder, 20, make(20), IDENTITY)
    assert restore(folder, like(), IDENTITY)[0] == 20


def test_nothing_is_pickled(folder):
    names = {path.name for path in folder.rglob("*")}
    assert not any(name.endswith((".pkl", ".pickle", ".npy")) for name in names)


@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_flipped_bit_in_any_file_falls_back(folder, where):
    for path in [*data_files(folder, 20), folder / "20" / "manifest.json"]:
        sound = path.read_bytes()
        place = {"first": 0, "middle": len(sound) // 2, "last": len(sound) - 1}[where]
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 4]) + sound[place + 1 :])
        with pytest.warns(DamagedCheckpoint, match=r"step 20 \(.*sha256\).*restored step 10 instead\.$"):
            step, state = restore(folder, like(), IDENTITY)
        assert step == 10
        assert_same(state, make(10))
        path.write_bytes(sound)
    assert restore(folder, like(), IDENTITY)[0] == 20


def test_a_truncated_or_missing_file_falls_back(folder):
    for path in data_files(folder, 20):
        sound = path.read_bytes()
        for size in (0, len(sound) // 2, len(sound) - 1, None):
            path.write_bytes(sound[:size])
            if size is None:
                path.unlink()
            with pytest.warns(DamagedCheckpoint, match="step 20"):
                assert restore(folder, like(), IDENTITY)[0] == 10
        path.write_bytes(sound)


def test_leaves_are_compared_after_orbax_too(folder, monkeypatch):
    load = checkpoints.ocp.load

    def careless(path, abstract):
        loaded = load(path, abstract)
        return {**loaded, "2": loaded["2"] + 1} if "/20/" in path else loaded

    monkeypatch.setattr(checkpoints.ocp, "load", careless)
    with pytest.warns(DamagedCheckpoint, match=r"step 20 \(\.params\['w'\] does not match its sha256\)"):
        assert restore(folder, like(), IDENTITY)[0] == 10


def test_a_damaged_step_that_was_asked_for_is_refused(folder):
    data_files(folder, 20)[0].write_bytes(b"")
    with pytest.raises(Misuse, match="a sound checkpoint was expected") as caught:
        restore(folder, like(), IDENTITY, step=20)
    assert "a damaged step 20" in told(caught)


def test_no_sound_step_at_all_is_refused(folder):
    data_files(folder, 20)[0].write_bytes(b"")
    (folder / "10" / "manifest.json").write_text("[]")
    with pytest.raises(Misuse, match="a sound checkpoint was expected") as caught:
        restore(folder, like(), IDENTITY)
    assert "step 20 (data" in told(caught)
    assert "step 10 (manifest.json" in told(caught)


@pytest.mark.parametrize("name", ["", "absent"])
def test_an_empty_folder_is_refused(tmp_path, name):
    assert latest(tmp_path / name) is None
    with pytest.raises(Misuse, match=r"a checkpoint was expected in .*, got none") as caught:
        restore(tmp_path / name, like(), IDENTITY)
    told(caught)


def test_another_identity_is_refused_with_the_entries_that_differ(folder):
    other = {"learner": {"name": "maml", "rate": 0.2, "layers": [64, 64]}, "streams": 4}
    with pytest.raises(Misuse) as caught:
        restore(folder, like(), other)
    expected = "saved with learner.rate 0.1 (asked: 0.2), seed 0 (asked: 'absent'), streams 'absent' (asked: 4);"
    assert expected in told(caught)
    with pytest.raises(Misuse, match=r"learner\.rate 0\.1") as caught:
        save(folder, 30, make(30), other)
    told(caught)
    assert latest(folder) == 20
    with pytest.raises(Misuse, match="and 3 more") as caught:
        restore(folder, like(), {"a": 1, "b": 2})
    told(caught)


@pytest.mark.parametrize(("identity", "why"), [([1], "dict"), ({"f": print}, "JSON"), ({"x": float("nan")}, "JSON")])
def test_an_identity_that_json_cannot_say_is_refused(tmp_path, identity, why):
    with pytest.raises(Misuse, match=why) as caught:
        save(tmp_path, 0, make(0), identity)
    told(caught)


def with_params(**changes):
    state = like()
    return state._replace(params={**state.params, **changes})


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (
            with_params(w=jax.ShapeDtypeStruct((2, 3), "float16")),
            r"\['w'\]: float32\[2, 3\] where .*float16\[2, 3\] was",
        ),
        (
            with_params(w=jax.ShapeDtypeStruct((3, 2), "float32")),
            r"\['w'\]: float32\[2, 3\] where .*float32\[3, 2\] was",
        ),
        (with_params(zero=jax.ShapeDtypeStruct((), "float32")), r"where .params\['zero'\]: float32\[\] was expected"),
        (like()._replace(step=()), "holds .step: int32.* where no further leaf was expected"),
        (like()._replace(memory=like().params), "where .memory"),
    ],
)
def test_another_dtype_shape_or_structure_is_refused(folder, wanted, sentence):
    with pytest.raises(Misuse, match=sentence) as caught:
        restore(folder, wanted, IDENTITY)
    told(caught)


def test_keys_of_another_kind_are_refused(folder):
    state = make(0)
    other = state._replace(keys=[jax.random.key(0, impl="rbg"), *state.keys[1:]])
    with pytest.raises(Misuse, match=r"key<fry>\[\] where .*key<rbg>\[\] was expected") as caught:
        restore(folder, other, IDENTITY)
    told(caught)


@pytest.mark.parametrize("leaf", [3, 0.5, "text", np.ones(2), jax.ShapeDtypeStruct((2,), "float32")])
def test_only_arrays_are_saved(tmp_path, leaf):
    with pytest.raises(Misuse, match=r"state\['x'\] must be a JAX array") as caught:
        save(tmp_path, 0, {"x": leaf}, IDENTITY)
    told(caught)
    assert latest(tmp_path) is None


def test_a_state_without_arrays_is_refused(tmp_path):
    with pytest.raises(Misuse, match="at least one array") as caught:
        save(tmp_path, 0, ((), {}), IDENTITY)
    told(caught)


def test_a_state_of_empty_arrays_is_saved(tmp_path):
    save(tmp_path, 0, jnp.zeros((0, 2)), {})
    assert restore(tmp_path, jax.ShapeDtypeStruct((0, 2), "float32"), {})[1].shape == (0, 2)


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/checkpoints"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, place):
    """By a file in its way and by the kernel: `chmod` does not stop root."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Misuse, match="checkpoints need a folder that can be written, got /") as caught:
        save(tmp_path / place, 0, make(0), IDENTITY)
    told(caught)


def test_a_read_only_folder_is_refused(folder):
    folder.chmod(0o500)
    try:
        if os.access(folder, os.W_OK):
            pytest.skip("root writes where it likes")
        with pytest.raises(Misuse, match="checkpoints need a folder that can be written") as caught:
            save(folder, 30, make(30), IDENTITY)
        assert restore(folder, like(), IDENTITY)[0] == 20
    finally:
        folder.chmod(0o700)
    told(caught)


@pytest.mark.parametrize(("step", "keep"), [(-1, 2), (1.0, 2), (1, 0)])
def test_steps_and_keep_are_counts(tmp_path, step, keep):
    with pytest.raises(Misuse, match="whole number") as caught:
        save(tmp_path, step, make(0), IDENTITY, keep)
    told(caught)


@pytest.mark.parametrize("moment", ["_files", "_commit"])
def test_a_save_that_stops_midway_leaves_the_step_before(folder, monkeypatch, moment):
    class Killed(BaseException):
        pass

    def stop(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, moment, stop)
        with pytest.raises(Killed):
            save(folder, 30, make(30), IDENTITY)
    assert (folder / "30.partial").exists()
    assert latest(folder) == 20
    assert_same(restore(folder, like(), IDENTITY)[1], make(20))
    save(folder, 30, make(30), IDENTITY)
    assert sorted(path.name for path in folder.iterdir()) == ["20", "30"]


def test_a_killed_process_leaves_the_step_before(tmp_path):
    program = """
        import sys, jax.numpy as jnp
        from metadqn_jax.checkpoints import save
        for step in range(1_000_000):
            save(sys.argv[1], step, {"x": jnp.full(500_000, float(step))}, {})
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), str(tmp_path)])
    try:
        deadline = time.monotonic() + 60
        while not ((latest(tmp_path) or 0) >= 2 and any(tmp_path.glob("*.partial/data*"))):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step, state = restore(tmp_path, {"x": jax.ShapeDtypeStruct((500_000,), "float32")}, {})
    assert step == latest(tmp_path) >= 2
    assert state["x"].tolist() == [float(step)] * 500_000


def test_a_leaf_goes_to_the_sharding_that_is_named_and_else_stays_free(folder):
    mesh = jax.make_mesh((1,), ("task",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("task"))
    wanted = with_params(w=jax.ShapeDtypeStruct((2, 3), "float32", sharding=sharding))
    _, state = restore(folder, wanted, IDENTITY)
    assert state.params["w"].sharding == sharding
    assert not state.step.committed
    assert_same(state, make(20))


def test_a_state_moves_to_another_mesh(tmp_path):
    program = """
        import sys, jax, jax.numpy as jnp
        from jax.sharding import AxisType, NamedSharding, PartitionSpec
        from metadqn_jax.checkpoints import restore, save
        jax.config.update("jax_num_cpu_devices", 4)
        def over(count):
            mesh = jax.make_mesh((count,), ("task",), axis_types=(AxisType.Auto,), devices=jax.devices()[:count])
            return NamedSharding(mesh, PartitionSpec("task"))
        state = {"x": jnp.arange(8.0), "keys": jax.random.split(jax.random.key(0), 4), "none": jnp.zeros((0, 2))}
        state = jax.device_put(state, over(2))
        save(sys.argv[1], 0, state, {})
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=over(4)), state)
        moved = restore(sys.argv[1], like, {})[1]
        assert all(leaf.sharding == over(4) for leaf in moved.values())
        assert moved["x"].tolist() == list(range(8))
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(program), str(tmp_path)]
    subprocess.run(command, check=True)
    here = {"x": jnp.zeros(8), "keys": jax.random.split(jax.random.key(1), 4), "none": jnp.zeros((0, 2))}
    _, state = restore(tmp_path, here, {})
    assert state["x"].tolist() == list(range(8))
    assert (numbers(state["keys"]) == numbers(jax.random.split(jax.random.key(0), 4))).all()
