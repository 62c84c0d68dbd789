"""Errors of relax, which say what was got, what was expected and what to do."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness import Backend, Torch

CORNER = np.eye(3)[0]


def model_of(backend: Backend, distribution: Any, observed: Any = None) -> Callable[[], None]:
    """A model with a site z of a given distribution, and a Bernoulli site."""

    def model() -> None:
        backend.ppl.sample("z", distribution, obs=observed)
        backend.ppl.sample("b", backend.names.Bernoulli(logits=backend.array(0.4)))

    return model


def one_hot(backend: Backend) -> Callable[[], Any]:
    """A model with a one-hot site."""
    return model_of(backend, backend.names.OneHotCategorical(logits=backend.array(np.zeros(3))))


def refused(backend: Backend, program: Any, *words: str, error: type = ValueError) -> None:
    """Assert that a run of the program fails with a message that has all the words."""
    with pytest.raises(error) as caught:
        backend.language.trace(program)
    text = str(caught.value)
    for word in ("expected", *words):
        assert word in text
    assert re.search(r"\. [A-Z][^.]+", text)  # what to do


def test_distributions_that_cannot_be_relaxed(backend: Backend) -> None:
    """Categorical and other discrete distributions raise, by relax and by RelaxedReparam."""
    dist, names = backend.dist, backend.names
    zeros = backend.array(np.zeros(3))
    categorical = model_of(backend, dist.Categorical(logits=zeros).expand((2,)).to_event(1))
    poisson = model_of(backend, dist.Poisson(backend.array(1.0)))
    reparam, config = backend.handlers.reparam, {"z": names.RelaxedReparam(0.5)}
    for way in (
        lambda model: names.relax(model, 0.5),
        lambda model: names.relax(model, 0.5, sites=["z"]),
        lambda model: reparam(model, config=config),
    ):
        refused(backend, way(categorical), "'z'", "Categorical", "z @ table", "sites=")
        refused(backend, way(poisson), "'z'", "Poisson", "sites=")
    assert "z" in backend.language.values(names.relax(poisson, 0.5, sites=["b"]))


def test_names_of_sites(backend: Backend) -> None:
    """Names of missing, observed or continuous sites raise; so does a name that isn't in a list."""
    relax, model = backend.names.relax, one_hot(backend)
    refused(backend, relax(model, 0.5, sites=["z", "q"]), "['q']", "never", "['b', 'z']")
    observed = backend.handlers.condition(model, data={"z": backend.array(CORNER)})
    refused(backend, relax(observed, 0.5, sites=["z"]), "'z'", "observed")
    normal = model_of(backend, backend.dist.Normal(backend.array(0.0), backend.array(1.0)))
    refused(backend, relax(normal, 0.5, sites=["z"]), "'z'", "Normal")
    with pytest.raises(ValueError, match=r"sites='z'; expected a list of names. Write \['z'\]"):
        relax(model, 0.5, sites="z")


def test_temperatures(backend: Backend) -> None:
    """Temperatures out of range raise, and so do shapes that would add dimensions to the site."""
    relax, model = backend.names.relax, one_hot(backend)
    refused(backend, relax(model), "temperature=None")
    refused(backend, relax(model, 0.0), "temperature=0.0")
    refused(backend, relax(model, backend.array(np.ones(3))), "(3,)", "temperature")
    two = backend.array([0.5, -1.0])
    vector = model_of(backend, backend.names.Bernoulli(logits=two))
    refused(backend, relax(vector, backend.array(np.ones((2, 2)))), "'z'", "(2, 2)")


def outside(backend: Backend) -> dict[str, Callable[[Any], Any]]:
    """Handlers outside the relaxed model that give a value to the site's own name."""
    h, corner = backend.handlers, {"z": backend.array(CORNER)}
    ways: dict[str, Callable[[Any], Any]] = {"condition": lambda f: h.condition(f, data=corner)}
    if isinstance(backend, Torch):
        drawn = h.trace(one_hot(backend)).get_trace()
        from pyro.infer.autoguide.initialization import InitMessenger, init_to_value

        given = h.trace(h.condition(one_hot(backend), data=corner)).get_trace()
        ways["init_to_value"] = InitMessenger(init_to_value(values=corner))
        return {
            **ways,
            "replay": lambda f: h.replay(f, trace=drawn),
            "condition (trace)": lambda f: h.condition(f, data=given),
        }
    from jax import random
    from numpyro.infer import Predictive, init_to_value

    drawn = h.trace(h.seed(one_hot(backend), rng_seed=0)).get_trace()
    start = init_to_value(values=corner)
    several = {"z": backend.array(np.eye(3))}
    return {
        **ways,
        "replay": lambda f: h.replay(f, trace=drawn),
        "do": lambda f: h.do(f, data=corner),
        "substitute": lambda f: h.substitute(f, data=corner),
        "init_to_value": lambda f: h.substitute(f, substitute_fn=start),
        "condition (fn)": lambda f: h.condition(
            f, condition_fn=lambda site: corner.get(site["name"])
        ),
        "Predictive": lambda f: lambda: Predictive(f, several)(random.key(0)),
    }


def test_a_value_for_the_sites_own_name_outside(backend: Backend) -> None:
    """A value for the site's own name raises, since it would not change the relaxed site."""
    names, h, model = backend.names, backend.handlers, one_hot(backend)
    reparam = h.reparam(model, config={"z": names.RelaxedReparam(0.5)})
    for way, given in outside(backend).items():
        name = way.split(" ")[0]
        refused(backend, given(names.relax(model, 0.5)), name, "'z'", "'z_relaxed'")
        if not (name == "init_to_value" and isinstance(backend, Torch)):  # Pyro's allows this
            refused(backend, given(reparam), name, "'z'", "'z_relaxed'")


def test_values_that_are_no_contradiction(backend: Backend) -> None:
    """Values don't raise if a block hides the site, or the relaxed site also has a value."""
    h, relaxed = backend.handlers, backend.names.relax(one_hot(backend), 0.5)
    corner, y = backend.array(CORNER), backend.array(np.log([0.5, 0.25, 0.25]))
    hidden = h.condition(h.block(relaxed, hide=["z"]), data={"z": corner})
    assert "z_relaxed" in backend.language.values(hidden)
    both = h.condition(relaxed, data={"z": corner, "z_relaxed": y})
    np.testing.assert_allclose(
        backend.numpy(backend.language.values(both)["z_relaxed"]), backend.numpy(y)
    )
    inside = backend.names.relax(h.do(one_hot(backend), data={"z": corner}), 0.5)
    assert "z_relaxed" in backend.language.values(inside)


def test_gumbel_softmax_reparam(backend: Backend) -> None:
    """GumbelSoftmaxReparam raises for sites that are observed or not relaxed."""
    names, h = backend.names, backend.handlers
    config = {"z": names.GumbelSoftmaxReparam()}
    refused(backend, h.reparam(one_hot(backend), config=config), "'z'", "OneHotCategorical")
    distribution = names.RelaxedOneHotCategorical(0.5, logits=backend.array(np.zeros(3)))
    observed = model_of(backend, distribution, backend.array([0.5, 0.25, 0.25]))
    program = h.reparam(observed, config=config)
    refused(backend, program, "'z'", "observed", error=NotImplementedError)


def test_control_flow() -> None:
    """No handler outside changes sites in NumPyro's scan and cond; relax works inside."""
    pytest.importorskip("numpyro")
    import jax.numpy as jnp
    import numpyro
    from numpyro.contrib.control_flow import cond, scan

    from harness import Jax
    from relaxed_dists.numpyro import OneHotCategorical, relax

    def draw(*_: Any) -> Any:
        return numpyro.sample("z", OneHotCategorical(logits=jnp.zeros(3)))

    def body(carry: Any, x: Any) -> Any:
        return carry, draw()

    def looped(body: Any) -> Callable[[], Any]:
        return lambda: scan(body, 0.0, None, length=3)

    backend = Jax()
    refused(backend, relax(looped(body), 0.5), "'z'", "scan")
    refused(backend, relax(lambda: cond(True, draw, draw, None), 0.5), "'z'", "cond")
    assert backend.language.values(looped(relax(body, 0.5)))["z_relaxed"].shape == (3, 3)


def test_initial_values_of_pyros_own_reparam() -> None:
    """Pyro's reparam needs an initial discrete value, by init_to_value; relax needs none."""
    pytest.importorskip("pyro")
    import torch
    from pyro import poutine
    from pyro.infer.autoguide import AutoDelta, init_to_feasible, init_to_value

    from harness import Torch
    from relaxed_dists.pyro import RelaxedReparam, relax

    backend = Torch()
    config = {"z": RelaxedReparam(0.5), "b": RelaxedReparam(0.5)}
    reparam = poutine.reparam(one_hot(backend), config=config)
    start = {"z": torch.tensor([0.0, 1.0, 0.0]), "b": torch.tensor(1.0)}
    guide = AutoDelta(reparam, init_loc_fn=init_to_value(values=start))
    guide()
    median = guide.median()
    assert median["z_relaxed"].argmax() == 1
    assert median["z_relaxed"].isfinite().all()
    assert 0 < median["b_relaxed"] < 10
    guide = AutoDelta(reparam, init_loc_fn=init_to_feasible)
    with pytest.raises(ValueError, match="discrete sample site"):
        guide()
    AutoDelta(relax(one_hot(backend), 0.5), init_loc_fn=init_to_feasible)()
