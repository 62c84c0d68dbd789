"""REBAR and RELAX: unbiased gradients whose control variate is the model at soft values."""

from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from pyro.infer.enum import get_importance_trace
from torch import Tensor

from relaxed_dists._infer import unbiased
from relaxed_dists_torch.ops import ops

from .generators import rng_state, same_noise
from .soft_draws import HardDraws, Redraws, SoftScores
from .svi import _unwrap
from .unbiased import Unbiased, terms_of


class _WithControlVariate(Unbiased):
    """An ELBO from one hard run, with a control variate from a soft run for each group of sites.

    A hard run has hard values at all discrete sites. A soft run has soft values at the group's
    sites and after them. The sites of one group do not depend on each other.
    """

    def __init__(
        self, surrogate: Callable[..., Any] | None, num_particles: int, eta: Any, **kwargs: Any
    ) -> None:
        name = type(self).__name__
        unbiased.check_particles(name, num_particles, 1)
        super().__init__(num_particles=num_particles, **kwargs)
        self.eta, self.surrogate = unbiased.checked_eta(name, eta), surrogate
        self._known: dict[Any, list[list[str]]] = {}

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> Any:
        return super()._get_trace(model, HardDraws(type(self).__name__)(guide), args, kwargs)

    def _traces(self, model: Any, guide: Any, args: Any, kwargs: Any) -> Any:
        return get_importance_trace("flat", self.max_plate_nesting, model, guide, args, kwargs)

    def _groups(self, guide: Any, names: Any, args: Any, kwargs: Any, state: Any) -> Any:
        """The sites in groups, each of which depends on earlier ones only. The result is stored."""
        if len(names) < 2:
            return [list(names)] if names else []
        key = (guide, *names)
        if key not in self._known:
            draws = HardDraws(type(self).__name__, track=True)
            with poutine.block(), same_noise(state), torch.no_grad():
                draws(guide)(*args, **kwargs)
            self._known[key] = unbiased.levels(draws.parents)
        return self._known[key]

    def _both(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Tensor, Tensor]:
        loss: Any = 0.0
        surrogate: Any = 0.0
        for run in self._particles(model, guide, args, kwargs):
            state, draws = rng_state(), HardDraws(type(self).__name__)
            hardly = SoftScores(type(self).__name__, draws.found, hard=True)
            traces = self._traces(hardly(run[0]), draws(run[1]), args, kwargs)
            elbo, pathwise = self._pathwise(*traces)
            loss, surrogate = loss - elbo, surrogate - pathwise
            given: dict[str, Tensor] = {}
            terms = terms_of(*traces)
            for group in self._groups(guide, draws.found, args, kwargs, state):
                leaves = {name: draws.found[name].soft.requires_grad_() for name in group}
                with same_noise(state), torch.enable_grad():
                    again = Redraws(type(self).__name__, given | leaves, draws)
                    parts, trained = self._control(run, again, args, kwargs, traces[1], leaves)
                given |= {name: draws.found[name].hard for name in group}
                square: Any = 0.0
                for name, (c, gradient) in parts.items():
                    site, draw = traces[1].nodes[name], draws.found[name]
                    gain = _rows(terms, site) - c
                    gain = gain.reshape(gain.shape + (1,) * site["fn"].event_dim)
                    g = (gain * draw.score + gradient) / self.num_particles
                    surrogate = surrogate - unbiased.carrying(ops, draws.logits[name], g)
                    square = square + self.num_particles * (g**2).sum()
                if trained and square.requires_grad:
                    slopes = torch.autograd.grad(square, trained, allow_unused=True)
                    for x, slope in zip(trained, slopes, strict=True):
                        surrogate = surrogate + (0.0 if slope is None else (x * slope).sum())
        return loss, surrogate

    def _control(
        self, run: Any, again: "Redraws", args: Any, kwargs: Any, guide_trace: Any, leaves: Any
    ) -> tuple[dict[str, tuple[Any, Any]], list[Tensor]]:
        """For each site of a group: its control variate, and terms of its logits' gradient.

        The second result lists the parameters that are trained to make the gradient's second moment
        small.
        """
        name, draws = type(self).__name__, again.draws
        softly, trained = list(leaves.values()), []
        eta: Any = self.eta
        if isinstance(eta, str):
            site = guide_trace.nodes.get(eta, {"type": "none"})
            if site["type"] != "param":
                raise unbiased.no_such_parameter(name, eta)
            eta = site["value"]
            trained.append(eta.unconstrained())
        parts: dict[str, tuple[Any, Any]] = dict.fromkeys(leaves, (0.0, 0.0))
        values = {site: again.given.get(site) for site in draws.found}
        if isinstance(eta, Tensor) or eta != 0:
            soft = self._traces(SoftScores(name, draws.found)(run[0]), again(run[1]), args, kwargs)
            values = {site: soft[1].nodes[site]["value"] for site in values}
            self._check(soft, leaves)
            total, terms = soft[0].log_prob_sum() - soft[1].log_prob_sum(), terms_of(*soft)
            gradients = torch.autograd.grad(total, softly, retain_graph=self.surrogate is not None)
            for site, slope in zip(leaves, gradients, strict=True):
                rows, k = _rows(terms, guide_trace.nodes[site]), draws.found[site].correction(slope)
                parts[site] = eta * rows, eta * k
        elif any(value is None for value in values.values()):
            with poutine.block():
                nodes = poutine.trace(again(run[1])).get_trace(*args, **kwargs).nodes
            values = {site: nodes[site]["value"] for site in values}
        if self.surrogate is not None:
            with poutine.trace(param_only=True) as own:
                r = torch.as_tensor(self.surrogate(values, *args, **kwargs))
            found: Any = own.trace.nodes.values()
            trained += [site["value"].unconstrained() for site in found]
            slopes: Any = [None] * len(softly)
            if r.requires_grad:
                how: Any = {"create_graph": True, "allow_unused": True}
                slopes = torch.autograd.grad(r.sum(), softly, **how)
            for site, slope in zip(leaves, slopes, strict=True):
                c, k = parts[site]
                k = k if slope is None else k + draws.found[site].correction(slope)
                parts[site] = (
                    c + unbiased.fitted(name, r, guide_trace.nodes[site], torch.broadcast_to),
                    k,
                )
        return parts, trained

    def _check(self, soft: Any, leaves: dict[str, Tensor]) -> None:
        """Refuse, at the first call, a site whose value the model uses without a derivative."""
        key = ("checked", *leaves)
        for name, leaf in leaves.items() if key not in self._known else ():
            sites = [site for trace in soft for site in trace.nodes.values()]
            others = [s for s in sites if s["type"] == "sample" and s["name"] != name]
            rest = sum((site["log_prob_sum"] for site in others), start=torch.zeros(()))
            how: Any = {"retain_graph": True, "allow_unused": True}
            if not rest.requires_grad or None in torch.autograd.grad(rest, leaf, **how):
                raise unbiased.no_derivative(type(self).__name__, name)
        self._known[key] = []


def _rows(terms: Any, site: Any) -> Tensor:
    """The log densities, summed over all plates but a site's own, without a gradient."""
    total = torch.as_tensor(terms.sum_to(site["cond_indep_stack"]))
    return total.detach().expand(site["fn"].batch_shape)


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
            declares (``pyro.param("eta", torch.tensor(1.0))``), which the optimiser then trains to
            make the second moment of the gradient with respect to the logits small.
        kwargs: Further arguments of Pyro's ``ELBO``, such as ``vectorize_particles``.

    Raises:
        ValueError: If ``num_particles`` is no integer of at least 1, or ``eta`` is neither a finite
            number nor the name of a parameter; or, in a step, if a discrete site of the guide has
            no hard ``GumbelSoftmax``, or its distribution in the model has no density at soft
            values.

    Reference:
        Tucker, Mnih, Maddison, Lawson, Sohl-Dickstein, *REBAR: Low-variance, unbiased gradient
        estimates for discrete latent variable models* (2017), section 3.

    Example:
        >>> import pyro
        >>> import torch
        >>> from relaxed_dists.pyro import Bernoulli, GumbelSoftmax
        >>> pyro.clear_param_store()
        >>> _ = torch.manual_seed(0)
        >>> def model():
        ...     z = pyro.sample("z", Bernoulli(probs=torch.tensor(0.5)))
        ...     pyro.sample("x", Bernoulli(probs=0.2 + 0.6 * z), obs=torch.tensor(1.0))
        >>> def guide():
        ...     logit = pyro.param("logit", torch.tensor(0.0))
        ...     pyro.sample("z", Bernoulli(logits=logit, estimator=GumbelSoftmax(0.5)))
        >>> loss = REBAR_ELBO(num_particles=10, vectorize_particles=True)
        >>> svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), loss)
        >>> for _ in range(200): _ = svi.step()
        >>> round(pyro.param("logit").sigmoid().item(), 1)
        0.8
    """

    def __init__(self, num_particles: int = 1, eta: float | str = 1.0, **kwargs: Any) -> None:
        super().__init__(None, num_particles, eta, **kwargs)


class RELAX_ELBO(_WithControlVariate):
    """The ELBO with an unbiased gradient for discrete sites, by a trained control variate.

    This is `REBAR_ELBO` with ``c(s) = eta f(s) + r(s)`` in place of ``eta f(s)``. The same
    optimiser trains the parameters of r to make the second moment of the gradient with respect to
    the logits small; no other function should use these parameters. With ``eta=0`` the model never
    runs at soft values, and may use hard values in any way.

    Args:
        surrogate: The function r, called as ``surrogate(values, *args, **kwargs)``: values has the
            relaxed values of the guide's discrete sites, by name; args and kwargs are the arguments
            of model and guide. It returns a number, or a tensor with a number for each element of
            the plates, which must depend only on the values at that element. The surrogate gets its
            parameters from ``pyro.param`` or ``pyro.module``.
        num_particles: The number of particles.
        eta: The weight of the soft ELBO in the control variate, as in `REBAR_ELBO`.
        kwargs: Further arguments of Pyro's ``ELBO``, such as ``vectorize_particles``.

    Raises:
        ValueError: In the cases of `REBAR_ELBO`; or if the surrogate is no function, or returns a
            shape that does not broadcast with a site's batch shape.

    Reference:
        Grathwohl, Choi, Wu, Roeder, Duvenaud, *Backpropagation through the Void* (2018), section 3.

    Example:
        >>> import pyro
        >>> import torch
        >>> from relaxed_dists.pyro import Bernoulli, GumbelSoftmax
        >>> pyro.clear_param_store()
        >>> _ = torch.manual_seed(0)
        >>> def model():
        ...     z = pyro.sample("z", Bernoulli(probs=torch.tensor(0.5)))
        ...     pyro.sample("x", Bernoulli(probs=0.2 + 0.6 * z), obs=torch.tensor(1.0))
        >>> def guide():
        ...     logit = pyro.param("logit", torch.tensor(0.0))
        ...     pyro.sample("z", Bernoulli(logits=logit, estimator=GumbelSoftmax(0.5)))
        >>> def surrogate(values):
        ...     a, b = pyro.param("ab", torch.zeros(2))
        ...     return a + b * values["z"]
        >>> loss = RELAX_ELBO(surrogate, num_particles=10, eta=0, vectorize_particles=True)
        >>> svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), loss)
        >>> for _ in range(200): _ = svi.step()
        >>> round(pyro.param("logit").sigmoid().item(), 1)
        0.8
    """

    def __init__(
        self,
        surrogate: Callable[..., Any],
        num_particles: int = 1,
        eta: float | str = 1.0,
        **kwargs: Any,
    ) -> None:
        surrogate = unbiased.checked_surrogate(type(self).__name__, surrogate, _unwrap)
        super().__init__(surrogate, num_particles, eta, **kwargs)
