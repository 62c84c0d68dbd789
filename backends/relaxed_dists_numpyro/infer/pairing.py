"""The check that no site has a mass on one side and a density on the other."""

from collections.abc import Collection
from typing import Any

from numpyro.primitives import Messenger

from relaxed_dists._infer.pairing import Pairs

from ..distributions.sites import innermost, kind


class Pairing(Messenger):
    """Looks at the sites of guide and model that are run within it."""

    def __init__(self, allow_mixed: Collection[str]) -> None:
        super().__init__()
        self._pairs = Pairs(allow_mixed)
        self.scanned: list[str] = []  # the estimated sites that came out of a scan

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        """Note a latent site."""
        if msg["type"] == "sample" and not msg["is_observed"]:
            law = msg["fn"]
            sort = kind(law)
            self._pairs.see(msg["name"], sort, type(innermost(law)).__name__)
            if sort == "estimated" and "_control_flow_done" in msg:
                self.scanned.append(msg["name"])

    def plain(self) -> list[str]:
        """The discrete sites that the guide draws without a gradient.

        NumPyro itself warns of every discrete site, the prior of an estimated one among them.
        """
        return self._pairs.plain()

    def names(self) -> list[str]:
        """The sites that are discrete or relaxed."""
        return self._pairs.names()

    def carrying(self) -> bool:
        """Whether a site's values carry a gradient."""
        return self._pairs.carrying()
