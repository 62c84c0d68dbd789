"""The parts of relax and of the reparameterisations that both backends share."""

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from relaxed_dists import _errors
from relaxed_dists._distributions import formulas, machinery
from relaxed_dists._infer import pairing
from relaxed_dists._infer.sites import Sites
from relaxed_dists._ops import Array, Ops


def constrained(ops: Ops, y: Array, one_hot: bool, hard: bool) -> Array:
    """The point of the simplex or (0, 1) whose log or logit is y; if hard, rounded to a corner."""
    soft = ops.exp(y) if one_hot else ops.exp(-ops.softplus(-y))
    if not hard:
        return soft
    corner = formulas.hard_argmax(ops, y) if one_hot else ops.where(y > 0, 0.0 * soft + 1.0, 0.0)
    return formulas.straight_through(ops, corner, soft)


def relaxed(
    sites: Sites, classes: tuple[Any, Any], name: str, fn: Any, temperature: Any
) -> tuple[Any, bool]:
    """The relaxed distribution for a discrete site, in its wrappers, and whether it is one-hot.

    Args:
        sites: The backend's module for distributions of sites.
        classes: The relaxed one-hot class in log space, and the binary one in logit space.
        name: The site's name.
        fn: The site's distribution, perhaps in wrappers such as Independent.
        temperature: The temperature.
    """
    base = sites.innermost(fn)
    discrete = sites.discrete(base)
    if discrete is None:
        got = f"The site {name!r} can't be relaxed: it got a {type(base).__name__}"
        if type(base).__name__.startswith("Categorical"):
            raise ValueError(
                f"{got}, whose values are integers that index something; expected one-hot values. "
                "Write OneHotCategorical, and z @ table in place of table[z]; or name the sites to "
                "relax with sites=[...]. See docs/from-discrete-to-trained.md."
            )
        raise ValueError(
            f"{got}; expected a OneHotCategorical or a Bernoulli. Name the sites to relax with "
            "sites=[...], and enumerate the others or sum them out. "
            "See docs/from-discrete-to-trained.md."
        )
    one_hot = len(discrete.event_shape) > 0
    shape, given = fn.shape()[:-1] if one_hot else fn.shape(), np.shape(temperature)
    fits = all(m in (1, n) for m, n in zip(given[::-1], shape[::-1], strict=False))
    if len(given) > len(shape) or not fits:
        raise _errors.bad_temperature_shape(f"The relaxation of {name!r}", given, shape)
    cls = classes[0] if one_hot else classes[1]
    made = cls(temperature, logits=discrete.logits, validate_args=base._validate_args)
    return sites.rewrapped(fn, lambda _: made), one_hot


class Reparam:
    """The arguments of RelaxedReparam."""

    def __init__(self, temperature: Any, hard: bool = False) -> None:
        self.temperature = temperature
        self.hard = hard
        self._warned = False

    def _check_hard(self, name: str, kernels: str) -> None:
        """Warn once if the site is hard and functions of the module ``kernels`` run the model."""
        if self.hard and not self._warned and machinery.called_from(kernels):
            self._warned = True
            warnings.warn(hard_under_hmc(name), stacklevel=2)


class Chosen:
    """Which sites of a model are relaxed, and which of the sites that the user named are drawn."""

    def __init__(self, sites: Iterable[str] | None) -> None:
        if isinstance(sites, str):
            raise pairing.not_names("relax", "sites", sites)
        self.names = None if sites is None else frozenset(sites)
        self.start()

    def start(self) -> None:
        """Forget the sites of the last run of the model."""
        self.found: set[str] = set()
        self.relaxed: set[str] = set()
        self.observed = False  # whether the model has data

    def has(self, name: str, distribution: str, discrete: bool, observed: bool) -> bool:
        """Whether to relax a site; an error if the user named the site and it can't be relaxed."""
        latent = discrete and not observed
        if latent:
            self.found.add(name)
        if self.names is None or name not in self.names:
            return latent and self.names is None
        if not latent:
            got = f"which is observed, a {distribution}" if observed else f"a {distribution}"
            raise ValueError(
                f"relax got {name!r} in sites, {got}; expected the names of latent discrete sites. "
                "Take it out of sites."
            )
        return True

    def check(self) -> None:
        """After a run of the model, refuse names of sites that the model did not draw."""
        missing = (self.names or frozenset()) - self.found
        if missing:
            raise ValueError(
                f"relax got {sorted(missing)} in sites, which the model never drew; expected names "
                f"of its latent discrete sites, which are {sorted(self.found)}. Correct the names."
            )


# The functions below make the errors of this module.


def given_outside(site: str, handler: str) -> ValueError:
    """The error about a value that a handler outside relax gives to a site that relax computes."""
    remedy = "Give the value under that name."
    if handler[0].islower() and handler != "init_to_value":
        remedy = f"Or put it inside, next to the model: relax({handler}(model, ...), temperature)."
    return ValueError(
        f"{handler} got a value for the site {site!r} outside the relaxed model, where its value "
        f"is computed from the site '{site}_relaxed'; expected a value for that one, a log or a "
        f"logit. {remedy}"
    )


def hard_under_hmc(site: str) -> str:
    """The warning about hard values of a relaxed site under HMC or NUTS."""
    return (
        f"HMC or NUTS got the site {site!r}, relaxed with hard=True: the density jumps where the "
        "value does, its gradient is that of other, soft values, and so the steps become tiny and "
        "the chain hardly moves; expected hard=False. Leave hard out, or sum the site out. "
        "See docs/how-to/nuts.md."
    )


def no_noise(site: str, got: str) -> ValueError:
    """The error about a site of GumbelSoftmaxReparam that is not relaxed."""
    return ValueError(
        f"GumbelSoftmaxReparam got the site {site!r}, a {got}; expected a relaxed distribution, "
        "such as RelaxedOneHotCategorical. Relax a discrete site first: its relaxed site is "
        f"'{site}_relaxed'."
    )


def noise_observed(site: str) -> NotImplementedError:
    """The error about an observed site of GumbelSoftmaxReparam."""
    return NotImplementedError(
        f"GumbelSoftmaxReparam got the observed site {site!r}; expected a latent one, since no "
        "noise is drawn for a value that is given. Leave the site out of the configuration."
    )
