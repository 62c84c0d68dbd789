"""REBAR and RELAX: unbiased gradients whose control variate is the model at soft values."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from numpyro.handlers import substitute, trace
from numpyro.ops.provenance import eval_provenance

from relaxed_dists._infer import unbiased
from relaxed_dists_jax.ops import ops

from ..distributions.sites import kind
from .soft_draws import HardDraws, Redraws, SoftScores
from .svi import _unwrap
from .unbiased import Run, Unbiased, latent, loss_of, pathwise, terms_of, total


class _WithControlVariate(Unbiased):
    """An ELBO from one hard run, with a control variate from a soft run for each group of sites.

    A hard run has hard values at all discrete sites. A soft run has soft values at the group's
    sites and after them. The sites of one group do not depend on each other.
    """

    def __init__(
        self,
        surrogate: Callable[..., Any] | None,
        num_particles: int,
        eta: Any,
        vectorize_particles: Any,
    ) -> None:
        name = type(self).__name__
        unbiased.check_particles(name, num_particles, 1)
        super().__init__(num_particles, vectorize_particles)
        self.eta, self.surrogate = unbiased.checked_eta(name, eta), surrogate

    def loss(
        self, rng_key: Any, param_map: Any, model: Any, guide: Any, *args: Any, **kwargs: Any
    ) -> Array:
        """The loss, whose gradient is the unbiased estimate. See ELBO for Args and Returns."""
        name = type(self).__name__
        if isinstance(self.eta, str) and self.eta not in param_map:
            raise unbiased.no_such_parameter(name, self.eta)

        def particle(key: Any) -> Any:
            run = Run(key, param_map, model, guide, args, kwargs)
            draws = HardDraws(name, run.seeded_guide())
            traces = run.traces(draws)
            terms = terms_of(*traces)
            for site in traces[1].values():
                missed = latent(site) and site["name"] not in draws.found
                if missed and kind(site["fn"]) not in (None, "relaxed"):
                    raise unbiased.out_of_reach(name, site["name"])
            elbo, surrogate = pathwise(*traces)
            seconds = jnp.array(0.0)
            given: dict[str, Array] = {}
            for group in self._groups(run, draws):
                leaves = {site: draws.found[site].soft for site in group}
                parts = self._control(run, traces[1], draws, given, leaves)
                given |= {site: draws.found[site].hard for site in group}
                for site, (c, gradient) in parts.items():
                    draw, fn = draws.found[site], traces[1][site]["fn"]
                    gain = _rows(terms, traces[1][site]) - c
                    gain = gain.reshape(*gain.shape, *(1,) * fn.event_dim)
                    g = gain * draw.score + gradient
                    surrogate = surrogate + unbiased.carrying(ops, draws.logits[site], g)
                    seconds = seconds + (g**2).sum()
            return elbo, surrogate, seconds

        elbo, surrogate, seconds = self._particles(particle, rng_key)
        trained = self.surrogate is not None or isinstance(self.eta, str)
        # The second moment is made small by training eta, if it is a parameter, and the surrogate.
        return loss_of(elbo.mean(), surrogate.mean() - (seconds.mean() if trained else 0.0))

    def _groups(self, run: Run, draws: HardDraws) -> list[list[str]]:
        """The sites in groups, each of which depends on earlier groups only."""
        names = list(draws.found)
        if len(names) < 2:
            return [names] if names else []

        def logits(**hard: Array) -> dict[str, Array]:
            again = Redraws(type(self).__name__, run.seeded_guide(), hard)
            with trace():
                substitute(again, data=run.params)(*run.args, **run.kwargs)
            return again.logits

        found = eval_provenance(logits, **{site: draws.found[site].hard for site in names})
        return unbiased.levels({site: found[site] for site in names})

    def _control(
        self,
        run: Run,
        guide_trace: Any,
        draws: HardDraws,
        given: dict[str, Array],
        leaves: dict[str, Array],
    ) -> dict[str, tuple[Any, Any]]:
        """For each site of a group: its control variate, and terms of its logits' gradient."""
        name, guide = type(self).__name__, run.seeded_guide()
        eta = run.params[self.eta] if isinstance(self.eta, str) else self.eta
        fixed = lax.stop_gradient(run.params)
        softly = run._replace(params=fixed, model=SoftScores(name, run.model, draws.found))
        parts: dict[str, tuple[Any, Any]] = dict.fromkeys(leaves, (0.0, 0.0))

        def traces(leaves: Any) -> Any:
            return softly.traces(Redraws(name, guide, given | leaves))

        def f(leaves: Any) -> Any:
            soft = traces(leaves)
            terms = terms_of(*soft)
            rows = {site: _rows(terms, guide_trace[site]) for site in leaves}
            return total(soft[0]) - total(soft[1]), rows

        if isinstance(self.eta, str) or eta != 0:
            self._check(traces, leaves)
            slopes, rows = lax.stop_gradient(jax.grad(f, has_aux=True)(leaves))
            for site, slope in slopes.items():
                parts[site] = eta * rows[site], eta * draws.found[site].correction(slope)
        if self.surrogate is not None:
            surrogate = self.surrogate

            def r(leaves: Any) -> Any:
                values = given | leaves
                if len(values) < len(draws.found):
                    again = substitute(Redraws(name, guide, values), data=fixed)
                    found = trace(again).get_trace(*run.args, **run.kwargs)
                    values = {site: found[site]["value"] for site in draws.found}
                out = jnp.asarray(surrogate(run.params, values, *run.args, **run.kwargs))
                return out.sum(), out

            slopes, out = jax.grad(r, has_aux=True)(leaves)
            for site, slope in slopes.items():
                c, k = parts[site]
                c = c + unbiased.fitted(name, out, guide_trace[site], jnp.broadcast_to)
                parts[site] = c, k + draws.found[site].correction(slope)
        return parts

    def _check(self, traces: Callable[[Any], Any], leaves: dict[str, Array]) -> None:
        """Refuse a site whose value the model uses without a derivative."""

        def others(leaves: Any) -> Any:
            model_trace, guide_trace = traces(leaves)
            sums = {}
            for name in leaves:
                of = functools.partial(lambda name, site: site["name"] != name, name)
                sums[name] = total(model_trace, of) - total(guide_trace, of)
            return sums

        # eval_provenance finds, without computing numbers, the leaves with respect to which each
        # sum has a derivative.
        found = eval_provenance(lambda **t: jax.jvp(others, (leaves,), (t,))[1], **leaves)
        for name in leaves:
            if name not in found[name]:
                raise unbiased.no_derivative(type(self).__name__, name)


def _rows(terms: Any, site: Any) -> Array:
    """The log densities, summed over all plates but a site's own, without a gradient."""
    total = lax.stop_gradient(terms.sum_to(site["cond_indep_stack"]))
    return jnp.broadcast_to(total, site["fn"].batch_shape)


class REBAR_ELBO(_WithControlVariate):
    """The ELBO with an unbiased gradient for discrete sites; its control variate is the soft ELBO.

    The guide is the same as for a pathwise gradient by ``GumbelSoftmax(temperature)``; only the
    loss differs. Let ``f = log p(x, z) - log q(z)``, and let b be the hard draw and s the soft draw
    with the same noise. The gradient with respect to a site's logits is ::

        (f(b) - eta f(s)) grad log q(b) + eta grad f(s(theta)) - eta grad f(t(theta | b))

    whose mean is that of ``f(b) grad log q(b)``. Here t is a soft draw given b, from noise for
    which it equals s in number, so that model and guide run only once at hard values and once at
    soft ones. In the first bracket, f at an element of the site's plates leaves out the terms of
    the other elements. A soft value is scored by the linear extension ``sum_k s_k log(p_k)``. If
    sites of the guide depend on earlier sites, each level of this dependence has its own soft run.
    The temperature changes the variance of the gradient, never its mean. Continuous sites and the
    model's parameters keep their pathwise gradients.

    The model must be a smooth function of the values: it may multiply by them, but not round or
    compare them, nor take their argmax. The first step refuses a site on which no other density
    depends smoothly; if only some densities do, the gradient is biased and no error is raised.

    Args:
        num_particles: The number of particles.
        eta: The weight of the control variate: a number, or the name of a parameter that the guide
            declares (``numpyro.param("eta", 1.0)``), which the optimiser then trains to make the
            second moment of the gradient with respect to the logits small.
        vectorize_particles: As in NumPyro's ``ELBO``.

    Raises:
        ValueError: If ``num_particles`` is no integer of at least 1, or ``eta`` is neither a finite
            number nor the name of a parameter; or, in a step, if a discrete site of the guide has
            no hard ``GumbelSoftmax``, or its distribution in the model has no density at soft
            values.

    Reference:
        Tucker, Mnih, Maddison, Lawson, Sohl-Dickstein, *REBAR: Low-variance, unbiased gradient
        estimates for discrete latent variable models* (2017), section 3.

    Example:
        >>> import jax
        >>> import numpyro
        >>> from relaxed_dists.numpyro import Bernoulli, GumbelSoftmax
        >>> def model():
        ...     z = numpyro.sample("z", Bernoulli(probs=0.5))
        ...     numpyro.sample("x", Bernoulli(probs=0.2 + 0.6 * z), obs=1.0)
        >>> def guide():
        ...     logit = numpyro.param("logit", 0.0)
        ...     numpyro.sample("z", Bernoulli(logits=logit, estimator=GumbelSoftmax(0.5)))
        >>> optim, loss = numpyro.optim.Adam(0.1), REBAR_ELBO(num_particles=10)
        >>> svi = numpyro.infer.SVI(model, guide, optim, loss)
        >>> result = svi.run(jax.random.key(0), 200, progress_bar=False)
        >>> round(jax.nn.sigmoid(result.params["logit"]).item(), 1)
        0.8
    """

    def __init__(
        self, num_particles: int = 1, eta: float | str = 1.0, vectorize_particles: Any = True
    ) -> None:
        super().__init__(None, num_particles, eta, vectorize_particles)


class RELAX_ELBO(_WithControlVariate):
    """The ELBO with an unbiased gradient for discrete sites, by a trained control variate.

    This is `REBAR_ELBO` with ``c(s) = eta f(s) + r(s)`` in place of ``eta f(s)``. The same
    optimiser trains the parameters of r to make the second moment of the gradient with respect to
    the logits small; no other function should use these parameters. With ``eta=0`` the model never
    runs at soft values, and may use hard values in any way.

    Args:
        surrogate: The function r, called as ``surrogate(params, values, *args, **kwargs)``: params
            has the parameters of model and guide, and values the relaxed values of the guide's
            discrete sites, both by name; args and kwargs are the arguments of model and guide. It
            returns a number, or an array with a number for each element of the plates, which must
            depend only on the values at that element. The guide declares the surrogate's
            parameters, by ``numpyro.param``.
        num_particles: The number of particles.
        eta: The weight of the soft ELBO in the control variate, as in `REBAR_ELBO`.
        vectorize_particles: As in NumPyro's ``ELBO``.

    Raises:
        ValueError: In the cases of `REBAR_ELBO`; or if the surrogate is no function, or returns a
            shape that does not broadcast with a site's batch shape.

    Reference:
        Grathwohl, Choi, Wu, Roeder, Duvenaud, *Backpropagation through the Void* (2018), section 3.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import numpyro
        >>> from relaxed_dists.numpyro import Bernoulli, GumbelSoftmax
        >>> def model():
        ...     z = numpyro.sample("z", Bernoulli(probs=0.5))
        ...     numpyro.sample("x", Bernoulli(probs=0.2 + 0.6 * z), obs=1.0)
        >>> def guide():
        ...     logit, _ = numpyro.param("logit", 0.0), numpyro.param("ab", jnp.zeros(2))
        ...     numpyro.sample("z", Bernoulli(logits=logit, estimator=GumbelSoftmax(0.5)))
        >>> def surrogate(params, values):
        ...     a, b = params["ab"]
        ...     return a + b * values["z"]
        >>> optim, loss = numpyro.optim.Adam(0.1), RELAX_ELBO(surrogate, num_particles=10, eta=0)
        >>> svi = numpyro.infer.SVI(model, guide, optim, loss)
        >>> result = svi.run(jax.random.key(0), 200, progress_bar=False)
        >>> round(jax.nn.sigmoid(result.params["logit"]).item(), 1)
        0.8
    """

    def __init__(
        self,
        surrogate: Callable[..., Any],
        num_particles: int = 1,
        eta: float | str = 1.0,
        vectorize_particles: Any = True,
    ) -> None:
        surrogate = unbiased.checked_surrogate(type(self).__name__, surrogate, _unwrap)
        super().__init__(surrogate, num_particles, eta, vectorize_particles)
