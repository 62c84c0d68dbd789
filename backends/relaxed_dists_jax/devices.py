"""What several devices ask for: formulas by shape, and arrays whose types say how they are sharded.

JAX knows of three kinds of axes of a mesh. Along an automatic axis XLA decides how an array is
sharded. Along an explicit axis the array's type says it, and each operation has to derive the type
of its result. Inside jax.shard_map an axis is manual, and the type says along which axes an array
varies.
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

    On one device a formula is faster with its axes merged into one, since XLA's loop over a short
    last axis is slow on a CPU. A sharded array can't be merged without a gather.
    """
    return jax.device_count() > 1


def alike(arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arrays, typed as varying along all manual axes along which one of them varies.

    The carry of a loop and the branches of a cond must have one type from the start.
    """
    if not older.HAS_TYPED_MESHES or not jax.sharding.get_abstract_mesh().manual_axes:
        return arrays
    # A result varies as all operands of an operation do.
    found = [jnp.zeros_like(x, bool, ()) for x in arrays if isinstance(x, Array)]
    varying = functools.reduce(jnp.logical_or, found)
    return tuple(lax.select(varying, x, x) if isinstance(x, Array) else x for x in arrays)


def on_automatic_axes(
    function: Callable[..., Any], event_dim: int, given: tuple[Any, ...], lead: Any = 0
) -> Any:
    """function(*given), computed on automatic axes where the mesh of the context has explicit ones.

    So XLA decides how intermediate arrays are sharded. The results are sharded as the arguments
    are, which JAX's own rules for operations on all of them tell.

    Args:
        function: A function of parameters and values that returns arrays, of a value's shape or
            with the batch shape first.
        event_dim: How many of the last axes of a value are one event.
        given: The arguments.
        lead: The number of axes that a result has before the batch shape of the arguments; for
            several results one number, or as many.
    """
    mesh = jax.sharding.get_abstract_mesh() if older.HAS_TYPED_MESHES else None
    if mesh is None or not mesh.explicit_axes:
        return function(*given)
    whole = jax.eval_shape(functools.partial(_of_all, event_dim), given)
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
    """A result of all parameters and values, of which only shape and sharding are asked for.

    It is boolean, since arrays of different dtypes may not be added under strict promotion.
    """
    total = jnp.zeros((), bool)
    for x in given:
        if isinstance(x, Parameters):
            total = total | (x.logits > 0)
            if x.temperature is not None:
                high = x.temperature > 0
                total = total | high.reshape(high.shape + (1,) * event_dim)
        elif isinstance(x, Array) and jnp.issubdtype(x.dtype, jnp.floating):
            return total | (x > 0)  # a sample behind a value comes after it, or has its shape
    return total
