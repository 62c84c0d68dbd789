"""What is known of the ELBO that asks for a density."""

import sys
from typing import Any


def guide_of_latent(elbo: type) -> Any:
    """What the guide draws a latent site from while an ELBO scores the site; None elsewhere.

    The frameworks do not tell a distribution whose value it scores, and numbers alone do not say
    whether they were drawn or given. So this reads it off the calls that are under way, which is
    slow: ask only for a value that has lost its sample.

    Args:
        elbo: The class of the framework's ELBOs.
    """
    site: Any = None
    guide: Any = None
    frame = sys._getframe(1)
    while frame is not None and not isinstance(frame.f_locals.get("self"), elbo):
        found = frame.f_locals.get("site")
        if site is None and isinstance(found, dict) and "is_observed" in found:
            site = found
        guide = frame.f_locals.get("guide_trace") if guide is None else guide
        frame = frame.f_back  # type: ignore[assignment]
    if site is None or frame is None or site["is_observed"]:
        return None
    guide = frame.f_locals.get("guide_trace") if guide is None else guide
    sites = getattr(guide, "nodes", guide) or {}
    return sites[site["name"]]["fn"] if site["name"] in sites else site["fn"]
