"""The check that no site is relaxed in the model and discrete in the guide, or vice versa."""

from collections.abc import Collection
from typing import Any

from numpyro.primitives import Messenger

from relaxed_dists._infer.pairing import Pairs

from ..distributions import sites


class Pairing(Pairs, Messenger):
    """Notes each site's kind of distribution while guide and model run in the ``with`` block."""

    def __init__(self, allow_mixed: Collection[str]) -> None:
        super().__init__(sites, allow_mixed)
        self.scanned: list[str] = []  # names of the sites with an estimator in a scan

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        """Note a latent site's kind; if a scan draws it with an estimator, note its name too."""
        if msg["type"] == "sample" and not msg["is_observed"]:
            kind = self.note(msg["name"], msg["fn"])
            if kind == "estimated" and "_control_flow_done" in msg:
                self.scanned.append(msg["name"])
