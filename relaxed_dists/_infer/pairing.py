"""The check that model and guide draw a site from the same kind of distribution.

The kinds are "relaxed", "discrete" and "estimated", which is discrete with an estimator.
"""

import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from relaxed_dists._errors import mixed
from relaxed_dists._infer.sites import Sites


class Pairs:
    """The kinds of distribution of each latent site, noted while the guide and the model run."""

    def __init__(self, sites: Sites, allow_mixed: Collection[str]) -> None:
        super().__init__()
        if isinstance(allow_mixed, str):
            raise not_names("AnnealedSVI", "allow_mixed", allow_mixed)
        self._sites, self._allowed = sites, frozenset(allow_mixed)
        self._seen: dict[str, list[tuple[str, str]]] = {}
        self._rounded: set[str] = set()

    def note(self, name: str, fn: Any) -> str | None:
        """Note a site and return its kind; refuse a site that is both relaxed and discrete."""
        kind, distribution = self._sites.kind(fn), type(self._sites.innermost(fn)).__name__
        if kind is not None:
            seen = self._seen.setdefault(name, [])
            seen.append((kind, distribution))
            if kind == "relaxed" and self._sites.rounds(fn):
                self._rounded.add(name)
            if name not in self._allowed and len({kind == "relaxed" for kind, _ in seen}) > 1:
                raise mixed(name, model=distribution, guide=seen[0][1])
        return kind

    def without_gradient(self) -> list[str]:
        """The sites whose values carry no gradient: discrete ones, drawn without an estimator."""
        kinds = {name: {kind for kind, _ in seen} for name, seen in self._seen.items()}
        return sorted(name for name, found in kinds.items() if found == {"discrete"})

    @contextmanager
    def explain_no_estimator(self, loss: str) -> Iterator[None]:
        """Name the sites in the error of a loss that needs a gradient through all values."""
        try:
            yield
        except NotImplementedError as error:
            # A part of Pyro's message, which names no site.
            sites = self.without_gradient() if "fully reparam" in str(error) else []
            if not sites:
                raise
            raise NotImplementedError(no_estimator(loss, sites)) from error

    def warn_of_rounded(self) -> None:
        """Warn of sites whose relaxed values the framework's own distributions round."""
        if self._rounded:
            warnings.warn(rounded(sorted(self._rounded)), stacklevel=3)

    def names(self) -> list[str]:
        """The names of all discrete, estimated and relaxed sites."""
        return sorted(self._seen)

    def carry_gradients(self) -> bool:
        """Whether the values of at least one site carry a gradient."""
        kinds = {kind for seen in self._seen.values() for kind, _ in seen}
        return not kinds.isdisjoint({"relaxed", "estimated"})


# The functions below make the errors and warnings of this module.


def no_estimator(loss: str, sites: list[str]) -> str:
    """The text about discrete sites that a loss can't train, since the guide has no estimator."""
    return (
        f"SVI with {loss} does not support the discrete latent sites {sites}: their guide has no "
        "estimator. Give it one, such as GumbelSoftmax(temperature), or take LeaveOneOut_ELBO."
    )


def rounded(sites: list[str]) -> str:
    """The warning about relaxed distributions of the framework, which round their values."""
    return (
        f"AnnealedSVI got the sites {sites}, drawn from the framework's own relaxed distributions, "
        "which round their values: at low temperatures the ELBO and its gradient are wrong, "
        "without an error; expected this library's distributions, which are exact there. Import "
        "the class of the same name from relaxed_dists. See docs/moving.md."
    )


def not_names(name: str, field: str, sites: object) -> ValueError:
    """The error about one name in place of a list of names."""
    return ValueError(f"{name} got {field}={sites!r}; expected a list of names. Write [{sites!r}].")
