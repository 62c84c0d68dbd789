"""ELBOs with unbiased gradients for discrete sites: their shared parts, and leave-one-out."""

from collections.abc import Iterator
from typing import Any

import torch
from pyro.distributions.util import is_identically_zero
from pyro.infer import Trace_ELBO
from pyro.infer.util import MultiFrameTensor
from pyro.poutine.messenger import Messenger
from pyro.util import warn_if_nan
from torch import Tensor

from relaxed_dists._infer import unbiased

from ..distributions.sites import discrete, innermost, kind, rewrapped, straight_through


def without_estimator(fn: Any) -> Any:
    """A site's distribution without an estimator and without checks of its values."""

    def change(base: Any) -> Any:
        made = discrete(base)
        if made is not None:
            made._validate_args = False
        return made

    return rewrapped(fn, change)


def latent(msg: Any) -> bool:
    """Whether a site is latent: neither observed nor the subsample of a plate."""
    return not (msg["is_observed"] or type(msg["fn"]).__name__ == "_Subsample")


class _DrawDiscrete(Messenger):
    """Draws the sites of a guide without their estimators."""

    def __init__(self, elbo: str) -> None:
        super().__init__()
        self._elbo = elbo

    def _pyro_sample(self, msg: Any) -> None:
        if latent(msg):
            base = innermost(msg["fn"])
            estimated = kind(msg["fn"]) == "estimated"
            biased = straight_through(base) or getattr(base, "hard", False)
            if biased or (estimated and discrete(base) is None):
                raise unbiased.straight_through(self._elbo, msg["name"], base)
            if estimated:
                msg["fn"] = without_estimator(msg["fn"])


def terms_of(model_trace: Any, guide_trace: Any) -> MultiFrameTensor:
    """The log densities of the model minus those of the guide, grouped by plates."""
    terms = MultiFrameTensor()
    for trace, sign in ((model_trace, 1), (guide_trace, -1)):
        for site in trace.nodes.values():
            if site["type"] == "sample":
                terms.add((site["cond_indep_stack"], sign * site["log_prob"]))
    return terms


class Unbiased(Trace_ELBO):
    """An ELBO whose gradient is estimated by that of a surrogate, not by that of the loss."""

    def _both(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Tensor, Tensor]:
        """The loss as a constant, and a surrogate whose gradient estimates that of the loss."""
        raise NotImplementedError

    def _particles(self, model: Any, guide: Any, args: Any, kwargs: Any) -> Iterator[Any]:
        """Model and guide for each run: one run per particle, or one run of all particles."""
        if not self.vectorize_particles:
            yield from [(model, guide)] * self.num_particles
            return
        if self.max_plate_nesting == float("inf"):
            self._guess_max_plate_nesting(model, guide, args, kwargs)
        yield self._vectorized_num_particles(model), self._vectorized_num_particles(guide)

    def _pathwise(self, model_trace: Any, guide_trace: Any) -> tuple[Tensor, Tensor]:
        """The ELBO as a constant, and its terms that have a pathwise gradient."""
        elbo = model_trace.log_prob_sum() - guide_trace.log_prob_sum()
        pathwise = model_trace.log_prob_sum()
        for site in guide_trace.nodes.values():
            if site["type"] == "sample":
                entropy = site["score_parts"].entropy_term
                if not is_identically_zero(entropy):
                    pathwise = pathwise - entropy.sum()
        return elbo.detach() / self.num_particles, pathwise / self.num_particles

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The loss as a tensor whose gradient is the unbiased estimate. See ELBO for Args."""
        loss, surrogate = self._both(model, guide, args, kwargs)
        warn_if_nan(surrogate, "loss")
        return loss + (surrogate - surrogate.detach())

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """Return the loss, and add the estimate to the parameters' gradients. See ELBO for Args."""
        loss, surrogate = self._both(model, guide, args, kwargs)
        if surrogate.requires_grad:
            surrogate.backward(retain_graph=self.retain_graph)
        warn_if_nan(loss, "loss")
        return loss.item()


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
    model and guide, or use ``vectorize_particles=True``, with which all particles share one
    minibatch.

    Args:
        num_particles: The number of particles, at least 2.
        kwargs: Further arguments of Pyro's ``ELBO``, such as ``vectorize_particles``.

    Raises:
        ValueError: If there are fewer than 2 particles; or, in a step, if the distribution of a
            site of the guide has a biased pathwise gradient, as the straight-through relaxed
            distributions have.

    Reference:
        Kool, van Hoof, Welling, *Buy 4 REINFORCE Samples, Get a Baseline for Free!* (2019).

    Example:
        >>> import pyro
        >>> import torch
        >>> from relaxed_dists.pyro import Bernoulli
        >>> pyro.clear_param_store()
        >>> _ = torch.manual_seed(0)
        >>> def model(): pyro.sample("z", Bernoulli(probs=torch.tensor(0.8)))
        >>> def guide():
        ...     pyro.sample("z", Bernoulli(logits=pyro.param("logit", torch.tensor(0.0))))
        >>> loss = LeaveOneOut_ELBO(num_particles=10, vectorize_particles=True)
        >>> svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), loss)
        >>> for _ in range(200): _ = svi.step()
        >>> round(pyro.param("logit").sigmoid().item(), 1)
        0.8
    """

    def __init__(self, num_particles: int = 2, **kwargs: Any) -> None:
        unbiased.check_particles(type(self).__name__, num_particles, 2)
        super().__init__(num_particles=num_particles, **kwargs)

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> Any:
        guide = _DrawDiscrete(type(self).__name__)(guide)
        return super()._get_trace(model, guide, args, kwargs)

    def _both(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Tensor, Tensor]:
        loss: Any = 0.0
        surrogate: Any = 0.0
        found: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for traces in self._get_traces(model, guide, args, kwargs):
            elbo, pathwise = self._pathwise(*traces)
            loss, surrogate = loss - elbo, surrogate - pathwise
            terms = terms_of(*traces)
            for name, site in traces[1].nodes.items():
                score: Any = site["score_parts"].score_function if site["type"] == "sample" else 0.0
                if not is_identically_zero(score):
                    f = terms.sum_to(site["cond_indep_stack"]).detach()
                    found.setdefault(name, []).append((f.expand(score.shape), score))
        for pairs in found.values():
            f, score = (torch.stack(part) for part in zip(*pairs, strict=True))
            if self.vectorize_particles:
                f, score = f[0], score[0]
            gain = (unbiased.less_the_others(f) * score).sum()
            surrogate = surrogate - gain / self.num_particles
        return loss, surrogate
