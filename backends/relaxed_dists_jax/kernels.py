"""JAX's kernels of elementwise formulas, which compute on flat arrays.

A kernel is a function that JAX calls in place of the formula of the same name, which is written
once for both frameworks.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from relaxed_dists._distributions import bernoulli
from relaxed_dists._distributions.formulas import hot

from .ops import ops


def _flatten(formula: hot) -> None:
    """Compute a formula on flat arrays: XLA's loop over a short last axis takes 5 times as long."""

    def call(ops: Any, *arrays: Array | float) -> Any:
        shape = jnp.broadcast_shapes(*map(jnp.shape, arrays))
        flat = (x if jnp.ndim(x) == 0 else jnp.broadcast_to(x, shape).reshape(-1) for x in arrays)
        return jax.tree.map(lambda x: x.reshape(shape), formula.formula(ops, *flat))

    ops.kernels[formula.name] = call


for _formula in (
    bernoulli.logit_concrete,
    bernoulli.binary_concrete,
    bernoulli.logit_concrete_log_prob,
    bernoulli.binary_concrete_log_prob,
):
    _flatten(_formula)
