"""A run's folder of checkpoints, and the only module that meets orbax.

    <directory>/<step>/data/            the leaves, written by orbax
    <directory>/<step>/manifest.json    step, identity, every leaf's path, dtype, shape and sha256, every file's sha256

A step is built in `<step>.partial` and renamed when it is whole, so a process killed while it saves leaves the steps
before as they were. orbax may load a flipped bit without a word, so files are compared with the manifest before it
opens them; it casts a wrong dtype as quietly, so leaves are compared after. Nothing is pickled. One process writes a
folder; the mesh may differ between saving and restoring.
"""

import contextlib
import hashlib
import json
import shutil
import warnings
from itertools import zip_longest
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as ocp

from metadqn_jax.checks import Misuse, check_count, is_traced, require


class DamagedCheckpoint(UserWarning):
    """The newest checkpoint could not be read and an earlier one was restored; the message names both."""


class _Damage(Exception):
    """What is wrong with one step's files; stays within this module."""


def save(directory: Any, step: int, state: Any, identity: dict, keep: int = 2) -> Path:
    """Write `state` (any pytree of arrays) as `step`, replacing that step if it exists; gives the step's folder.

    `identity` is a JSON-able dict: the configuration that made the state. Of the steps up to this one the last `keep`
    stay; later ones are never touched. Raises `Misuse` for leaves that are no JAX arrays, and for a folder that holds
    another identity or cannot be written.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> _ = save(folder, 3, {"w": jnp.ones(2)}, {"seed": 0})
    >>> step, state = restore(folder, {"w": jax.ShapeDtypeStruct((2,), "float32")}, {"seed": 0})
    >>> step, state["w"].tolist()
    (3, [1.0, 1.0])
    """
    check_count("step", step, least=0)
    check_count("keep", keep)
    leaves, named = _leaves("state", state, jax.Array), _json(identity)
    root = Path(directory).absolute()
    for other in _steps(root):
        with contextlib.suppress(_Damage):
            _check_identity(root / str(other), _manifest(root / str(other))["identity"], named)
    place, partial = root / str(step), root / f"{step}.partial"
    try:
        for left in [*root.glob("[0-9]*.partial"), *root.glob("[0-9]*.replaced")]:  # by a process that was killed
            shutil.rmtree(left)
        partial.mkdir(parents=True)
        data = {str(index): leaf for index, (_, leaf) in enumerate(leaves) if leaf.size}
        if data:
            ocp.save(str(partial / "data"), data)
        records = [_record(*leaf) for leaf in leaves]
        manifest = {"step": step, "identity": named, "leaves": records, "files": _files(partial)}
        (partial / "manifest.json").write_text(json.dumps({**manifest, "sha256": _digest(manifest)}, indent=1))
        _commit(partial, place)
        for old in [other for other in _steps(root) if other <= step][:-keep]:
            shutil.rmtree(root / str(old))
    except OSError as error:
        raise Misuse(f"checkpoints need a folder that can be written, got {root} ({error}); name another.") from error
    return place


def latest(directory: Any) -> int | None:
    """The newest step in `directory`, or None; `restore` is what finds out whether it is sound.

    >>> latest("/no/such/folder") is None
    True
    """
    return max(_steps(Path(directory).absolute()), default=None)


def restore(directory: Any, like: Any, identity: dict, step: int | None = None) -> tuple[int, Any]:
    """(step, state) of the newest sound step, or of `step`, in the structure of `like`, bit for bit as it was saved.

    `like` holds arrays or the `jax.ShapeDtypeStruct`s of `jax.eval_shape`; a leaf goes to the sharding that is named
    there, else to the default device, uncommitted. A step whose files are damaged is passed over with one
    `DamagedCheckpoint` warning. Raises `Misuse` for another identity, structure, shape or dtype, for a step that is
    not there, and where no step is sound. Containers are told apart by their leaves' paths, not by their types.
    """
    wanted, asked = _leaves("like", like, jax.Array, jax.ShapeDtypeStruct), _json(identity)
    root = Path(directory).absolute()
    steps = _steps(root)
    require(bool(steps), f"a checkpoint was expected in {root}, got none; save one or name the folder of a run.")
    require(step is None or step in steps, f"step {step} is not among {steps} in {root}; choose one of those.")
    damages = {}
    for candidate in reversed(steps) if step is None else [step]:
        try:
            leaves = _read(root / str(candidate), wanted, asked)
        except _Damage as damage:
            damages[candidate] = damage
            continue
        if damages:
            warnings.warn(f"{_list(damages)} in {root}; restored step {candidate} instead.", DamagedCheckpoint, 2)
        return candidate, jax.tree.unflatten(jax.tree.structure(like), leaves)
    raise Misuse(f"a sound checkpoint was expected in {root}, got {_list(damages)}; name another step or start anew.")


def _steps(root: Path) -> list[int]:
    """The steps in `root` that were written to the end, ascending."""
    return sorted(int(path.parent.name) for path in root.glob("*/manifest.json") if path.parent.name.isdecimal())


def _commit(partial: Path, place: Path) -> None:
    """Rename `partial` to `place`; what was there is set aside first and removed last."""
    aside = place.with_suffix(".replaced")
    if place.exists():
        place.rename(aside)
    partial.rename(place)
    shutil.rmtree(aside, ignore_errors=True)


def _leaves(name: str, tree: Any, *kinds: type) -> list[tuple[str, Any]]:
    """(path, leaf) of every leaf of `tree`, each of one of `kinds`; raises `Misuse` otherwise."""
    leaves = [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree.leaves_with_path(tree)]
    require(bool(leaves), f"{name} must hold at least one array, got none; give the state of a run.")
    for path, leaf in leaves:
        sound = isinstance(leaf, kinds) and not is_traced(leaf)
        require(sound, f"{name}{path} must be a JAX array, got {type(leaf).__name__}; wrap it in jnp.asarray.")
    return leaves


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _host(leaf: Any) -> np.ndarray:
    """A leaf's numbers on the host; of keys, their data."""
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _face(path: str, leaf: Any) -> dict:
    """What can be told of a leaf without its numbers."""
    return {"path": path, "dtype": str(leaf.dtype), "shape": list(leaf.shape)}


def _record(path: str, leaf: Any) -> dict:
    """A leaf's line in the manifest."""
    return {**_face(path, leaf), "sha256": _sha256(_host(leaf).tobytes())}


def _files(place: Path) -> dict[str, str]:
    """The sha256 of every file in a step's data."""
    paths = filter(Path.is_file, place.glob("data/**/*"))
    return {str(path.relative_to(place)): _sha256(path.read_bytes()) for path in paths}


def _digest(manifest: dict) -> str:
    return _sha256(json.dumps(manifest, sort_keys=True).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _json(identity: Any) -> dict:
    """`identity` as JSON gives it back, so that tuples equal lists; raises `Misuse` for what JSON cannot say."""
    require(isinstance(identity, dict), f"identity must be a dict, got {type(identity).__name__}; name its entries.")
    try:
        return json.loads(json.dumps(identity, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise Misuse(f"identity must be made of what JSON knows, got {identity!r} ({error}); convert it.") from error


def _read(place: Path, wanted: list[tuple[str, Any]], identity: dict) -> list[Any]:
    """The leaves at `place`; raises `_Damage` if they are not what was saved, `Misuse` if not what is wanted."""
    manifest = _manifest(place)
    _check_identity(place, manifest["identity"], identity)
    _check_faces(place, manifest["leaves"], wanted)
    if changed := manifest["files"].items() - _files(place).items():
        raise _Damage(f"{min(changed)[0]} does not match its sha256")
    data = {str(index): _abstract(leaf) for index, (_, leaf) in enumerate(wanted) if leaf.size}
    loaded = ocp.load(str(place / "data"), data) if data else {}
    leaves = []
    for index, ((path, leaf), record) in enumerate(zip(wanted, manifest["leaves"], strict=True)):
        got = loaded[str(index)] if leaf.size else jnp.zeros(leaf.shape, leaf.dtype)
        if _record(path, got) != record:
            raise _Damage(f"{path} does not match its sha256")
        leaves.append(_placed(got, leaf))
    return leaves


def _manifest(place: Path) -> dict:
    """The manifest at `place`, without its own sha256; raises `_Damage` if that does not match."""
    with contextlib.suppress(OSError, ValueError, KeyError, AttributeError, TypeError):
        manifest = json.loads((place / "manifest.json").read_text())
        if manifest.pop("sha256") == _digest(manifest):
            return manifest
    raise _Damage("manifest.json does not match its sha256")


def _sharding(leaf: Any) -> Any:
    """Where `like` wants a leaf, or None where it does not say."""
    return getattr(leaf, "sharding", None) if getattr(leaf, "committed", True) else None


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    anywhere = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=_sharding(leaf) or anywhere)


def _placed(got: Any, leaf: Any) -> Any:
    """`got` where `like` wants it; uncommitted where it does not say, so that a later `jit` may place it."""
    if _sharding(leaf) is not None:
        return jax.device_put(got, _sharding(leaf))
    host = jnp.asarray(_host(got))
    return jax.random.wrap_key_data(host, impl=jax.random.key_impl(got)) if _is_key(got) else host


def _check_identity(place: Path, saved: dict, asked: dict) -> None:
    """The checkpoint's identity is the one asked for; raises `Misuse` with the first entries that differ."""
    saved, asked = _flat(saved), _flat(asked)
    sides = {key: (saved.get(key, "absent"), asked.get(key, "absent")) for key in {**saved, **asked}}
    told = [f"{key} {have!r} (asked: {want!r})" for key, (have, want) in sides.items() if have != want]
    more = f" and {len(told) - 3} more" if len(told) > 3 else ""
    require(not told, f"{place} was saved with {', '.join(told[:3])}{more}; ask for the same or use another folder.")


def _flat(tree: dict, prefix: str = "") -> dict:
    """A nested dict with dotted keys."""
    flat = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value})
    return flat


def _check_faces(place: Path, records: list[dict], wanted: list[tuple[str, Any]]) -> None:
    """The manifest's leaves are those wanted; raises `Misuse` with the first that differs."""
    faces = [_face(path, leaf) for path, leaf in wanted]
    told = ([f"{face['path']}: {face['dtype']}{face['shape']}" for face in side] for side in (records, faces))
    for have, want in zip_longest(*told, fillvalue="no further leaf"):
        require(have == want, f"{place} holds {have} where {want} was expected; use the configuration that saved it.")


def _list(damages: dict[int, _Damage]) -> str:
    return ", ".join(f"a damaged step {step} ({reason})" for step, reason in damages.items())
