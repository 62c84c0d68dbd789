"""The exact evidence of a small discrete model, by NumPyro's enumeration."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from numpyro.handlers import seed, substitute, trace

from relaxed_dists import _errors
from relaxed_dists._infer import evidence as _evidence
from relaxed_dists._infer.svi import tolerant

from ..distributions import sites as _sites
from .arguments import check_arguments
from .discretize import discretize
from .evidence import fetched, with_arrays
from .svi import _unwrap


def exact_evidence(
    params: dict[str, Any], model: Callable[..., Any], *args: Any, **kwargs: Any
) -> float:
    r"""The log evidence of a discrete model, summed over all values of its latent sites.

    Use it to check bounds on small models. `discretize` makes the model discrete, and NumPyro
    enumerates it. So write the model as NumPyro's enumeration requires: values gain dimensions on
    the left, and plates contain the data and the latent sites (without ``to_event``). The
    enumeration needs funsor: ``pip install 'relaxed-dists[enumeration]'``.

    A mask at a latent site is ignored: all values of the site count with their probabilities. So
    the site adds nothing where the data that depend on it are masked too.

    Arrays may be sharded over devices and processes; each process gathers all of them. Inside
    ``jit``, ``vmap`` or ``shard_map`` the call raises a ValueError, since it returns a number.

    Args:
        params: The model's parameters, such as ``svi.get_params(state)``.
        model: A NumPyro model without continuous latent sites.
        args: The model's arguments.
        kwargs: The model's keyword arguments.

    Returns:
        The log evidence of all the data, in nats.

    Raises:
        ValueError: If a latent site can't be enumerated, or a site is scaled, as in a subsampled
            plate.
        ModuleNotFoundError: If funsor is not installed.

    Reference:
        Obermeyer et al., *Tensor Variable Elimination for Plated Factor Graphs* (2019).

    Example:
        >>> import numpyro
        >>> import numpyro.distributions as dist
        >>> from relaxed_dists.numpyro import Bernoulli
        >>> def model():
        ...     z = numpyro.sample("z", Bernoulli(probs=0.5))
        ...     numpyro.sample("x", Bernoulli(probs=0.2 + 0.6 * z), obs=1.0)
        >>> round(exact_evidence({}, model), 4)  # log 0.5
        -0.6931
    """
    try:
        from numpyro.contrib.funsor import config_enumerate, enum
        from numpyro.contrib.funsor.infer_util import log_density
    except ImportError as error:
        raise _errors.no_funsor_enumeration() from error
    check_arguments("exact_evidence(params, model, ...)", params=params, model=model)
    arrays, given = with_arrays("exact_evidence", args, kwargs, jnp.zeros(()), params)
    if "temperature" in kwargs:
        model = tolerant(model, _unwrap)
    plain = seed(substitute(discretize(model), params), 0)
    found = trace(plain).get_trace(*args, **kwargs)
    found = {name: site for name, site in found.items() if site["type"] == "sample"}
    depth = _evidence.check_enumerable(_sites, found)

    class Values(enum):
        """Sets the values of enumerated sites, in place of NumPyro's numbers 0, 1, 2 and so on."""

        def process_message(self, msg: dict[str, Any]) -> None:
            if msg["type"] == "sample" and not msg["is_observed"]:
                # With a mask, all K values would have the weight 1: the site would add log K.
                msg["fn"] = _sites.unmasked(msg["fn"])
            super().process_message(msg)
            if msg["type"] == "sample" and not msg["is_observed"] and msg.get("done"):
                support = msg["fn"].enumerate_support(expand=False)
                event = support.shape[support.ndim - msg["fn"].event_dim :]
                msg["value"] = support.reshape(support.shape[0], *event)[msg["value"]]

    def local(array: Any) -> Any:
        # funsor's einsum refuses arrays on the explicit axes of a mesh, JAX 0.12's default.
        spread = isinstance(array, jax.Array) and len(array.sharding.device_set) > 1
        return fetched("exact_evidence", array) if spread else array

    arrays, params = jax.tree.map(local, (arrays, params))

    @jax.jit
    def evidence(arrays: dict[int, jax.Array], params: dict[str, Any]) -> jax.Array:
        args, kwargs = given(arrays)
        inner = seed(substitute(discretize(model), params), 0)
        enumerated = Values(config_enumerate(inner), -1 - depth)
        return jnp.asarray(log_density(enumerated, args, kwargs, {})[0])

    return float(fetched("exact_evidence", evidence(arrays, params)))
