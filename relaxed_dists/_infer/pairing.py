"""Which laws model and guide draw a site from; what both backends share."""

from collections.abc import Collection

from relaxed_dists import _errors_evidence as _errors
from relaxed_dists._errors_inference import not_names


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
            raise _errors.mixed(name, model=law, guide=seen[0][1])

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
