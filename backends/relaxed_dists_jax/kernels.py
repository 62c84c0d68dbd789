"""JAX's kernels: what JAX computes in place of shared formulas of the same names.

A formula with loops is compiled as a whole. An elementwise formula is computed on flat arrays.
"""

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from relaxed_dists._distributions import bernoulli, hard_concrete, permutation, subset
from relaxed_dists._distributions.formulas import hot

from .ops import ops

_STATIC = {"k", "hard", "iterations", "stretch"}


def _compile(formula: hot) -> None:
    """Compile a formula as a whole; outside of jit, each call would compile its loops anew.

    The compiled formula calls other formulas without their kernels, since flat arrays would take a
    tenth more memory.
    """
    static = [name for name in inspect.signature(formula.formula).parameters if name in _STATIC]
    compiled = jax.jit(functools.partial(formula.formula, type(ops)()), static_argnames=static)
    ops.kernels[formula.name] = lambda ops, *given: compiled(*given)


def _flatten(formula: hot) -> None:
    """Compute a formula on flat arrays: XLA's loop over a short last axis takes 5 times as long."""

    def call(ops: Any, *arrays: Array | float) -> Any:
        shape = jnp.broadcast_shapes(*map(jnp.shape, arrays))
        flat = (x if jnp.ndim(x) == 0 else jnp.broadcast_to(x, shape).reshape(-1) for x in arrays)
        return jax.tree.map(lambda x: x.reshape(shape), formula.formula(ops, *flat))

    ops.kernels[formula.name] = call


for _formula in (
    subset.largest,
    subset.relaxed,
    subset.log_prob,
    subset.inclusion,
    subset.entropy,
    permutation.relaxed,
    hard_concrete.masses,
    hard_concrete.prob_nonzero,
    hard_concrete.prob_one,
    hard_concrete.log_prob,
    hard_concrete.crossing,
    hard_concrete.cdf,
    hard_concrete.moments,
    hard_concrete.entropy,
    hard_concrete.kl,
):
    _compile(_formula)
for _formula in (
    bernoulli.logit_concrete,
    bernoulli.binary_concrete,
    bernoulli.logit_concrete_log_prob,
    bernoulli.binary_concrete_log_prob,
):
    _flatten(_formula)
