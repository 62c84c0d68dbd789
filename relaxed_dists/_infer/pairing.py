"""Which laws model and guide draw a site from; what both backends share."""

from collections.abc import Collection, Sequence


class Pairs:
    """The sorts of law of each latent site, noted as the guide and then the model is run."""

    def __init__(self, allow_mixed: Collection[str]) -> None:
        if isinstance(allow_mixed, str):
            raise not_names("AnnealedSVI", "allow_mixed", allow_mixed)
        self._allowed = frozenset(allow_mixed)
        self._seen: dict[str, list[tuple[str, str]]] = {}

    def see(self, name: str, kind: str | None, law: str) -> None:
        """Note a site; refuse a relaxed law beside a discrete one.

        Args:
            name: The site's name.
            kind: The sort of its law: relaxed, estimated, discrete or None.
            law: The name of its law.
        """
        if kind is None:
            return
        seen = self._seen.setdefault(name, [])
        seen.append((kind, law))
        if name not in self._allowed and len({kind == "relaxed" for kind, _ in seen}) > 1:
            raise mixed(name, model=law, guide=seen[0][1])

    def plain(self) -> list[str]:
        """The discrete sites that no guide draws with a gradient."""
        kinds = {name: {kind for kind, _ in seen} for name, seen in self._seen.items()}
        return sorted(name for name, found in kinds.items() if found == {"discrete"})

    def names(self) -> list[str]:
        """The sites that are discrete or relaxed."""
        return sorted(self._seen)

    def carrying(self) -> bool:
        """Whether a site's values carry a gradient."""
        kinds = {kind for seen in self._seen.values() for kind, _ in seen}
        return not kinds.isdisjoint({"relaxed", "estimated"})


# The messages.


def not_names(name: str, field: str, sites: object) -> ValueError:
    """One name in place of a list of names."""
    return ValueError(f"{name} got {field}={sites!r}; expected a list of names. Write [{sites!r}].")


def scanned(names: Sequence[str]) -> ValueError:
    """Estimated sites in a scan, under NumPyro's TraceGraph_ELBO."""
    return ValueError(
        f"AnnealedSVI got TraceGraph_ELBO and the sites {list(names)} with an estimator in a scan; "
        "expected another ELBO, since NumPyro adds a score-function gradient to the estimator's "
        "there. Take Trace_ELBO or TraceMeanField_ELBO."
    )


def mixed(name: str, model: str, guide: str, who: str = "AnnealedSVI") -> ValueError:
    """A site with a mass on one side and a density on the other."""
    if "Subset" in model + guide or "Permutation" in model + guide:
        return mixed_structured(name, model, guide)
    binary = "Bernoulli" in model + guide
    relaxed = "RelaxedBernoulli" if binary else "RelaxedOneHotCategorical"
    hard = "Bernoulli" if binary else "OneHotCategorical"
    return ValueError(
        f"{who} got the site '{name}', which the model draws from {model} and the guide from "
        f"{guide}; expected two relaxed laws or two discrete ones, since a density and a mass make "
        f"no bound. Write one of three: {relaxed} in both; {hard} in both, with an estimator in "
        f"the guide, {hard}(..., estimator=GumbelSoftmax(temperature)); or relax(model, "
        f"temperature), whose site is '{name.removesuffix('_relaxed')}_relaxed', with a guide of "
        f"it. To go on with the mixture, name the site: AnnealedSVI(..., allow_mixed=['{name}'])."
    )


def mixed_structured(site: str, model: str, guide: str) -> ValueError:
    """A site that is relaxed on one side and discrete on the other."""
    hard = "Subset" if "Subset" in model + guide else "Permutation"
    exact = f"{hard} in both, whose log_prob is exact; or " if hard == "Subset" else ""
    return ValueError(
        f"AnnealedSVI got the site '{site}', which the model draws from {model} and the guide from "
        f"{guide}; expected two relaxed laws or two discrete ones. Write {exact}Relaxed{hard}(...)"
        f".mask(False) in both, which counts as 0. To go on with the mixture, name the site: "
        f"allow_mixed=['{site}']."
    )
