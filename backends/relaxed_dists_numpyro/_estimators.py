"""The shared estimators as pytrees: a temperature is a leaf, the rest is structure."""

from typing import Any

from jax import tree_util

from relaxed_dists._estimators import GumbelSoftmax, StraightThrough

__all__ = ["GumbelSoftmax", "StraightThrough"]


def _unflatten(hard: bool, leaves: tuple[Any]) -> GumbelSoftmax:
    # Around __init__, which checks: JAX puts placeholders in the leaves' place.
    new = object.__new__(GumbelSoftmax)
    object.__setattr__(new, "temperature", leaves[0])
    object.__setattr__(new, "hard", hard)
    return new


tree_util.register_pytree_node(GumbelSoftmax, lambda e: ((e.temperature,), e.hard), _unflatten)
tree_util.register_pytree_node(
    StraightThrough, lambda e: ((), None), lambda _, __: StraightThrough()
)
