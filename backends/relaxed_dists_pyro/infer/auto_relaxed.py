"""A mean-field guide over the latent discrete sites of a model, made automatically."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer.autoguide import AutoGuide, AutoLaplaceApproximation
from pyro.infer.autoguide.utils import deep_setattr
from pyro.infer.inspect import get_dependencies
from pyro.nn.module import PyroModule, PyroParam
from pyro.ops.tensor_utils import periodic_repeat
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from relaxed_dists._distributions.estimators import GumbelSoftmax
from relaxed_dists._infer import auto_relaxed
from relaxed_dists._infer.auto_relaxed import Site
from relaxed_dists_torch.ops import ops

from ..distributions import sites
from ..distributions.discrete import _Discrete
from ..distributions.hard_concrete import HardConcrete
from ..distributions.permutation import RelaxedPermutation
from ..distributions.subset import RelaxedSubset
from .svi import _unwrap


def _is_discrete(msg: Any) -> bool:
    latent = msg["type"] == "sample" and not msg["is_observed"] and not site_is_subsample(msg)
    return latent and msg["fn"].support.is_discrete


class AutoRelaxed(auto_relaxed.Guide, AutoGuide):
    """A mean-field guide over a model's latent discrete sites, with a pathwise estimator.

    Each latent ``OneHotCategorical`` or ``Bernoulli`` site ``z_i`` of the model, from this library
    or from Pyro, gets its own logits ``theta_i``, with one row for each element of its full plates:
    ``q(z) = prod_i q(z_i; theta_i)``. In a subsampled plate the guide uses the rows of the
    subsample. The guide draws from this library's discrete distributions, so that
    ``TraceMeanField_ELBO`` computes KL divergences exactly.

    The first call looks for categories of probability 0 in the prior. Their probability is 0 in the
    guide too, if the prior's parameters depend on no other latent site and the plates are not
    subsampled (or the category has probability 0 in the whole subsample). The guide ignores the
    mask of a site: for masked elements the best distribution is uniform, since its entropy is a
    part of the bound.

    Args:
        model: A Pyro model.
        estimator: An estimator, such as ``StraightThrough()``; or a callable from a temperature to
            an estimator, such as ``GumbelSoftmax`` or ``lambda t: GumbelSoftmax(t, hard=False)``. A
            guide with a callable needs ``temperature=`` in each call. `AnnealedSVI` passes it to
            the guide, and to a model whose signature takes it.
        continuous: The class of an autoguide of Pyro for the continuous latent sites, or a function
            from a model to an autoguide. This class or function gets a model that draws the
            discrete sites from the prior and hides them. Required if there are continuous sites,
            unless ``block`` hides them and an ``AutoGuideList`` has another guide for them (whose
            model must then accept ``temperature=`` if this guide does). ``TraceMeanField_ELBO``
            warns if discrete and continuous sites alternate in the model, though the guide is
            mean-field.
        init_loc_fn: A function from a site (a dictionary with its ``name``, ``fn`` and ``value``)
            to a value of it, on the simplex or in [0, 1], such as Pyro's ``init_to_value``. The
            guide starts at 0.9 times this value plus 0.1 times the uniform distribution; if the
            function returns None, and by default, at the uniform distribution.
        create_plates: A function from the model's arguments to its plates, as in Pyro's autoguides.

    Raises:
        ValueError: If ``estimator`` is neither an estimator nor a callable from a temperature to
            one; or, in the first call, if a latent discrete site is neither one-hot nor Bernoulli,
            there is no latent discrete site, or there are continuous latent sites and
            ``continuous`` is None.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 3.

    Example:
        >>> import pyro
        >>> import torch
        >>> from pyro.infer import TraceMeanField_ELBO
        >>> from relaxed_dists import schedules
        >>> from relaxed_dists.pyro import AnnealedSVI, OneHotCategorical
        >>> pyro.set_rng_seed(0)
        >>> means = torch.tensor([-1.0, 0.0, 2.0])
        >>> def model(x):
        ...     z = pyro.sample("z", OneHotCategorical(logits=torch.zeros(3)))
        ...     pyro.sample("x", pyro.distributions.Normal((z * means).sum(-1), 0.5), obs=x)
        >>> guide = AutoRelaxed(model)
        >>> temperature = schedules.linear(1.0, 0.3, 200)
        >>> optim = pyro.optim.Adam({"lr": 0.1})
        >>> svi = AnnealedSVI(model, guide, optim, TraceMeanField_ELBO(), temperature)
        >>> for _ in range(200): _ = svi.step(torch.tensor(2.0))
        >>> guide.median()["z"]
        tensor([0., 0., 1.])
        >>> guide.discrete_posterior()["z"].probs.shape
        torch.Size([3])
    """

    _xp, _ops, _base_sites = torch, ops, sites
    _refused = HardConcrete, RelaxedSubset, RelaxedPermutation
    _of_density = (AutoLaplaceApproximation,)
    _is_discrete, _repeat = staticmethod(_is_discrete), staticmethod(periodic_repeat)
    _array = staticmethod(lambda x, like: torch.as_tensor(x).to(like))
    _known = staticmethod(lambda x: True)
    _full_size = staticmethod(lambda frame: frame.full_size or frame.size)

    def __init__(
        self,
        model: Callable[..., Any],
        estimator: Any = GumbelSoftmax,
        continuous: Callable[..., AutoGuide] | None = None,
        init_loc_fn: Callable[[dict[str, Any]], Any] | None = None,
        *,
        create_plates: Callable[..., Any] | None = None,
    ) -> None:
        estimator = auto_relaxed.checked(estimator)
        model = auto_relaxed.with_temperature(model, estimator, _unwrap)
        super().__init__(model, create_plates=create_plates)
        self.estimator = estimator
        self.init_loc_fn = init_loc_fn
        self._guide_continuous(continuous, poutine.block(model, hide_fn=_is_discrete))

    def _check_prototype(self, part_trace: Any) -> None:
        """Accept the continuous sites' guide, whose model is this guide's with hidden sites."""

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)
        trace: Any = self.prototype_trace
        self.logits = PyroModule()
        for name, start in self._find(dict(trace.iter_stochastic_nodes())).items():
            logits = start.clone(memory_format=torch.contiguous_format)
            event_dim = self._sites[name].event_dim
            deep_setattr(self.logits, name, PyroParam(logits, constraints.real, event_dim))
        with poutine.block():
            self._check_fixed(lambda: get_dependencies(self.model, args, kwargs))

    def _distribution(self, name: str, estimator: Any = None) -> Any:
        """The distribution of a site: in its plates for the subsample, else for all elements."""
        logits = attrgetter(name)(self.logits)
        if not torch.is_grad_enabled():
            logits = logits.detach()  # so that results under no_grad keep no graph

        def subsample(fixed: Tensor, event_dim: int) -> Any:
            return pyro.subsample(fixed.to(logits), event_dim=event_dim)

        return self._sites[name].distribution(logits, subsample, estimator)

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Draw the latent sites.

        Args:
            args: The model's arguments.
            kwargs: The model's keyword arguments; and ``temperature``, if the estimator is made
                from a temperature.

        Returns:
            A dictionary from the name of a site to its value.

        Raises:
            ValueError: If the estimator is made from a temperature and ``temperature`` is missing.
        """
        estimator = auto_relaxed.estimator_of(self.estimator, kwargs)
        if self.prototype_trace is None:
            self._setup_prototype(*args, **kwargs)
        plates = self._create_plates(*args, **kwargs)

        def draw(name: str, site: Site) -> Any:
            return pyro.sample(name, self._distribution(name, estimator))

        return self._draw(plates, draw, args, kwargs)

    @torch.no_grad()
    def discrete_posterior(self) -> dict[str, _Discrete]:
        """The distribution of each discrete site, without an estimator.

        Returns:
            A dictionary from the name of a site to its OneHotCategorical or Bernoulli distribution,
            for the full plates without subsampling.

        Raises:
            ValueError: If the guide was never called.
        """
        return self._posterior(lambda name, site: self._distribution(name))

    @torch.no_grad()
    def median(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """The most probable value of each discrete site, the median of each continuous one.

        Args:
            args: The model's arguments.
            kwargs: The model's keyword arguments.

        Returns:
            A dictionary from the name of a site to its value, for the full plates without
            subsampling.
        """
        modes = {name: sites.innermost(d).mode for name, d in self.discrete_posterior().items()}
        result = {} if self.continuous is None else self.continuous.median(*args, **kwargs)
        return {**result, **modes}

    @torch.no_grad()
    def quantiles(self, quantiles: Any, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """The quantiles of the continuous sites. See discrete_posterior for the discrete sites.

        Args:
            quantiles: Numbers from 0 to 1.
            args: The model's arguments.
            kwargs: The model's keyword arguments.

        Returns:
            A dictionary from the name of a continuous site to its quantiles.
        """
        if self.continuous is None:
            return {}
        return dict(self.continuous.quantiles(quantiles, *args, **kwargs))
