"""What both backends share of the relaxation of a model as it is written."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from relaxed_dists import _errors
from relaxed_dists._distributions import formulas
from relaxed_dists._infer import pairing
from relaxed_dists._ops import Array, Ops


def shown(ops: Ops, y: Array, rows: bool, hard: bool) -> Array:
    """The point of the simplex or of (0, 1) whose log or logit is y, or its corner."""
    soft = ops.exp(y) if rows else ops.exp(-ops.softplus(-y))
    if not hard:
        return soft
    corner = formulas.hardest(ops, y) if rows else ops.where(y > 0, 0.0 * soft + 1.0, 0.0)
    return formulas.straight_through(ops, corner, soft)


def check_shape(name: str, temperature: Any, shape: Sequence[int]) -> None:
    """Refuse a temperature that would make more events of a site than it has."""
    heat = np.shape(temperature)
    fits = len(heat) <= len(shape)
    if not fits or any(m not in (1, n) for m, n in zip(heat[::-1], shape[::-1], strict=False)):
        raise _errors.bad_temperature_shape(f"The relaxation of {name!r}", heat, shape)


class Chosen:
    """Which sites of a model are relaxed, and whether each that was named has been there."""

    def __init__(self, sites: Iterable[str] | None) -> None:
        if isinstance(sites, str):
            raise pairing.not_names("relax", "sites", sites)
        self.names = None if sites is None else frozenset(sites)
        self.found: set[str] = set()

    def has(self, name: str, law: str, discrete: bool, observed: bool) -> bool:
        """Whether a site is to be relaxed; an error if it was named and can't be."""
        latent = discrete and not observed
        if latent:
            self.found.add(name)
        if self.names is None or name not in self.names:
            return latent and self.names is None
        if not latent:
            raise named_otherwise(name, law, observed)
        return True

    def check(self) -> None:
        """Refuse names that the model has not drawn, once it has run."""
        missing = (self.names or frozenset()) - self.found
        if missing:
            raise never_seen(missing, self.found)


# The messages.


def no_relaxation(site: str, law: str) -> ValueError:
    """A site whose law can't be relaxed."""
    if law.startswith("Categorical"):
        return ValueError(
            f"The site {site!r} can't be relaxed: it got a {law}, whose values are integers that "
            "index something; expected one-hot values. Write OneHotCategorical, and z @ table in "
            "place of table[z]; or name the sites to relax with sites=[...]."
        )
    return ValueError(
        f"The site {site!r} can't be relaxed: it got a {law}; expected a OneHotCategorical or a "
        "Bernoulli. Name the sites to relax with sites=[...], and enumerate the others or sum "
        "them out."
    )


def named_otherwise(site: str, law: str, observed: bool) -> ValueError:
    """A named site that is no latent discrete one."""
    got = f"which is observed, a {law}" if observed else f"a {law}"
    return ValueError(
        f"relax got {site!r} in sites, {got}; expected the names of latent discrete sites. "
        "Take it out of sites."
    )


def never_seen(missing: Iterable[str], found: Iterable[str]) -> ValueError:
    """Named sites that the model has not drawn."""
    return ValueError(
        f"relax got {sorted(missing)} in sites, which the model never drew; expected names of its "
        f"latent discrete sites, which are {sorted(found)}. Correct the names."
    )


def given_outside(site: str, handler: str) -> ValueError:
    """A value from outside for a site that is computed there from its auxiliary site."""
    remedy = "Give it its name."
    if handler[0].islower() and handler != "init_to_value":
        remedy = f"Or put it inside, next to the model: relax({handler}(model, ...), temperature)."
    return ValueError(
        f"{handler} got a value for the site {site!r} outside the relaxed model, where its value "
        f"is computed from the site '{site}_relaxed'; expected a value for that one, a log or a "
        f"logit. {remedy}"
    )


def inside_control_flow(site: str) -> ValueError:
    """A discrete site in control flow whose sites no handler outside it can change."""
    return ValueError(
        f"relax got the discrete site {site!r} of a scan or cond, whose sites no handler "
        "outside it changes; expected relax inside. Wrap its body: scan(relax(body, temperature), "
        "...)."
    )


def no_noise(site: str, law: str) -> ValueError:
    """A site of GumbelSoftmaxReparam that is not relaxed."""
    return ValueError(
        f"GumbelSoftmaxReparam got the site {site!r}, a {law}; expected a relaxed law, such as "
        "RelaxedOneHotCategorical. Relax a discrete site first: its relaxed site is "
        f"'{site}_relaxed'."
    )


def noise_observed(site: str) -> NotImplementedError:
    """An observed site of GumbelSoftmaxReparam."""
    return NotImplementedError(
        f"GumbelSoftmaxReparam got the observed site {site!r}; expected a latent one, since no "
        "noise is drawn for a value that is given. Leave the site out of the configuration."
    )
