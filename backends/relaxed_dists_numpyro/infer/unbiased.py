"""ELBOs with unbiased gradients for discrete sites: their shared parts, and leave-one-out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax, random
from numpyro.infer.elbo import ELBO, MultiFrameTensor
from numpyro.infer.util import get_importance_trace
from numpyro.primitives import Messenger
from numpyro.util import _validate_model, check_model_guide_match

from relaxed_dists._infer import unbiased

from .. import _older
from ..distributions.sites import discrete, innermost, kind, rewrapped, straight_through


def with_estimator(fn: Any, estimator: Any = None) -> Any:
    """A site's distribution with another estimator or none, and without checks of its values."""

    def change(base: Any) -> Any:
        made = discrete(base)
        made.estimator = estimator
        made._validate_args = False
        return made

    return rewrapped(fn, change)


def latent(msg: Any) -> bool:
    """Whether a message comes from a latent site."""
    return msg["type"] == "sample" and not msg["is_observed"]


class _DrawDiscrete(Messenger):
    """Draws the sites of a guide without their estimators."""

    def __init__(self, elbo: str, fn: Callable[..., Any]) -> None:
        super().__init__(fn)
        self._elbo = elbo

    def process_message(self, msg: dict[str, Any]) -> None:
        """Replace the distribution by one without an estimator."""
        if latent(msg):
            base = innermost(msg["fn"])
            if straight_through(base) or getattr(base, "hard", False):
                raise unbiased.straight_through(self._elbo, msg["name"], base)
            if kind(msg["fn"]) == "estimated":
                if msg["value"] is not None:  # a scan has already drawn the value
                    raise unbiased.out_of_reach(self._elbo, msg["name"])
                msg["fn"] = with_estimator(msg["fn"])


def terms_of(model_trace: Any, guide_trace: Any) -> Any:
    """The log densities of the model minus those of the guide, grouped by plates."""
    terms = MultiFrameTensor()
    for trace, sign in ((model_trace, 1), (guide_trace, -1)):
        for site in trace.values():
            if site["type"] == "sample":
                log_prob = in_plates(site, sign * site["log_prob"])
                terms.add((site["cond_indep_stack"], log_prob))
    return terms


def in_plates(site: Any, log_prob: Array) -> Array:
    """A site's log densities, summed over the dimensions without a plate."""
    declared = {frame.dim for frame in site["cond_indep_stack"]}
    for dim in range(-jnp.ndim(log_prob), 0):
        log_prob = log_prob if dim in declared else log_prob.sum(dim, keepdims=True)
    return log_prob


def total(trace: Any, of: Callable[[Any], bool] = lambda site: True) -> Any:
    """The sum of the log densities of all sites for which ``of`` returns true."""
    sites = [site for site in trace.values() if site["type"] == "sample" and of(site)]
    return sum((site["log_prob"].sum() for site in sites), start=jnp.array(0.0))


class Run(NamedTuple):
    """The input of a particle: random key, parameters, model, guide, and the arguments of both."""

    key: Any
    params: Any
    model: Any
    guide: Any
    args: Any
    kwargs: Any

    def seeded_guide(self) -> Any:
        """The guide with the same random numbers each time."""
        return _older.seeded(self.guide, random.split(self.key)[1])

    def traces(self, guide: Any) -> tuple[Any, Any]:
        """The traces of the model and of a seeded guide."""
        model = _older.seeded(self.model, random.split(self.key)[0])
        traces = get_importance_trace(model, guide, self.args, self.kwargs, self.params)
        check_model_guide_match(*traces)
        _validate_model(traces[0], plate_warning="loose")
        return traces


def pathwise(model_trace: Any, guide_trace: Any) -> tuple[Array, Array]:
    """The ELBO as a constant, and its terms that have a pathwise gradient."""
    elbo = total(model_trace) - total(guide_trace)
    direct = total(model_trace) - total(guide_trace, lambda site: site["fn"].has_rsample)
    return lax.stop_gradient(elbo), direct


class Unbiased(ELBO):
    """An ELBO whose gradient is estimated by that of a surrogate, not by that of the loss."""

    can_infer_discrete = True

    def _particles(self, particle: Callable[[Any], Any], key: Any) -> Any:
        """The results of ``particle`` for one key per particle, stacked along the first axis."""
        if self.num_particles == 1:
            return jax.tree.map(lambda x: x[None], particle(key))
        return self.vectorize_particles_fn(particle, random.split(key, self.num_particles))


def loss_of(elbo: Array, surrogate: Array) -> Array:
    """Minus the ELBO, but with the gradient of minus the surrogate."""
    return -(elbo + surrogate - lax.stop_gradient(surrogate))


class LeaveOneOut_ELBO(Unbiased):
    """The ELBO with an unbiased gradient for discrete sites, by REINFORCE with a free baseline.

    Let ``f_i = log p(x, z_i) - log q(z_i)`` for particle i of n. The gradient with respect to the
    guide's parameters is the mean over i of ::

        (f_i - sum_(j != i) f_j / (n - 1)) grad log q(z_i)

    where f at an element of the site's plates leaves out the terms of the other elements. Sites are
    drawn from their discrete distributions, without their estimators; the framework's own discrete
    distributions work too. Continuous sites keep their pathwise gradients, and parameters of the
    model their exact ones. The model may use the values in any way, also as an index.

    A plate with ``subsample_size`` draws another minibatch for each particle, so that the baselines
    come from other data and reduce the variance little. Draw the minibatch outside, and pass it to
    model and guide.

    Args:
        num_particles: The number of particles, at least 2.
        vectorize_particles: As in NumPyro's ``ELBO``.

    Raises:
        ValueError: If there are fewer than 2 particles; or, in a step, if the distribution of a
            site of the guide has a biased pathwise gradient, as the straight-through relaxed
            distributions have.

    Reference:
        Kool, van Hoof, Welling, *Buy 4 REINFORCE Samples, Get a Baseline for Free!* (2019).

    Example:
        >>> import jax
        >>> import numpyro
        >>> from jax import random
        >>> from relaxed_dists.numpyro import Bernoulli
        >>> def model(): numpyro.sample("z", Bernoulli(probs=0.8))
        >>> def guide(): numpyro.sample("z", Bernoulli(logits=numpyro.param("logit", 0.0)))
        >>> optim, loss = numpyro.optim.Adam(0.1), LeaveOneOut_ELBO(num_particles=10)
        >>> svi = numpyro.infer.SVI(model, guide, optim, loss)
        >>> result = svi.run(random.key(0), 200, progress_bar=False)
        >>> round(jax.nn.sigmoid(result.params["logit"]).item(), 1)
        0.8
    """

    def __init__(self, num_particles: int = 2, vectorize_particles: Any = True) -> None:
        unbiased.check_particles(type(self).__name__, num_particles, 2)
        super().__init__(num_particles, vectorize_particles)

    def loss(
        self, rng_key: Any, param_map: Any, model: Any, guide: Any, *args: Any, **kwargs: Any
    ) -> Array:
        """The loss, whose gradient is the unbiased estimate. See ELBO for Args and Returns."""

        def particle(key: Any) -> Any:
            run = Run(key, param_map, model, guide, args, kwargs)
            traces = run.traces(_DrawDiscrete(type(self).__name__, run.seeded_guide()))
            terms, pairs = terms_of(*traces), []
            for site in traces[1].values():
                if latent(site) and not site["fn"].has_rsample:
                    # site["log_prob"] can't be used, since a subsampled plate scales it.
                    score = in_plates(site, site["fn"].log_prob(site["value"]))
                    f = lax.stop_gradient(terms.sum_to(site["cond_indep_stack"]))
                    pairs.append((jnp.broadcast_to(f, score.shape), score))
            return pathwise(*traces), pairs

        (elbo, direct), pairs = self._particles(particle, rng_key)
        gains = [(unbiased.less_the_others(f) * score).sum() for f, score in pairs]
        surrogate = direct.mean() + sum(gains, start=jnp.array(0.0)) / self.num_particles
        return loss_of(elbo.mean(), surrogate)
