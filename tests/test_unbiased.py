"""Losses with unbiased gradients: their means by enumeration, and what they are made of."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness import Backend
from models import Pp
from unbiased import PROBLEMS, Params

COPIES = 20_000
FREE = {"w": np.array([0.5, -0.7, 0.3])}  # of the surrogate


def surrogate(backend: Backend, name: str) -> Callable[..., Any]:
    """A control variate that is nonlinear in the values, far from a good one."""
    tanh = Pp(backend).xp.tanh

    def r(w: Any, values: Any) -> Any:
        z, b = values["z"], values["b"]
        first, second = (b, b) if name == "plates" else (b[..., 1], b[..., 0])
        return tanh(w[0] * z[..., 0] * 2 + w[1] * first) + w[2] * second

    if backend.framework == "numpyro":
        return lambda params, values: r(params["w"], values)
    import pyro

    return lambda values: r(pyro.param("w"), values)


def losses(backend: Backend, name: str) -> dict[str, Any]:
    """By their names in tests."""
    ours, r = backend.names, surrogate(backend, name)
    return {
        "leave-one-out": ours.LeaveOneOut_ELBO(2, vectorize_particles=name == "plates"),
        "REBAR": ours.REBAR_ELBO(),
        "REBAR of two": ours.REBAR_ELBO(2, eta=0.5, vectorize_particles=name == "plates"),
        "RELAX": ours.RELAX_ELBO(r),
        "RELAX alone": ours.RELAX_ELBO(r, eta=0),
    }


def worst(found: Params, exact: Params) -> float:
    """The largest difference from the exact gradient, in standard errors."""
    errors = [
        abs(x.mean(0) - exact[k]) / (x.std(0) / len(x) ** 0.5 + 1e-12) for k, x in found.items()
    ]
    return float(max(e.max() for e in errors))


def one(backend: Backend, name: str, loss: Any, seed: int) -> Params:
    """The estimates of a loss, with the surrogate's parameters if it has any."""
    more = [FREE] if getattr(loss, "surrogate", None) else []
    return PROBLEMS[name].estimates(backend, loss, COPIES, seed, *more)[0][0]


@pytest.mark.parametrize(
    "label", ["leave-one-out", "REBAR", "REBAR of two", "RELAX", "RELAX alone"]
)
@pytest.mark.parametrize("name", PROBLEMS)
def test_unbiased(backend: Backend, name: str, label: str, seed: int) -> None:
    """The mean over 20,000 copies is the gradient of the exact ELBO, by all parameters.

    Of the guide and the model, with plates, scales, masks, several sites and a continuous one, each
    depending on the one before. Fewer than one run in 10,000 of all these would fail; a bias of 4 %
    of the gradient's norm in any parameter fails.
    """
    found = one(backend, name, losses(backend, name)[label], seed)
    assert worst(found, PROBLEMS[name].exact()) < 5
