r"""Unbiased gradients for discrete sites: leave-one-out REINFORCE, REBAR and RELAX.

For a site of logits theta, with l = log_softmax(theta), p = softmax(theta) and Gumbel noise G, let
z = l + G be the scores, b = H(z) the hard draw, and s = softmax(z / t) the soft one. REBAR needs
z~ as well, a draw of z given b, and its derivative by theta with the noise behind it and b fixed.
Here z~ is z itself: with e = exp(-z_b) and the standard exponential E_k = p_k (exp(-z_k) - e),
which are independent of b, z~_b = -log e and z~_k = -log(e + E_k / p_k) have the law of z given b
and z's numbers. Only their derivatives differ: dz_k = dl_k, and dz~_k = (1 - exp(z_k - z_b)) dl_k.
So a control variate c is evaluated once, its two pathwise terms come to

    dc/ds ds/dz w dl  with  w_k = exp(z_k - z_b),

and all that c depends on directly (parameters of the model) cancels. The estimate of the gradient
by the logits of E f(b) is (f(b) - c(s)) (b - p) plus that. It ties the noises of z and z~ as the
code of Tucker et al. (2017) does for binary variables, for any number of categories.
"""

from collections.abc import Callable, Mapping
from typing import Any

from relaxed_dists import _errors_unbiased as _errors
from relaxed_dists._distributions import formulas
from relaxed_dists._distributions.estimators import GumbelSoftmax
from relaxed_dists._distributions.formulas import Array, Ops
from relaxed_dists._infer.svi import takes_temperature, without_temperature


def less_the_others(f: Array) -> Array:
    """f less the mean of the others, along the first axis."""
    n = f.shape[0]
    return (f - f.mean(0)) * (n / (n - 1))


class Relaxation:
    """The hard and the soft draw of a site, of one noise, and gradients by its logits.

    A binary site is the first of two categories.

    Args:
        ops: The framework's operations.
        rows: Whether the last axis of the logits holds categories.
        logits: The logits, constants; of the shape of the value.
        noise: Gumbel noise for rows, logistic noise for a binary site; of that shape.
        temperature: That of the soft draw, for each row.
    """

    def __init__(
        self, ops: Ops, rows: bool, logits: Array, noise: Array, temperature: Array
    ) -> None:
        self._ops, self._rows = ops, rows
        self.logits, self.noise = logits, noise
        self._two = logits if rows else formulas.bernoulli_log_probs(ops, logits)
        self._noise = noise if rows else ops.stack(noise, 0.0 * noise)
        self._temperature = temperature
        self._hard = formulas.hardest(ops, self._two, self._noise)
        self._soft = self._relaxed(self._two)

    def _relaxed(self, two: Array) -> Array:
        return formulas.concrete(self._ops, two, self._temperature, self._noise)[1]

    def _value(self, x: Array) -> Array:
        return x if self._rows else x[..., 0]

    @property
    def hard(self) -> Array:
        """The discrete draw."""
        return self._value(self._hard)

    @property
    def soft(self) -> Array:
        """The relaxed draw of the same noise."""
        return self._value(self._soft)

    def again(self, logits: Array) -> Array:
        """The relaxed draw of the same noise at other logits, with a gradient by them."""
        two = logits if self._rows else formulas.bernoulli_log_probs(self._ops, logits)
        return self._value(self._relaxed(two))

    @property
    def score(self) -> Array:
        """The gradient of the log mass by the logits, b - p; that by a binary site's one logit."""
        return self._value(self._hard - formulas.softmax(self._ops, self._two))

    def correction(self, slope: Array) -> Array:
        """The pathwise gradient through z less that through z given b, by the logits.

        Args:
            slope: The gradient of the control variate by the soft draw.
        """
        ops = self._ops
        if not self._rows:
            slope = ops.stack(slope, 0.0 * slope)
        kept = abs(self._two) < formulas.HUGE
        slope = ops.where(kept, slope, 0.0)
        p = formulas.softmax(ops, self._two)
        z = ops.where(kept, self._two + self._noise, 0.0)
        weight = ops.exp(ops.clip(z - ops.sum(self._hard * z)[..., None], formulas.FAR, 0.0))
        inner = slope - ops.sum(self._soft * slope)[..., None]
        by_l = weight * self._soft * inner / self._temperature[..., None]
        return self._value(by_l - p * ops.sum(by_l)[..., None])


def carrying(ops: Ops, logits: Array, gradient: Array) -> Array:
    """A number that has this gradient by the logits."""
    kept = abs(logits) < formulas.HUGE  # a masked one has none, and 0 * inf would be NaN
    return (ops.where(kept, logits, 0.0) * ops.stop_gradient(gradient)).sum()


def levels(parents: Mapping[str, frozenset[str]]) -> list[list[str]]:
    """The sites, in order, in groups: the sites of one depend on none of its own or later ones.

    Args:
        parents: The sites that each site's logits depend on, in the order that they are drawn.
    """
    level: dict[str, int] = {}
    for name, found in parents.items():
        level[name] = 1 + max((level[parent] for parent in found if parent in level), default=-1)
    return [[n for n in level if level[n] == at] for at in sorted(set(level.values()))]


def checked_particles(name: str, number: Any, least: int) -> int:
    """The number of particles, or an error."""
    if not isinstance(number, int) or number < least:
        raise _errors.bad_particles(name, number, least)
    return number


def checked_eta(name: str, eta: Any) -> Any:
    """A finite number, or the name of a parameter; else an error."""
    if isinstance(eta, str) or (isinstance(eta, int | float) and abs(eta) < float("inf")):
        return eta
    raise _errors.bad_eta(name, eta)


def checked_surrogate(name: str, surrogate: Any, unwrap: Callable[[Any], Any]) -> Any:
    """A callable that accepts temperature=, used or not; or an error."""
    if not callable(surrogate) or isinstance(surrogate, type):
        raise _errors.bad_surrogate(name, surrogate)
    taken = takes_temperature(surrogate, unwrap)
    return surrogate if taken else without_temperature(surrogate)


def checked_site(elbo: str, name: str, kind: str | None, law: Any, pathwise: bool) -> bool:
    """Whether REBAR and RELAX relax a site of the guide; an error if its gradient would be biased.

    Args:
        elbo: The name of the loss.
        name: The site's name.
        kind: The sort of its law: relaxed, estimated, discrete or None.
        law: Its law, without wrappers.
        pathwise: Whether its draws carry a gradient.
    """
    if kind == "estimated" and isinstance(getattr(law, "estimator", None), GumbelSoftmax):
        if law.estimator.soft:
            raise _errors.soft_estimator(elbo, name)
        return True
    if kind in ("estimated", "discrete") or not pathwise:
        raise _errors.no_gumbel_softmax(elbo, name, law)
    return False
