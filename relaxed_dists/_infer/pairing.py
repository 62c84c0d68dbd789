"""The check that model and guide draw a site from the same kind of distribution."""

from collections.abc import Collection
from typing import Any

from relaxed_dists._infer.sites import Sites


class Pairs:
    """The kinds of distribution of each latent site, noted while the guide and the model run."""

    def __init__(self, sites: Sites, allow_mixed: Collection[str]) -> None:
        super().__init__()
        if isinstance(allow_mixed, str):
            raise not_names("AnnealedSVI", "allow_mixed", allow_mixed)
        self._sites, self._allowed = sites, frozenset(allow_mixed)
        self._seen: dict[str, list[tuple[str, str]]] = {}

    def note(self, name: str, fn: Any) -> str | None:
        """Note a site and return its kind; refuse a relaxed distribution beside a discrete one."""
        kind, distribution = self._sites.kind(fn), type(self._sites.innermost(fn)).__name__
        if kind is not None:
            seen = self._seen.setdefault(name, [])
            seen.append((kind, distribution))
            if name not in self._allowed and len({kind == "relaxed" for kind, _ in seen}) > 1:
                raise mixed(name, model=distribution, guide=seen[0][1])
        return kind

    def without_gradient(self) -> list[str]:
        """The discrete sites that no guide draws with a gradient."""
        kinds = {name: {kind for kind, _ in seen} for name, seen in self._seen.items()}
        return sorted(name for name, found in kinds.items() if found == {"discrete"})

    def names(self) -> list[str]:
        """The sites that are discrete or relaxed."""
        return sorted(self._seen)

    def carry_gradients(self) -> bool:
        """Whether the values of a site carry a gradient."""
        kinds = {kind for seen in self._seen.values() for kind, _ in seen}
        return not kinds.isdisjoint({"relaxed", "estimated"})


# The messages.


def not_names(name: str, field: str, sites: object) -> ValueError:
    """One name in place of a list of names."""
    return ValueError(f"{name} got {field}={sites!r}; expected a list of names. Write [{sites!r}].")


def mixed(name: str, model: str, guide: str, who: str = "AnnealedSVI") -> ValueError:
    """A site with a mass on one side and a density on the other."""
    both = model + guide
    got = f"got the site '{name}', which the model draws from {model} and the guide from {guide}"
    expected = "expected two relaxed distributions or two discrete ones"
    if "Subset" in both or "Permutation" in both:
        hard = "Subset" if "Subset" in both else "Permutation"
        exact = f"{hard} in both, whose log_prob is exact; or " if hard == "Subset" else ""
        return ValueError(
            f"AnnealedSVI {got}; {expected}. Write {exact}Relaxed{hard}(...).mask(False) in both, "
            f"which counts as 0. To go on with the mixture, name the site: allow_mixed=['{name}']."
        )
    binary = "Bernoulli" in both
    relaxed = "RelaxedBernoulli" if binary else "RelaxedOneHotCategorical"
    hard = "Bernoulli" if binary else "OneHotCategorical"
    return ValueError(
        f"{who} {got}; {expected}, since a density and a mass make no bound. Write one of three: "
        f"{relaxed} in both; {hard} in both, with an estimator in the guide, {hard}(..., "
        "estimator=GumbelSoftmax(temperature)); or relax(model, temperature), whose site is "
        f"'{name.removesuffix('_relaxed')}_relaxed', with a guide of it. To go on with the "
        f"mixture, name the site: AnnealedSVI(..., allow_mixed=['{name}'])."
    )
