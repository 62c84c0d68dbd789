"""A mean-field guide over the latent discrete sites of a model, made automatically."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
from jax import Array, random
from numpyro import handlers
from numpyro.distributions.util import periodic_repeat
from numpyro.infer import autoguide
from numpyro.infer.autoguide import AutoGuide
from numpyro.infer.inspect import get_dependencies
from numpyro.primitives import Messenger

from relaxed_dists._distributions.estimators import GumbelSoftmax
from relaxed_dists._infer import auto_relaxed
from relaxed_dists._infer.auto_relaxed import Site
from relaxed_dists_jax.input import known
from relaxed_dists_jax.ops import ops

from ..distributions import sites
from ..distributions.discrete import _Discrete
from ..distributions.hard_concrete import HardConcrete
from ..distributions.permutation import RelaxedPermutation
from ..distributions.subset import RelaxedSubset
from .svi import _unwrap
from .unbiased import latent


def _is_discrete(msg: Any) -> bool:
    return latent(msg) and sites.kind(msg["fn"]) in ("estimated", "discrete")


def _not_continuous(msg: Any) -> bool:
    """Whether to hide a site from the guide of the continuous sites."""
    return msg["type"] == "deterministic" or _is_discrete(msg)


class _WithoutEstimators(Messenger):
    """Removes estimators: with them a support lacks the transform that get_dependencies needs."""

    def process_message(self, msg: Any) -> None:
        if _is_discrete(msg):
            msg["fn"] = sites.rewrapped(msg["fn"], lambda d: sites.discrete(d) or d)


class AutoRelaxed(auto_relaxed.Guide, AutoGuide):
    """A mean-field guide over a model's latent discrete sites, with a pathwise estimator.

    Each latent ``OneHotCategorical`` or ``Bernoulli`` site ``z_i`` of the model, from this library
    or from NumPyro, gets its own logits ``theta_i``, with one row for each element of its full
    plates: ``q(z) = prod_i q(z_i; theta_i)``. In a subsampled plate the guide uses the rows of the
    subsample. The guide draws from this library's discrete distributions, so that
    ``TraceMeanField_ELBO`` computes KL divergences exactly.

    The first call looks for categories of probability 0 in the prior. Their probability is 0 in the
    guide too, if the prior's parameters depend on no other latent site and the plates are not
    subsampled (or the category has probability 0 in the whole subsample). The guide ignores the
    mask of a site: for masked elements the best distribution is uniform, since its entropy is a
    part of the bound.

    Args:
        model: A NumPyro model.
        estimator: An estimator, such as ``StraightThrough()``; or a callable from a temperature to
            an estimator, such as ``GumbelSoftmax`` or ``lambda t: GumbelSoftmax(t, hard=False)``. A
            guide with a callable needs ``temperature=`` in each call. `AnnealedSVI` passes it to
            the guide, and to a model whose signature takes it.
        continuous: The class of an autoguide of NumPyro for the continuous latent sites, or a
            function from a model to an autoguide. This class or function gets a model that draws
            the discrete sites from the prior and hides them. Required if there are continuous
            sites, unless ``block`` hides them and an ``AutoGuideList`` has another guide for them
            (whose model must then hide its discrete sites, and accept ``temperature=`` if this
            guide does). ``TraceMeanField_ELBO`` warns if discrete and continuous sites alternate in
            the model, though the guide is mean-field.
        init_loc_fn: A function from a site (a dictionary with its ``name``, ``fn`` and ``value``)
            to a value of it, on the simplex or in [0, 1], such as NumPyro's ``init_to_value``. The
            guide starts at 0.9 times this value plus 0.1 times the uniform distribution; if the
            function returns None, and by default, at the uniform distribution.
        prefix: The middle part of the parameters' names, ``{site}_{prefix}_logits``.
        create_plates: A function from the model's arguments to its plates, as in NumPyro's
            autoguides.

    Raises:
        ValueError: If ``estimator`` is neither an estimator nor a callable from a temperature to
            one; or, in the first call, if a latent discrete site is neither one-hot nor Bernoulli,
            there is no latent discrete site, or there are continuous latent sites and
            ``continuous`` is None.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 3.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpyro
        >>> from jax import random
        >>> from numpyro import distributions as dist
        >>> from numpyro.infer import TraceMeanField_ELBO
        >>> from relaxed_dists import schedules
        >>> from relaxed_dists.numpyro import AnnealedSVI, OneHotCategorical
        >>> means = jnp.array([-1.0, 0.0, 2.0])
        >>> def model(x):
        ...     z = numpyro.sample("z", OneHotCategorical(logits=jnp.zeros(3)))
        ...     numpyro.sample("x", dist.Normal((z * means).sum(-1), 0.5), obs=x)
        >>> guide = AutoRelaxed(model)
        >>> temperature = schedules.linear(1.0, 0.3, 200)
        >>> optim = numpyro.optim.Adam(0.1)
        >>> svi = AnnealedSVI(model, guide, optim, TraceMeanField_ELBO(), temperature)
        >>> params = svi.run(random.key(0), 200, 2.0, progress_bar=False).params
        >>> guide.median(params)["z"].tolist()
        [0.0, 0.0, 1.0]
        >>> guide.discrete_posterior(params)["z"].probs.shape
        (3,)
    """

    _xp, _ops, _base_sites = jnp, ops, sites
    _refused = HardConcrete, RelaxedSubset, RelaxedPermutation
    _of_density = (
        autoguide.AutoDAIS,
        autoguide.AutoLaplaceApproximation,
        autoguide.AutoSemiDAIS,
        autoguide.AutoSurrogateLikelihoodDAIS,
    )
    _is_discrete, _repeat = staticmethod(_is_discrete), staticmethod(periodic_repeat)
    _array = staticmethod(lambda x, like: jnp.asarray(x, like.dtype))
    _known = staticmethod(known)

    def __init__(
        self,
        model: Callable[..., Any],
        estimator: Any = GumbelSoftmax,
        continuous: Callable[..., AutoGuide] | None = None,
        init_loc_fn: Callable[[dict[str, Any]], Any] | None = None,
        *,
        prefix: str = "auto",
        create_plates: Callable[..., Any] | None = None,
    ) -> None:
        estimator = auto_relaxed.checked(estimator)
        model = auto_relaxed.with_temperature(model, estimator, _unwrap)
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn, create_plates=create_plates)
        self.estimator = estimator
        self._guide_continuous(continuous, handlers.block(model, hide_fn=_not_continuous))
        if self.continuous is not None:  # plates of its own would draw other subsamples
            self.continuous.create_plates = self._shared_plates

    def _shared_plates(self, *args: Any, **kwargs: Any) -> list[numpyro.plate]:
        return list(self.plates.values())

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        with jax.ensure_compile_time_eval():  # so that constants have numbers under jit too
            self._trace_prototype(*args, **kwargs)
        with handlers.block():
            self._check_fixed(
                lambda: get_dependencies(_WithoutEstimators(self.model), args, kwargs)
            )

    def _trace_prototype(self, *args: Any, **kwargs: Any) -> None:
        with handlers.block():
            model = handlers.seed(self.model, numpyro.prng_key())
            trace = handlers.trace(model).get_trace(*args, **kwargs)
        self.prototype_trace = trace
        for name, site in trace.items():
            if site["type"] == "plate":
                self._prototype_frame_full_sizes[name] = site["args"][0]
        found = {name: site for name, site in trace.items() if latent(site)}
        for site in found.values():
            self._prototype_frames.update({f.name: f for f in site["cond_indep_stack"]})
        self._starts = self._find(found)

    def _full_size(self, frame: Any) -> int:
        return self._prototype_frame_full_sizes[frame.name]

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Array]:
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
        self.plates = self._create_plates(*args, **kwargs)

        def draw(name: str, site: Site) -> Any:
            param = f"{name}_{self.prefix}_logits"
            logits = numpyro.param(param, self._starts[name], event_dim=site.event_dim)
            made = site.distribution(logits, numpyro.subsample, estimator)
            return numpyro.sample(name, made)

        return self._draw(self.plates, draw, args, kwargs)

    def discrete_posterior(self, params: dict[str, Any]) -> dict[str, _Discrete]:
        """The distribution of each discrete site, without an estimator.

        Args:
            params: The parameters, such as ``svi.get_params(state)``.

        Returns:
            A dictionary from the name of a site to its OneHotCategorical or Bernoulli distribution,
            for the full plates without subsampling.

        Raises:
            ValueError: If the guide was never called.
        """

        def make(name: str, site: Site) -> Any:
            logits = params[f"{name}_{self.prefix}_logits"]
            return site.distribution(logits, numpyro.subsample, None)

        return self._posterior(make)

    def median(self, params: dict[str, Any]) -> dict[str, Array]:
        """The most probable value of each discrete site, the median of each continuous one.

        Args:
            params: The parameters, such as ``svi.get_params(state)``.

        Returns:
            A dictionary from the name of a site to its value, for the full plates without
            subsampling.
        """
        posterior = self.discrete_posterior(params)
        result = {} if self.continuous is None else self.continuous.median(params)
        return {**result, **{name: sites.innermost(d).mode for name, d in posterior.items()}}

    def quantiles(self, params: dict[str, Any], quantiles: Sequence[float]) -> dict[str, Array]:
        """The quantiles of the continuous sites. See discrete_posterior for the discrete sites.

        Args:
            params: The parameters, such as ``svi.get_params(state)``.
            quantiles: Numbers from 0 to 1.

        Returns:
            A dictionary from the name of a continuous site to its quantiles.
        """
        if self.continuous is None:
            return {}
        return dict(self.continuous.quantiles(params, quantiles))

    def sample_posterior(
        self,
        rng_key: Array,
        params: dict[str, Any],
        *args: Any,
        sample_shape: tuple[int, ...] = (),
        **kwargs: Any,
    ) -> dict[str, Array]:
        """Draw the latent sites for the full plates, the discrete ones without an estimator.

        Args:
            rng_key: A JAX random key.
            params: The parameters, such as ``svi.get_params(state)``.
            args: The model's arguments.
            sample_shape: The shape of independent draws.
            kwargs: The model's keyword arguments.

        Returns:
            A dictionary from the name of a site to its values.
        """
        posterior = self.discrete_posterior(params)
        keys = random.split(rng_key, 1 + len(posterior))
        result = {}
        if self.continuous is not None:
            result.update(
                self.continuous.sample_posterior(
                    keys[0], params, *args, sample_shape=sample_shape, **kwargs
                )
            )
        for key, (name, base) in zip(keys[1:], posterior.items(), strict=True):
            result[name] = base.sample(key, sample_shape)
        return result
