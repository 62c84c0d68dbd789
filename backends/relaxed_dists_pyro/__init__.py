"""relaxed-dists for Pyro. Import from :mod:`relaxed_dists.pyro`."""

from relaxed_dists._estimators import (
    DecoupledGumbelSoftmax,
    GappedStraightThrough,
    GumbelRao,
    GumbelSoftmax,
    ReinMax,
    ReinMaxRao,
    StraightThrough,
)
from relaxed_dists._evidence import EvidenceBounds

from . import _kl  # noqa: F401  (registers the divergences)
from ._auto_relaxed import AutoRelaxed
from ._discrete import Bernoulli, OneHotCategorical
from ._discretize import discretize
from ._evidence import evidence_bounds
from ._exact import exact_evidence
from ._functional import gumbel_softmax, straight_through
from ._gumbel_softmax import GumbelSoftmaxReparam
from ._hard_concrete import HardConcrete
from ._permutation import Permutation, RelaxedPermutation
from ._rebar import REBAR_ELBO, RELAX_ELBO
from ._relax import RelaxedReparam, relax
from ._relaxed_bernoulli import LogitRelaxedBernoulli, RelaxedBernoulli
from ._relaxed_categorical import ExpRelaxedOneHotCategorical, RelaxedOneHotCategorical
from ._straight_through import (
    RelaxedBernoulliStraightThrough,
    RelaxedOneHotCategoricalStraightThrough,
)
from ._subset import RelaxedSubset, Subset
from ._svi import AnnealedSVI
from ._unbiased import LeaveOneOut_ELBO

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
