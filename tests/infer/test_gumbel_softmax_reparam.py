"""Relaxed sites as functions of their noise: values, densities, wrappers and initial values."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, log_softmax, softmax

from cases import RELAXED
from harness import Backend
from languages import kind

LOGITS, T = np.array([[0.3, -0.5, 1.0], [0.0, 2.0, -1.0]]), np.array([0.3, 1.5])


def view(name: str, u: np.ndarray) -> np.ndarray:
    """The value of a distribution where (logits + noise) / temperature is u."""
    if "OneHot" in name:
        hard = np.eye(u.shape[-1])[u.argmax(-1)]
        soft = log_softmax(u, -1) if name.startswith("Exp") else softmax(u, -1)
    else:
        hard = (u > 0).astype(float)
        soft = u if name.startswith("Logit") else expit(u)
    return hard if name.endswith("StraightThrough") else soft


def reparametrised(backend: Backend, distribution: Any) -> Callable[[], Any]:
    """A model of one site x, drawn from its noise."""
    config = {"x": backend.names.GumbelSoftmaxReparam()}
    return backend.handlers.reparam(lambda: backend.ppl.sample("x", distribution), config=config)


@pytest.mark.parametrize("name", RELAXED)
def test_value_and_density(backend: Backend, name: str, seed: int) -> None:
    """The value is the paper's function of the noise; the density is that of the noise."""
    one_hot = "OneHot" in name
    logits = LOGITS if one_hot else LOGITS[:, 0]
    distribution = getattr(backend.names, name)(backend.array(T), logits=backend.array(logits))
    program = reparametrised(backend, distribution.to_event(1))
    found = backend.language.trace(program, seed)
    noise = "x_gumbel" if one_hot else "x_logistic"
    assert kind(found[noise]) == "latent"
    assert found["x"]["type"] == "deterministic" or found["x"]["is_observed"]
    g = backend.numpy(found[noise]["value"])
    u = (logits + g) / (T[:, None] if one_hot else T)
    np.testing.assert_allclose(backend.numpy(found["x"]["value"]), view(name, u), rtol=1e-9)
    density = (stats.gumbel_r if one_hot else stats.logistic).logpdf(g).sum()
    given = {noise: found[noise]["value"]}
    np.testing.assert_allclose(backend.language.log_density(program, given), density, rtol=1e-9)


def test_gradient_of_a_hard_value(backend: Backend, seed: int) -> None:
    """The gradient equals that of the soft value x = softmax(u), of x_0 by u, over t."""
    t = 0.5

    def first(logits: Any) -> Any:
        distribution = backend.names.RelaxedOneHotCategoricalStraightThrough(t, logits=logits)
        return backend.language.values(reparametrised(backend, distribution), seed)["x"][0]

    distribution = backend.names.RelaxedOneHotCategorical(t, logits=backend.array(LOGITS[0]))
    x = backend.numpy(backend.language.values(reparametrised(backend, distribution), seed)["x"])
    (gradient,) = backend.grad(first, backend.array(LOGITS[0]))
    np.testing.assert_allclose(gradient, x[0] * (np.eye(3)[0] - x) / t, rtol=1e-9)


def test_in_wrappers(backend: Backend) -> None:
    """The noise has the shapes and the mask of an expanded and masked distribution."""
    distribution = backend.names.RelaxedOneHotCategorical(0.5, logits=backend.array(LOGITS[0]))
    mask = np.array([True, False])
    program = reparametrised(backend, distribution.expand((2,)).mask(backend.array(mask, "bool")))
    with backend.ppl.plate("rows", 2):
        found = backend.language.trace(program)
    site = found["x_gumbel"]
    assert (site["fn"].batch_shape, site["fn"].event_shape) == ((2,), (3,))
    g = backend.numpy(site["value"])
    expected = mask * stats.gumbel_r.logpdf(g).sum(-1)
    got = backend.numpy(site["fn"].log_prob(site["value"]))
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_masked_category_of_a_relaxed_model(backend: Backend) -> None:
    """On top of relax, a masked category has the value 0 and finite noise."""
    logits = backend.array([0.3, -np.inf, 1.0])
    names, h = backend.names, backend.handlers

    def model() -> Any:
        return backend.ppl.sample("z", names.OneHotCategorical(logits=logits))

    config = {"z_relaxed": names.GumbelSoftmaxReparam()}
    program = h.reparam(names.relax(model, 0.5), config=config)
    g = np.array([0.1, 2.0, -0.7])
    given = {"z_relaxed_gumbel": backend.array(g)}
    z = backend.language.values(h.condition(program, data=given))["z"]
    expected = softmax(np.array([0.3 + 0.1, -np.inf, 1.0 - 0.7]) / 0.5)
    np.testing.assert_allclose(backend.numpy(z), expected, rtol=1e-9)
    density = backend.language.log_density(program, given)
    np.testing.assert_allclose(density, stats.gumbel_r.logpdf(g).sum(), rtol=1e-9)


def test_the_noise_is_exact(backend: Backend, seed: int) -> None:
    """The noise equals the library's own in float32; from a uniform it would end at 16.6."""
    where = f"relaxed_dists_{backend.framework}.infer"
    module = importlib.import_module(f"{where}.gumbel_softmax_reparam")
    for cls, one_hot in ((module._Gumbel, True), (module._Logistic, False)):
        distribution = cls(backend.array(np.zeros(4), "float32"), 1.0)
        expected = backend.numpy(backend.noise(one_hot, seed, (1000, 4), "float32"))
        got = backend.numpy(backend.draw(distribution, seed, (1000,)))
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    "name",
    [name for name in RELAXED if not name.startswith(("Exp", "Logit"))],
)
def test_pyros_own_distributions(name: str, seed: int) -> None:
    """Pyro's own distributions work too, so that this class can replace Pyro's."""
    pytest.importorskip("pyro")
    import pyro.distributions as dist

    from harness import Torch

    backend, one_hot = Torch(), "OneHot" in name
    logits = LOGITS[0] if one_hot else LOGITS[:, 0]
    distribution = getattr(dist, name)(backend.array(0.5), logits=backend.array(logits)).to_event(
        1 - one_hot
    )
    found = backend.language.values(reparametrised(backend, distribution), seed)
    g = backend.numpy(found["x_gumbel" if one_hot else "x_logistic"])
    # Pyro normalises the logits.
    expected = view(name, (logits + g) / 0.5)
    np.testing.assert_allclose(backend.numpy(found["x"]), expected, rtol=1e-6)


@pytest.mark.parametrize("name", RELAXED)
def test_initial_value_in_pyro(name: str) -> None:
    """An initial value of the site becomes an initial value of the noise that has this value."""
    pytest.importorskip("pyro")
    from pyro.infer.autoguide import AutoDelta, init_to_value

    from harness import Torch

    backend, one_hot = Torch(), "OneHot" in name
    u = np.array([0.2, -0.4, 0.9]) if one_hot else np.array(0.6)
    logits = LOGITS[0] if one_hot else LOGITS[0, 0]
    distribution = getattr(backend.names, name)(0.5, logits=backend.array(logits))
    program = reparametrised(backend, distribution)
    start = init_to_value(values={"x": backend.array(view(name, u))})
    guide = AutoDelta(program, init_loc_fn=start)
    guide()
    (g,) = (backend.numpy(x) for x in guide.median().values())
    np.testing.assert_allclose(view(name, (logits + g) / 0.5), view(name, u), rtol=1e-6)
