"""JAX's kernels for formulas with loops, which are compiled as a whole.

A kernel is a function that is called in place of the formula of the same name.
"""

import functools
import inspect

import jax

from relaxed_dists._distributions import hard_concrete, permutation, subset
from relaxed_dists._distributions.formulas import hot, softmaxes

from . import kernels  # noqa: F401 (it registers the kernels of INNER)
from .devices import alike
from .ops import ops

INNER = (softmaxes, subset.one_round)
_STATIC = {"k", "hard", "iterations", "stretch"}


def _compile(formula: hot) -> None:
    """Register a kernel that compiles the formula once.

    Without it, each call outside of jit would compile the formula's loops anew. The compiled
    formula calls no other kernels than those of INNER: kernels on flat arrays would take a tenth
    more memory.
    """
    plain = type(ops)()
    plain.kernels.update((inner.name, ops.kernels[inner.name]) for inner in INNER)
    static = [name for name in inspect.signature(formula.formula).parameters if name in _STATIC]
    compiled = jax.jit(functools.partial(formula.formula, plain), static_argnames=static)
    ops.kernels[formula.name] = lambda ops, *given: compiled(*alike(given))


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
