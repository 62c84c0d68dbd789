"""relaxed-dists for NumPyro. Import from `relaxed_dists.numpyro`."""

from relaxed_dists._distributions.estimators import (
    DecoupledGumbelSoftmax,
    GappedStraightThrough,
    GumbelRao,
    GumbelSoftmax,
    ReinMax,
    ReinMaxRao,
    StraightThrough,
)
from relaxed_dists._infer.evidence import EvidenceBounds
from relaxed_dists_jax import gumbel_softmax, straight_through

from .distributions import kl  # noqa: F401  (registers the divergences)
from .distributions.bernoulli import (
    LogitRelaxedBernoulli,
    RelaxedBernoulli,
    RelaxedBernoulliStraightThrough,
)
from .distributions.discrete import Bernoulli, OneHotCategorical
from .distributions.hard_concrete import HardConcrete
from .distributions.one_hot import (
    ExpRelaxedOneHotCategorical,
    RelaxedOneHotCategorical,
    RelaxedOneHotCategoricalStraightThrough,
)
from .distributions.permutation import Permutation, RelaxedPermutation
from .distributions.subset import RelaxedSubset, Subset
from .infer.auto_relaxed import AutoRelaxed
from .infer.discretize import discretize
from .infer.evidence import evidence_bounds
from .infer.exact import exact_evidence
from .infer.gumbel_softmax_reparam import GumbelSoftmaxReparam
from .infer.rebar import REBAR_ELBO, RELAX_ELBO
from .infer.relax import RelaxedReparam, relax
from .infer.svi import AnnealedSVI
from .infer.unbiased import LeaveOneOut_ELBO

__all__ = [  # noqa: RUF022  (sorted as Python sorts, the capitals first)
    "AnnealedSVI",
    "AutoRelaxed",
    "Bernoulli",
    "DecoupledGumbelSoftmax",
    "EvidenceBounds",
    "ExpRelaxedOneHotCategorical",
    "GappedStraightThrough",
    "GumbelRao",
    "GumbelSoftmax",
    "GumbelSoftmaxReparam",
    "HardConcrete",
    "LeaveOneOut_ELBO",
    "LogitRelaxedBernoulli",
    "OneHotCategorical",
    "Permutation",
    "REBAR_ELBO",
    "RELAX_ELBO",
    "ReinMax",
    "ReinMaxRao",
    "RelaxedBernoulli",
    "RelaxedBernoulliStraightThrough",
    "RelaxedOneHotCategorical",
    "RelaxedOneHotCategoricalStraightThrough",
    "RelaxedPermutation",
    "RelaxedReparam",
    "RelaxedSubset",
    "StraightThrough",
    "Subset",
    "discretize",
    "evidence_bounds",
    "exact_evidence",
    "gumbel_softmax",
    "relax",
    "straight_through",
]
