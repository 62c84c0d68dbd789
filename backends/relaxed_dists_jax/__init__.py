"""The code that needs JAX but not NumPyro: operations, kernels, noise, integrals, and so on.

A kernel is a faster function for JAX, which replaces a formula that both frameworks share. The
module ``carrier`` finds for a drawn value the relaxed sample from which its density is computed.

Users import the public functions and the estimators from `relaxed_dists.jax`.
"""

from relaxed_dists._distributions.estimators import (
    DecoupledGumbelSoftmax,
    GappedStraightThrough,
    GumbelRao,
    GumbelSoftmax,
    ReinMax,
    ReinMaxRao,
    StraightThrough,
)

from . import estimators  # noqa: F401  (registers them as pytrees)
from .concrete import (
    binary_concrete_log_prob,
    concrete_log_prob,
    exp_concrete_log_prob,
    logit_concrete_log_prob,
    sample_binary_concrete,
    sample_concrete,
    sample_exp_concrete,
    sample_logit_concrete,
)
from .functional import gumbel_softmax, sample_bernoulli, sample_one_hot, straight_through

__all__ = [
    "DecoupledGumbelSoftmax",
    "GappedStraightThrough",
    "GumbelRao",
    "GumbelSoftmax",
    "ReinMax",
    "ReinMaxRao",
    "StraightThrough",
    "binary_concrete_log_prob",
    "concrete_log_prob",
    "exp_concrete_log_prob",
    "gumbel_softmax",
    "logit_concrete_log_prob",
    "sample_bernoulli",
    "sample_binary_concrete",
    "sample_concrete",
    "sample_exp_concrete",
    "sample_logit_concrete",
    "sample_one_hot",
    "straight_through",
]
