"""ELBOs whose gradient is unbiased for discrete sites: what they share, and leave-one-out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax, random
from numpyro.handlers import seed
from numpyro.infer.elbo import ELBO, MultiFrameTensor
from numpyro.infer.util import get_importance_trace
from numpyro.primitives import Messenger
from numpyro.util import _validate_model, check_model_guide_match

from relaxed_dists._infer import unbiased

from ..distributions.sites import discrete, innermost, kind, rewrapped
from ..distributions.straight_through import _HardValue


def plain(fn: Any, estimator: Any = None) -> Any:
    """What a site draws from, with another estimator or none; values that are not checked."""

    def change(law: Any) -> Any:
        twin = discrete(law)
        twin.estimator = estimator
        twin._validate_args = False
        return twin

    return rewrapped(fn, change)


def latent(msg: Any) -> bool:
    """Whether a site is drawn."""
    return msg["type"] == "sample" and not msg["is_observed"]


class _Discretely(Messenger):
    """Draws the sites of a guide that have an estimator from their discrete laws."""

    def __init__(self, elbo: str, fn: Callable[..., Any]) -> None:
        super().__init__(fn)
        self._elbo = elbo

    def process_message(self, msg: dict[str, Any]) -> None:
        """Leave the estimator out."""
        if latent(msg):
            law = innermost(msg["fn"])
            if isinstance(law, _HardValue) or getattr(law, "hard", False):
                raise unbiased.straight_through(self._elbo, msg["name"], law)
            if kind(msg["fn"]) == "estimated":
                if msg["value"] is not None:  # drawn already, inside a scan
                    raise unbiased.out_of_reach(self._elbo, msg["name"])
                msg["fn"] = plain(msg["fn"])


def terms_of(model_trace: Any, guide_trace: Any) -> Any:
    """The log densities of the model less those of the guide, by the plates that they are in."""
    terms = MultiFrameTensor()
    for trace, sign in ((model_trace, 1), (guide_trace, -1)):
        for site in trace.values():
            if site["type"] == "sample":
                rows = in_plates(site, sign * site["log_prob"])
                terms.add((site["cond_indep_stack"], rows))
    return terms


def in_plates(site: Any, log_prob: Array) -> Array:
    """A site's log densities, summed over the dimensions that no plate declares independent."""
    declared = {frame.dim for frame in site["cond_indep_stack"]}
    for dim in range(-jnp.ndim(log_prob), 0):
        log_prob = log_prob if dim in declared else log_prob.sum(dim, keepdims=True)
    return log_prob


def total(trace: Any, of: Callable[[Any], bool] = lambda site: True) -> Any:
    """The sum of the log densities of the sites."""
    sites = [site for site in trace.values() if site["type"] == "sample" and of(site)]
    return sum((site["log_prob"].sum() for site in sites), start=jnp.array(0.0))


class Run(NamedTuple):
    """A particle: its key, the parameters, the model and the guide with their arguments."""

    key: Any
    params: Any
    model: Any
    guide: Any
    args: Any
    kwargs: Any

    def seeded_guide(self) -> Any:
        """The guide with the same random numbers each time."""
        return seed(self.guide, random.split(self.key)[1])

    def traces(self, guide: Any) -> tuple[Any, Any]:
        """The traces of the model and of a seeded guide."""
        model = seed(self.model, random.split(self.key)[0])
        traces = get_importance_trace(model, guide, self.args, self.kwargs, self.params)
        check_model_guide_match(*traces)
        _validate_model(traces[0], plate_warning="loose")
        return traces


def pathwise(model_trace: Any, guide_trace: Any) -> tuple[Array, Array]:
    """The ELBO, a constant, and what of it has a gradient by its parameters directly."""
    elbo = total(model_trace) - total(guide_trace)
    direct = total(model_trace) - total(guide_trace, lambda site: site["fn"].has_rsample)
    return lax.stop_gradient(elbo), direct


class Unbiased(ELBO):
    """What they share: a loss with the gradient of a surrogate, of all particles."""

    can_infer_discrete = True

    def _particles(self, particle: Callable[[Any], Any], key: Any) -> Any:
        """What a function of a key returns, of all particles, along the first axis."""
        if self.num_particles == 1:
            return jax.tree.map(lambda x: x[None], particle(key))
        return self.vectorize_particles_fn(particle, random.split(key, self.num_particles))


def loss_of(elbo: Array, surrogate: Array) -> Array:
    """The loss, with the gradient of the surrogate of the ELBO."""
    return -(elbo + surrogate - lax.stop_gradient(surrogate))


class LeaveOneOut_ELBO(Unbiased):
    r"""The ELBO with an unbiased gradient for discrete sites, by REINFORCE with a free baseline.

    With particles :math:`f_i = \log p(x, z_i) - \log q(z_i)` the gradient by the guide's parameters
    is the mean over i of

    .. math:: \Bigl(f_i - \frac{1}{n - 1} \sum_{j \ne i} f_j\Bigr) \nabla \log q(z_i),

    where f holds only what shares the site's plates. Sites are drawn from their discrete laws: an
    estimator of theirs is not used. Other discrete laws of the framework do as well. Continuous
    sites beside them keep their pathwise gradients, and parameters of the model their exact ones.
    The model may do anything with the values, indexing too.

    A plate with ``subsample_size`` draws a minibatch for each particle, so that the baselines come
    from other data and help little. Draw the minibatch outside, and give it to model and guide.

    Args:
        num_particles: The number of particles, at least 2.
        vectorize_particles: As in NumPyro's ``ELBO``.

    Raises:
        ValueError: If there are fewer than 2 particles, or (in a step) a site of the guide has a
            biased pathwise gradient, as the straight-through relaxed laws have.

    Reference:
        Kool, van Hoof, Welling, *Buy 4 REINFORCE Samples, Get a Baseline for Free!* (2019).

    Example:
        >>> import numpyro
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
        """The loss, whose gradient is the estimate. Args and Returns as those of ELBO."""

        def particle(key: Any) -> Any:
            run = Run(key, param_map, model, guide, args, kwargs)
            traces = run.traces(_Discretely(type(self).__name__, run.seeded_guide()))
            terms, pairs = terms_of(*traces), []
            for site in traces[1].values():
                if latent(site) and not site["fn"].has_rsample:
                    # Not site["log_prob"], which is scaled where the plate is subsampled.
                    score = in_plates(site, site["fn"].log_prob(site["value"]))
                    f = lax.stop_gradient(terms.sum_to(site["cond_indep_stack"]))
                    pairs.append((jnp.broadcast_to(f, score.shape), score))
            return pathwise(*traces), pairs

        (elbo, direct), pairs = self._particles(particle, rng_key)
        gains = [(unbiased.less_the_others(f) * score).sum() for f, score in pairs]
        surrogate = direct.mean() + sum(gains, start=jnp.array(0.0)) / self.num_particles
        return loss_of(elbo.mean(), surrogate)
