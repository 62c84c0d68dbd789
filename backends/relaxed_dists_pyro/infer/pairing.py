"""The check that no site has a mass on one side and a density on the other."""

from collections.abc import Collection
from typing import Any, Self

from pyro.poutine.messenger import Messenger

from relaxed_dists._infer.pairing import Pairs

from ..distributions.sites import innermost, kind


class Pairing(Messenger):
    """Looks at the sites of the first run of guide and model within it, and at no others."""

    def __init__(self, allow_mixed: Collection[str]) -> None:
        super().__init__()
        self._pairs: Pairs | None = None
        self._allowed, self._done = allow_mixed, False
        self.carrying = False  # whether a site's values carry a gradient

    def __enter__(self) -> Self:
        self._pairs = None if self._done else Pairs(self._allowed)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self.carrying |= self._pairs is not None and self._pairs.carrying()
        self._done = self._done or error[0] is None
        super().__exit__(*error)

    def _pyro_post_sample(self, msg: Any) -> None:
        if self._pairs is not None and not msg["is_observed"]:
            law = msg["fn"]
            self._pairs.see(msg["name"], kind(law), type(innermost(law)).__name__)

    def names(self) -> list[str]:
        """The sites that are discrete or relaxed."""
        return [] if self._pairs is None else self._pairs.names()
