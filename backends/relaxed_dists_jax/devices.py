"""Computations on several devices, where arrays may be sharded over a mesh.

The axes of a mesh are of three kinds. Along an automatic axis XLA decides how an array is sharded.
Along an explicit axis the array's type says how, and each operation has to derive the type of its
result. Inside jax.shard_map an axis is manual: each device runs the code on its own part, and an
array's type says along which axes it varies.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import PartitionSpec

from relaxed_dists._distributions.family import Parameters

from . import older


def several() -> bool:
    """Whether there are several devices, so that arrays may be sharded.

    On one device a formula is faster on flat arrays, since XLA's loop over a short last axis is
    slow on a CPU. But a sharded array can't be made flat without a gather from all devices.
    """
    return jax.device_count() > 1


def alike(arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arrays with one type: each varies along all manual axes along which any of them varies.

    The carry of a loop must have the same type at the start as at the end, and the branches of a
    cond must have the same type.
    """
    if not older.HAS_TYPED_MESHES or not jax.sharding.get_abstract_mesh().manual_axes:
        return arrays
    # The result of an operation varies along each axis along which one of its operands varies.
    found = [jnp.zeros_like(x, bool, ()) for x in arrays if isinstance(x, Array)]
    varying = functools.reduce(jnp.logical_or, found)
    return tuple(lax.select(varying, x, x) if isinstance(x, Array) else x for x in arrays)


def on_automatic_axes(
    function: Callable[..., Any], event_dim: int, given: tuple[Any, ...], lead: Any = 0
) -> Any:
    """function(*given), computed on automatic axes where the mesh has explicit axes.

    So XLA decides how intermediate arrays are sharded. The results are sharded like an array that
    JAX's own rules derive from all arguments, by an operation on them.

    Args:
        function: A function of parameters and values that returns arrays. Their shape is that of a
            value, or the batch shape followed by other axes.
        event_dim: How many of the last axes of a value are one event.
        given: The arguments.
        lead: The number of axes that a result has before the batch shape of the arguments. For
            several results it may be one number for all, or one for each.
    """
    mesh = _mesh(given)
    if mesh is None or not mesh.explicit_axes:
        return function(*given)
    with jax.sharding.use_abstract_mesh(mesh):
        return _on_automatic_axes(function, event_dim, given, lead, mesh)


def _mesh(given: tuple[Any, ...]) -> Any:
    """The mesh in whose context the code runs; without a context, that of the arguments' types."""
    if not older.HAS_TYPED_MESHES:
        return None
    types = [jax.typeof(x).sharding.mesh for x in jax.tree.leaves(given) if isinstance(x, Array)]
    meshes = [jax.sharding.get_abstract_mesh(), *types]
    return next((mesh for mesh in meshes if not mesh.empty), None)


def _on_automatic_axes(
    function: Callable[..., Any], event_dim: int, given: tuple[Any, ...], lead: Any, mesh: Any
) -> Any:
    # jax.eval_shape would not tell the sharding where the mesh has automatic axes as well.
    (whole,) = jax.make_jaxpr(functools.partial(_of_all, event_dim))(given).out_avals
    split = whole.ndim - event_dim

    def sharded(lead: int, x: Any) -> Any:
        if not isinstance(x, Array):
            return x
        axes = whole.sharding.spec
        rest = axes[split:] if x.shape[lead:] == whole.shape else [None] * (x.ndim - lead - split)
        return jax.sharding.reshard(x, PartitionSpec(*[None] * lead, *axes[:split], *rest))

    def automatic(x: Any) -> Any:
        return jax.sharding.reshard(x, PartitionSpec()) if isinstance(x, Array) else x

    types = dict.fromkeys(mesh.explicit_axes, jax.sharding.AxisType.Auto)
    with jax.sharding.use_abstract_mesh(mesh.update_axis_types(types)):
        found = function(*jax.tree.map(automatic, given))
    return jax.tree.map(
        lambda n, part: jax.tree.map(functools.partial(sharded, n), part), lead, found
    )


def _of_all(event_dim: int, given: tuple[Any, ...]) -> Array:
    """An array made from all parameters and values, whose shape and sharding a result gets.

    The array is boolean, since strict promotion refuses to add arrays of different dtypes.
    """
    total = jnp.zeros((), bool)
    for x in given:
        if isinstance(x, Parameters):
            total = total | (x.logits > 0)
            if x.temperature is not None:
                high = x.temperature > 0
                total = total | high.reshape(high.shape + (1,) * event_dim)
        elif isinstance(x, Array) and jnp.issubdtype(x.dtype, jnp.floating):
            # x is the value, or a sample of the value's shape. Other arguments add no axes.
            return total | (x > 0)
    return total
