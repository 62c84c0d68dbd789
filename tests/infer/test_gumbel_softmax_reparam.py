"""A relaxed site made deterministic in its noise: the value, the noise's law, what takes it."""

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
    """The value of a law whose noise and logits, over its temperature, are u."""
    if "OneHot" in name:
        hard = np.eye(u.shape[-1])[u.argmax(-1)]
        soft = log_softmax(u, -1) if name.startswith("Exp") else softmax(u, -1)
    else:
        hard = (u > 0).astype(float)
        soft = u if name.startswith("Logit") else expit(u)
    return hard if name.endswith("StraightThrough") else soft


def reparametrised(backend: Backend, law: Any) -> Callable[[], Any]:
    """A model of one site x, drawn from its noise."""
    config = {"x": backend.names.GumbelSoftmaxReparam()}
    return backend.handlers.reparam(lambda: backend.ppl.sample("x", law), config=config)


@pytest.mark.parametrize("name", RELAXED)
def test_value_and_density(backend: Backend, name: str, seed: int) -> None:
    """The value is the paper's function of the noise, and the density the noise's, by SciPy."""
    rows = "OneHot" in name
    logits = LOGITS if rows else LOGITS[:, 0]
    law = getattr(backend.names, name)(backend.array(T), logits=backend.array(logits))
    program = reparametrised(backend, law.to_event(1))
    found = backend.language.trace(program, seed)
    noise = "x_gumbel" if rows else "x_logistic"
    assert kind(found[noise]) == "latent"
    assert found["x"]["type"] == "deterministic" or found["x"]["is_observed"]
    g = backend.numpy(found[noise]["value"])
    u = (logits + g) / (T[:, None] if rows else T)
    np.testing.assert_allclose(backend.numpy(found["x"]["value"]), view(name, u), rtol=1e-9)
    density = (stats.gumbel_r if rows else stats.logistic).logpdf(g).sum()
    given = {noise: found[noise]["value"]}
    np.testing.assert_allclose(backend.language.log_density(program, given), density, rtol=1e-9)


def test_gradient_of_a_hard_value(backend: Backend, seed: int) -> None:
    """That of the soft one: with x = softmax(u), the gradient of x_0 by u / t."""
    t = 0.5

    def first(logits: Any) -> Any:
        law = backend.names.RelaxedOneHotCategoricalStraightThrough(t, logits=logits)
        return backend.language.values(reparametrised(backend, law), seed)["x"][0]

    law = backend.names.RelaxedOneHotCategorical(t, logits=backend.array(LOGITS[0]))
    x = backend.numpy(backend.language.values(reparametrised(backend, law), seed)["x"])
    (gradient,) = backend.grad(first, backend.array(LOGITS[0]))
    np.testing.assert_allclose(gradient, x[0] * (np.eye(3)[0] - x) / t, rtol=1e-9)


def test_in_wrappers(backend: Backend) -> None:
    """The noise of an expanded and masked law has its shapes, and its mask."""
    law = backend.names.RelaxedOneHotCategorical(0.5, logits=backend.array(LOGITS[0]))
    mask = np.array([True, False])
    program = reparametrised(backend, law.expand((2,)).mask(backend.array(mask, "bool")))
    with backend.ppl.plate("rows", 2):
        found = backend.language.trace(program)
    site = found["x_gumbel"]
    assert (site["fn"].batch_shape, site["fn"].event_shape) == ((2,), (3,))
    g = backend.numpy(site["value"])
    expected = mask * stats.gumbel_r.logpdf(g).sum(-1)
    got = backend.numpy(site["fn"].log_prob(site["value"]))
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_masked_category_of_a_relaxed_model(backend: Backend) -> None:
    """On top of relax: the masked category's value is 0, its noise proper and finite."""
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
    """It is drawn as the library's own, in float32: not from a uniform, which ends at 16.6."""
    where = f"relaxed_dists_{backend.framework}.infer"
    module = importlib.import_module(f"{where}.gumbel_softmax_reparam")
    for cls, rows in ((module._Gumbel, True), (module._Logistic, False)):
        law = cls(backend.array(np.zeros(4), "float32"), 1.0)
        expected = backend.numpy(backend.noise(rows, seed, (1000, 4), "float32"))
        got = backend.numpy(backend.draw(law, seed, (1000,)))
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    "name",
    [name for name in RELAXED if not name.startswith(("Exp", "Logit"))],
)
def test_pyros_own_laws(name: str, seed: int) -> None:
    """They are taken as well, so that the import of Pyro's class can be exchanged for this one."""
    pytest.importorskip("pyro")
    import pyro.distributions as dist

    from harness import Torch

    backend, rows = Torch(), "OneHot" in name
    logits = LOGITS[0] if rows else LOGITS[:, 0]
    law = getattr(dist, name)(backend.array(0.5), logits=backend.array(logits)).to_event(1 - rows)
    found = backend.language.values(reparametrised(backend, law), seed)
    g = backend.numpy(found["x_gumbel" if rows else "x_logistic"])
    # Pyro normalises the logits.
    expected = view(name, (logits + g) / 0.5)
    np.testing.assert_allclose(backend.numpy(found["x"]), expected, rtol=1e-6)


@pytest.mark.parametrize("name", RELAXED)
def test_initial_value_in_pyro(name: str) -> None:
    """An initial value of the site becomes one of the noise, that gives it back."""
    pytest.importorskip("pyro")
    from pyro.infer.autoguide import AutoDelta, init_to_value

    from harness import Torch

    backend, rows = Torch(), "OneHot" in name
    u = np.array([0.2, -0.4, 0.9]) if rows else np.array(0.6)
    logits = LOGITS[0] if rows else LOGITS[0, 0]
    law = getattr(backend.names, name)(0.5, logits=backend.array(logits))
    program = reparametrised(backend, law)
    start = init_to_value(values={"x": backend.array(view(name, u))})
    guide = AutoDelta(program, init_loc_fn=start)
    guide()
    (g,) = (backend.numpy(x) for x in guide.median().values())
    np.testing.assert_allclose(view(name, (logits + g) / 0.5), view(name, u), rtol=1e-6)
