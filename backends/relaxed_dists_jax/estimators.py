"""Registers the estimators as pytrees: temperatures are leaves, and other fields are static."""

import dataclasses
from typing import Any

from jax import tree_util

from relaxed_dists._distributions import estimators
from relaxed_dists._distributions.estimator_base import Own


def register(cls: Any) -> None:
    """Register a class of estimators as pytrees."""
    fixed = [f.name for f in dataclasses.fields(cls) if f.name not in cls.temperatures]

    def flatten(estimator: Any) -> tuple[list[Any], tuple[Any, ...]]:
        leaves = [getattr(estimator, name) for name in cls.temperatures]
        return leaves, tuple(getattr(estimator, name) for name in fixed)

    def unflatten(aux: tuple[Any, ...], leaves: Any) -> Any:
        # __init__ isn't called: its checks would refuse the placeholders that JAX passes as leaves.
        new = object.__new__(cls)
        for name, value in zip((*cls.temperatures, *fixed), (*leaves, *aux), strict=True):
            object.__setattr__(new, name, value)
        return new

    tree_util.register_pytree_node(cls, flatten, unflatten)


for _name in estimators.__all__:
    register(getattr(estimators, _name))
register(Own)
