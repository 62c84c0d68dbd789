r"""Unbiased gradients for discrete sites: leave-one-out REINFORCE, REBAR and RELAX.

For a site with logits theta, with l = log_softmax(theta), p = softmax(theta) and Gumbel noise G,
let z = l + G be the scores, b = H(z) their one-hot argmax, and s = softmax(z / t) the soft draw.
REBAR also needs z~, a draw of z given b, and the derivative of z~ with respect to theta, with b and
the noise of z~ fixed. Here the noise of z~ is chosen such that z~ has the same value as z. Let
e = exp(-z_b) and, for the other categories, E_k = p_k (exp(-z_k) - e). These are standard
exponential variables that are independent of b. Then z~_b = -log e and z~_k = -log(e + E_k / p_k)
have the distribution of z given b, and equal z. Only the derivatives differ: dz_k = dl_k, and
dz~_k = (1 - exp(z_k - z_b)) dl_k. So a control variate c(s) is evaluated once, and its pathwise
gradient through z minus that through z~ is

    dc/ds ds/dz w dl  with  w_k = exp(z_k - z_b).

The gradients with respect to all else that c depends on, such as parameters of the model, cancel in
this difference. The gradient of E f(b) with respect to the logits is estimated as
(f(b) - c(s)) (b - p) plus this difference. The code of Tucker et al. (2017) relates the noises of z
and z~ in the same way for binary variables.
"""

from collections.abc import Callable, Mapping
from typing import Any

from relaxed_dists._distributions import formulas, one_hot
from relaxed_dists._distributions.estimator_base import short_repr
from relaxed_dists._distributions.estimators import GumbelSoftmax
from relaxed_dists._infer.sites import Sites
from relaxed_dists._infer.svi import tolerant
from relaxed_dists._ops import Array, Ops


def less_the_others(f: Array) -> Array:
    """Each entry of f minus the mean of the other entries, along the first axis."""
    n = f.shape[0]
    return (f - f.mean(0)) * (n / (n - 1))


class Relaxation:
    """The hard and the soft draw of a site with the same noise, and gradients for its logits.

    The value of a binary site is the first entry of a one-hot vector of two categories.

    Args:
        ops: The framework's operations.
        one_hot: Whether the last axis of the logits holds categories.
        logits: The logits, as constants with the shape of the value.
        noise: Gumbel noise for one-hot values, logistic noise for binary ones, of the same shape.
        temperature: The temperature of the soft draw, for each event.

    Attributes:
        hard: The discrete draw.
        soft: The relaxed draw with the same noise.
        score: The gradient of the log mass with respect to the logits.
    """

    def __init__(
        self, ops: Ops, one_hot: bool, logits: Array, noise: Array, temperature: Array
    ) -> None:
        self._ops, self._one_hot = ops, one_hot
        self._two = logits if one_hot else formulas.bernoulli_log_probs(ops, logits)
        self._noise = noise if one_hot else ops.stack(noise, 0.0 * noise)
        self._temperature = temperature
        self._hard = formulas.hard_argmax(ops, self._two, self._noise)
        self._soft = self._relaxed(self._two)
        self.hard, self.soft = self._value(self._hard), self._value(self._soft)
        self.score = self._value(self._hard - formulas.softmax(ops, self._two))

    def _relaxed(self, two: Array) -> Array:
        return one_hot.concrete(self._ops, two, self._temperature, self._noise)[1]

    def _value(self, x: Array) -> Array:
        return x if self._one_hot else x[..., 0]

    def again(self, logits: Array) -> Array:
        """The relaxed draw with the same noise for other logits, with a gradient to them."""
        two = logits if self._one_hot else formulas.bernoulli_log_probs(self._ops, logits)
        return self._value(self._relaxed(two))

    def correction(self, slope: Array) -> Array:
        """The gradient of the control variate through z to the logits, minus that through z~.

        The module's docstring defines the scores z, and z~, which is z redrawn given the hard
        value.

        Args:
            slope: The gradient of the control variate with respect to the soft draw.
        """
        ops = self._ops
        if not self._one_hot:
            slope = ops.stack(slope, 0.0 * slope)
        unmasked = abs(self._two) < formulas.HUGE
        slope = ops.where(unmasked, slope, 0.0)
        p = formulas.softmax(ops, self._two)
        z = ops.where(unmasked, self._two + self._noise, 0.0)
        weight = ops.exp(ops.clip(z - ops.sum(self._hard * z)[..., None], formulas.FAR, 0.0))
        inner = slope - ops.sum(self._soft * slope)[..., None]
        by_l = weight * self._soft * inner / self._temperature[..., None]
        return self._value(by_l - p * ops.sum(by_l)[..., None])


def carrying(ops: Ops, logits: Array, gradient: Array) -> Array:
    """A number whose gradient with respect to the logits is ``gradient``."""
    unmasked = abs(logits) < formulas.HUGE  # a masked logit has no gradient, and 0 * inf is NaN
    return (ops.where(unmasked, logits, 0.0) * ops.stop_gradient(gradient)).sum()


def levels(parents: Mapping[str, frozenset[str]]) -> list[list[str]]:
    """The sites in groups, each of which depends on earlier groups only.

    Args:
        parents: The sites that each site's logits depend on, in the order of the draws.
    """
    level: dict[str, int] = {}
    for name, found in parents.items():
        level[name] = 1 + max((level[parent] for parent in found if parent in level), default=-1)
    return [[n for n in level if level[n] == at] for at in sorted(set(level.values()))]


def check_particles(name: str, number: Any, least: int) -> None:
    """Refuse a number of particles that is too small or no integer."""
    if not isinstance(number, int) or number < least:
        remedy = (
            "The baseline of each is the mean of the others: take 2 to 10"
            if least > 1
            else "Take 1, or more for less variance"
        )
        raise ValueError(
            f"{name} got num_particles={number!r}; expected a whole number of at least {least}. "
            f"{remedy}."
        )


def checked_eta(name: str, eta: Any) -> Any:
    """eta, if it is a finite number or a string, the name of a parameter; else an error."""
    if isinstance(eta, str) or (isinstance(eta, int | float) and abs(eta) < float("inf")):
        return eta
    raise ValueError(
        f"{name} got eta={eta!r}; expected a finite number, or the name of a parameter that the "
        "guide declares, to be trained. Take 1.0."
    )


def checked_surrogate(name: str, surrogate: Any, unwrap: Callable[[Any], Any]) -> Any:
    """The surrogate, wrapped to accept temperature=; an error if it is no function."""
    if not callable(surrogate) or isinstance(surrogate, type):
        raise ValueError(
            f"{name} got surrogate={surrogate!r}; expected a function of a dict of relaxed values. "
            "Write one that returns a number, or one for each row of the plate; or take REBAR_ELBO."
        )
    return tolerant(surrogate, unwrap)


def fitted(name: str, out: Array, site: Any, broadcast_to: Callable[..., Array]) -> Array:
    """The array that a surrogate returned, summed and broadcast to a site's batch shape."""
    batch, total = tuple(site["fn"].batch_shape), out
    while len(total.shape) > len(batch):
        total = total.sum(0)
    for axis in range(-len(total.shape), 0):
        total = total.sum(axis, keepdims=True) if batch[axis] == 1 else total
        if total.shape[axis] not in (1, batch[axis]):
            raise ValueError(
                f"{name} got a surrogate that returns the shape {tuple(out.shape)}, beside the "
                f"site {site['name']!r} of batch shape {batch}; expected a number, or an array "
                "that broadcasts with it. Sum over the categories and the event's dimensions."
            )
    return broadcast_to(total, batch)


def is_relaxed(elbo: str, sites: Sites, msg: Any) -> bool:
    """Whether REBAR and RELAX relax a site of the guide; an error if they can't train the site.

    Args:
        elbo: The name of the loss.
        sites: The backend's module for distributions of sites.
        msg: The site.
    """
    name, fn = msg["name"], msg["fn"]
    base, kind = sites.innermost(fn), sites.kind(fn)
    if sites.straight_through(base):
        raise straight_through(elbo, name, base)
    estimator = getattr(base, "estimator", None)
    if kind == "estimated" and isinstance(estimator, GumbelSoftmax):
        if estimator.soft:
            raise ValueError(
                f"{elbo} got the site {name!r} with a GumbelSoftmax of hard=False; expected "
                "hard=True, since it is the discrete bound whose gradient it estimates: the soft "
                "values are only its control variate. Leave hard out. See docs/estimators.md."
            )
        return True
    if kind in ("estimated", "discrete") or not fn.has_rsample:
        got = "no estimator" if estimator is None else f"estimator={short_repr(estimator)}"
        raise ValueError(
            f"{elbo} got the site {name!r}, {type(base).__name__} with {got}; expected "
            "OneHotCategorical or Bernoulli with GumbelSoftmax(temperature), the temperature of "
            "the control variate. Use LeaveOneOut_ELBO for other distributions without a pathwise "
            "gradient. See docs/estimators.md."
        )
    return False


def check_soft(elbo: str, sites: Sites, msg: Any, hard: bool = False) -> None:
    """Refuse a latent site of the model that has no density at soft values.

    Args:
        elbo: The name of the loss.
        sites: The backend's module for distributions of sites.
        msg: The site.
        hard: Whether the site is scored at a hard value.
    """
    base = sites.innermost(msg["fn"])
    if sites.kind(msg["fn"]) == "relaxed" or not (hard or sites.discrete(base)):
        raise ValueError(
            f"{elbo} got the site {msg['name']!r}, {type(base).__name__} in the model, which takes "
            "no soft values; expected OneHotCategorical or Bernoulli, as in the guide. Change the "
            "model's site; or take LeaveOneOut_ELBO, or RELAX_ELBO with eta=0, which do not run "
            "the model at soft values. See docs/estimators.md."
        )


# The functions below make the errors of this module.


def no_such_parameter(name: str, eta: str) -> ValueError:
    """The error about an eta that is not the name of a parameter of the guide."""
    return ValueError(
        f"{name} got eta={eta!r}, which is no parameter of the guide; expected one. Write "
        f"param({eta!r}, 1.0) in the guide, in its framework's way, or give a number."
    )


def straight_through(name: str, site: str, base: Any) -> ValueError:
    """The error about a site of the guide whose gradient is biased with any loss."""
    return ValueError(
        f"{name} got the site {site!r}, {type(base).__name__}, whose pathwise gradient is biased; "
        "expected a discrete distribution, or a continuous one. Use OneHotCategorical, Bernoulli "
        "or Subset. See docs/estimators.md."
    )


def no_derivative(name: str, site: str) -> ValueError:
    """The error about a site whose value the model uses only in functions without a derivative."""
    return ValueError(
        f"{name} got the site {site!r}, on whose value no other density depends by a derivative; "
        "expected a model that is a smooth function of it, since its control variate is a "
        "derivative. Multiply by the value in place of an argmax, a rounding or an index of it; or "
        "take LeaveOneOut_ELBO, or RELAX_ELBO with eta=0. See docs/estimators.md."
    )


def out_of_reach(name: str, site: str) -> ValueError:
    """The error about a site of the guide that the loss can't draw itself, as inside a scan."""
    return ValueError(
        f"{name} got the site {site!r} of a scan or cond in the guide, or with a value from "
        "outside, which it can't draw itself; expected it outside. Write the loop in Python, or "
        "draw the sites in a plate. LeaveOneOut_ELBO takes such a site without an estimator. "
        "See docs/estimators.md."
    )
