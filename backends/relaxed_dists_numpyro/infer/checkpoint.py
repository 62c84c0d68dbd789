"""Saves the state of a training to a NumPy file, without pickle, and loads it."""

import json
import os
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr
from numpyro.infer.svi import SVIState

from relaxed_dists._infer import checkpoint
from relaxed_dists_jax.older import key_impl


def _is_key(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def _leaves(svi_state: Any) -> dict[str, Any]:
    """The leaves of a state, by their paths."""
    paths, _ = jax.tree_util.tree_flatten_with_path(svi_state)
    return {keystr(path): leaf for path, leaf in paths}


def _params(svi: Any, svi_state: Any) -> list[str]:
    """The names of the parameters, which the states of NumPyro's own optimisers do not have."""
    params = jax.eval_shape(svi.optim.get_params, svi_state.optim_state)
    paths, _ = jax.tree_util.tree_flatten_with_path(params)
    return [keystr(path) for path, _ in paths]


def _check(svi_state: Any) -> None:
    if not isinstance(svi_state, SVIState):
        raise checkpoint.not_a_state(svi_state)


def save(svi: Any, path: str | os.PathLike[str], svi_state: Any) -> None:
    """Write each leaf of a state under its path; a header has what NumPy's format can't store."""
    _check(svi_state)
    arrays, kinds = {}, {}
    for name, leaf in _leaves(svi_state).items():
        if not getattr(leaf, "is_fully_addressable", True) and not leaf.is_fully_replicated:
            advice = "Gather it by jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, P()))"
            raise checkpoint.sharded(name, "process", advice)
        impl = key_impl(leaf) if _is_key(leaf) else None
        array = np.asarray(jax.random.key_data(leaf) if impl else leaf)
        weak = not hasattr(leaf, "dtype") or getattr(leaf, "weak_type", False)
        kinds[name] = {"dtype": array.dtype.name, "weak": weak, "key": impl}
        # NumPy's format has no bfloat16 or other small floats of JAX: save their bits.
        arrays[name] = array.view(f"u{array.itemsize}") if array.dtype.isbuiltin != 1 else array
    header = {"leaves": kinds, "params": _params(svi, svi_state), "optim": type(svi.optim).__name__}
    arrays["kinds"] = np.array(json.dumps(header))
    checkpoint.write(path, partial(np.savez, **arrays))  # type: ignore[arg-type]


def _read(file: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The leaves in a file, and the file's header."""
    with np.load(file, allow_pickle=False) as arrays:
        header = json.loads(str(arrays["kinds"]))
        values: dict[str, Any] = {}
        for name, kind in header["leaves"].items():
            values[name] = arrays[name].view(jnp.dtype(kind["dtype"]))
            if kind["key"]:
                values[name] = jax.random.wrap_key_data(values[name], impl=kind["key"])
        return values, {key: header[key] for key in ("leaves", "optim", "params")}


def _array(value: Any, weak: bool) -> Any:
    """The value as an array; if ``weak``, of JAX's weak type, which matters for dtypes of sums."""
    if weak and value.dtype != bool:
        zero = value.dtype.type(0).item()
        return jnp.full(value.shape, zero).at[...].set(value)
    return jnp.asarray(value)


def _placed(value: Any, like: Any) -> Any:
    """The value on the devices of another array, which may belong to other processes."""
    if _is_key(value):  # jax.device_put sends no keys to devices of other processes
        data = _placed(jax.random.key_data(value), jax.random.key_data(like))
        return jax.random.wrap_key_data(data, impl=key_impl(value))
    return jax.device_put(value, like.sharding)


def load(svi: Any, path: str | os.PathLike[str], svi_state: Any) -> Any:
    """Read a state, which must have the structure of svi_state, from a file."""
    _check(svi_state)
    source = f"the file {str(path)!r}"
    with open(path, "rb") as file:
        try:
            values, header = _read(file)
        except Exception as error:  # the error's class depends on the damage
            raise checkpoint.unreadable(path, error) from error
    if header["optim"] != type(svi.optim).__name__:
        raise checkpoint.malformed(
            source, f"the state of {header['optim']}", f"that of {type(svi.optim).__name__}"
        )
    expected = _leaves(svi_state)
    for ours, theirs in ((_params(svi, svi_state), header["params"]), (expected, values)):
        if set(ours) != set(theirs):
            missing, unknown = set(ours) - set(theirs), set(theirs) - set(ours)
            raise checkpoint.unlike_names(source, missing, unknown)
    leaves = []
    for name, leaf in expected.items():
        place = leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)
        checkpoint.check_like(source, name, values[name], place)
        made = _array(values[name], header["leaves"][name]["weak"])
        if getattr(place, "committed", False):
            made = _placed(made, place)
        leaves.append(made)
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(svi_state), leaves)
