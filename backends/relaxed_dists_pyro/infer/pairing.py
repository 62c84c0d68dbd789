"""The check that no site is relaxed in the model and discrete in the guide, or vice versa."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from pyro.poutine.messenger import Messenger

from relaxed_dists._infer.pairing import Pairs

from ..distributions import sites

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11


class Pairing(Pairs, Messenger):
    """Notes each site's kind of distribution in the first ``with`` block that raises no error."""

    def __init__(self, allow_mixed: Collection[str]) -> None:
        super().__init__(sites, allow_mixed)
        self._done = False

    def __enter__(self) -> "Self":
        if not self._done:
            self._seen.clear()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self._done = self._done or error[0] is None
        super().__exit__(*error)

    def _pyro_post_sample(self, msg: Any) -> None:
        if not self._done and not msg["is_observed"]:
            self.note(msg["name"], msg["fn"])
