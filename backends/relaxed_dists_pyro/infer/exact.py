"""The exact evidence of a small discrete model, by Pyro's enumeration."""

from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import prune_subsample_sites

from relaxed_dists._infer import evidence
from relaxed_dists._infer.svi import tolerant

from ..distributions import sites as _sites
from .discretize import discretize
from .paths import unchanged_buffers
from .svi import _unwrap


class _Unmasked(Messenger):
    """Removes masks of latent distributions. Pyro's enumeration itself ignores poutine.mask."""

    def _pyro_sample(self, msg: Any) -> None:
        if not msg["is_observed"]:
            msg["fn"] = _sites.unmasked(msg["fn"])


@torch.no_grad()
@unchanged_buffers()
def exact_evidence(model: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
    r"""The log evidence of a discrete model, summed over all values of its latent sites.

    Use it to check bounds on small models. `discretize` makes the model discrete, and Pyro
    enumerates it. So write the model as Pyro's enumeration requires: values gain dimensions on the
    left, and plates contain the data and the latent sites (without ``to_event``).

    A mask at a latent site is ignored: all values of the site count with their probabilities. So
    the site adds nothing where the data that depend on it are masked too.

    Buffers of modules, such as the running means of a BatchNorm, are restored at the end.

    Args:
        model: A Pyro model without continuous latent sites.
        args: The model's arguments.
        kwargs: The model's keyword arguments.

    Returns:
        The log evidence of all the data, in nats.

    Raises:
        ValueError: If a latent site can't be enumerated, or a site is scaled, as in a subsampled
            plate.

    Reference:
        Obermeyer et al., *Tensor Variable Elimination for Plated Factor Graphs* (2019).

    Example:
        >>> import pyro
        >>> import pyro.distributions as dist
        >>> import torch
        >>> from relaxed_dists.pyro import Bernoulli
        >>> def model():
        ...     z = pyro.sample("z", Bernoulli(probs=torch.tensor(0.5)))
        ...     pyro.sample("x", Bernoulli(probs=0.2 + 0.6 * z), obs=torch.tensor(1.0))
        >>> round(exact_evidence(model), 4)  # log 0.5
        -0.6931
    """
    if "temperature" in kwargs:
        model = tolerant(model, _unwrap)
    model = _Unmasked()(discretize(model))
    with poutine.block():
        trace = prune_subsample_sites(poutine.trace(model).get_trace(*args, **kwargs))
    found = {name: site for name, site in trace.nodes.items() if site["type"] == "sample"}
    depth = evidence.check_enumerable(_sites, found)
    elbo = TraceEnum_ELBO(max_plate_nesting=depth, strict_enumeration_warning=False)
    # Pyro checks that all sites fill their plates; those that a reparametrization makes do not.
    # expand=True would make them so, but in pyro.markov it multiplies the values with each step.
    enumerated = config_enumerate(poutine.broadcast(model), expand=False)
    with poutine.block():
        return -float(elbo.loss(enumerated, evidence.no_guide, *args, **kwargs))
