"""Trainings that went wrong without a word: temperatures, scalar sites, evaluation."""

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from harness import Backend
from models import Pp
from relaxed_dists import _estimators, _formulas
from relaxed_dists._estimators import (
    DecoupledGumbelSoftmax,
    GappedStraightThrough,
    GumbelRao,
    GumbelSoftmax,
    ReinMax,
    ReinMaxRao,
)

HARD = [GumbelSoftmax, GumbelRao, GappedStraightThrough, ReinMax, ReinMaxRao]
COEFFICIENTS = np.array([1.0, 2.0, 5.0])


def _drawn(backend: Backend, binary: bool, estimator: Any, logits: Any) -> Any:
    """A function of a draw that is neither linear nor the same for all categories."""
    names = backend.names
    law = (names.Bernoulli if binary else names.OneHotCategorical)(
        logits=logits, estimator=estimator
    )
    z = backend.draw(law, 0)
    total = z + 0.5 if binary else (z * backend.array(COEFFICIENTS)).sum(-1)
    return (total**2).sum()


class Attached(GumbelRao):
    """A wrong one, whose hard value hands its temperature the relaxed sample's gradient."""

    def one_hot(self, ops: Any, logits: Any, gumbel: Any, more: Any = None) -> Any:
        """The gradient of the soft value, that by its temperature among it."""
        soft = _estimators._relaxed(ops, logits, self.temperature, gumbel)
        return _formulas.straight_through(ops, _formulas.hardest(ops, logits, gumbel), soft)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("estimator", [*HARD, Attached])
def test_t4_a_hard_value_gives_its_temperature_no_gradient(
    backend: Backend, estimator: Any, binary: bool, seed: int
) -> None:
    """Its distribution does not depend on it: the gradient is exactly 0, and the mixed second one.

    The gradient by the logits stays. The wrong version fails.
    """
    rng = np.random.default_rng(seed)
    logits = backend.array(rng.normal(size=(50,) if binary else (50, 3)))
    t = backend.array(rng.uniform(1, 2, 50))

    def f(logits: Any, t: Any) -> Any:
        return _drawn(backend, binary, estimator(t), logits) + (0.0 * t).sum()

    by_logits, by_t = backend.grad(f, logits, t)
    assert abs(by_logits).max() > 0.1
    assert (by_t == 0).all() == (estimator is not Attached)


# torch's forward mode compiles its formulas by torch.jit.script, of which it warns itself.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("estimator", HARD)
def test_t4_nor_a_second_derivative(backend: Backend, estimator: Any, seed: int) -> None:
    """The gradient by the logits, squared, has none by the temperature, whichever way it is run."""
    logits = backend.array(np.random.default_rng(seed).normal(size=(50, 3)))
    t = backend.array(np.full(50, 1.3))

    def f(logits: Any, t: Any) -> Any:
        return _drawn(backend, False, estimator(t), logits)

    if backend.framework == "pyro":
        import torch

        forward = torch.func.jvp(lambda t: f(logits, t), (t,), (torch.ones_like(t),))[1]
        second = torch.func.grad(lambda t: (torch.func.grad(f)(logits, t) ** 2).sum())(t)
    else:
        import jax

        forward = jax.jvp(lambda t: f(logits, t), (t,), (1.0 + 0.0 * t,))[1]
        second = jax.jit(jax.grad(lambda t: (jax.grad(f)(logits, t) ** 2).sum()))(t)
    assert (backend.numpy(forward) == 0).all()
    assert (backend.numpy(second) == 0).all()


@pytest.mark.parametrize("binary", [False, True])
def test_t4_a_soft_value_keeps_it(backend: Backend, binary: bool, seed: int) -> None:
    """Its value depends on the temperature: finite differences of the value, in float64.

    That of the decoupled one by the forward temperature, and none by the backward one.
    """
    rng = np.random.default_rng(seed)
    logits = backend.array(rng.normal(size=(50,) if binary else (50, 3)))
    t, h = backend.array(0.6), 1e-6

    def soft(t: Any) -> Any:
        return _drawn(backend, binary, GumbelSoftmax(t, hard=False), logits)

    expected = backend.numpy(soft(t + h) - soft(t - h)) / (2 * h)
    assert abs(expected) > 1
    assert backend.grad(soft, t)[0] == pytest.approx(expected, rel=1e-6)

    def decoupled(forward: Any, backward: Any) -> Any:
        estimator = DecoupledGumbelSoftmax(forward, backward)
        return _drawn(backend, binary, estimator, logits) + 0.0 * backward

    forward, backward = backend.grad(decoupled, t, backend.array(1.1))
    assert forward == pytest.approx(expected, rel=1e-6)
    assert backward == 0


def test_t4_functional(backend: Backend) -> None:
    """gumbel_softmax does as its estimator."""
    logits, t = backend.array(np.zeros((50, 3))), backend.array(0.5)
    how: Any = {}
    if backend.framework == "numpyro":
        import jax

        how = {"key": jax.random.key(0)}
    for hard in (True, False):

        def f(t: Any, hard: bool = hard) -> Any:
            z = backend.names.gumbel_softmax(logits, t, hard, **how)
            return ((z * backend.array(COEFFICIENTS)).sum(-1) ** 2).sum() + 0.0 * t

        assert (backend.grad(f, t)[0] == 0) == hard


X, MEANS = np.array([-2.0, 0.1, 1.7]), np.array([-2.0, 0.0, 2.0])


def _learned_pyro(estimator: Any, optim: str) -> tuple[float, float]:
    import pyro
    import torch
    from pyro.distributions import constraints

    from relaxed_dists.pyro import OneHotCategorical

    x, means = (torch.tensor(a, dtype=torch.float32) for a in (X, MEANS))

    def model() -> None:
        with pyro.plate("data", 3):
            z = pyro.sample("z", OneHotCategorical(probs=torch.ones(3)))
            pyro.sample("x", pyro.distributions.Normal(z @ means, 0.7), obs=x)

    def guide() -> None:
        t = pyro.param("t", torch.tensor(1.5), constraint=constraints.positive)
        logits = pyro.param("logits", torch.zeros(3, 3))
        with pyro.plate("data", 3):
            pyro.sample("z", OneHotCategorical(logits=logits, estimator=estimator(t)))

    adam = getattr(pyro.optim, optim)({"lr": 0.05})
    svi = pyro.infer.SVI(model, guide, adam, pyro.infer.TraceMeanField_ELBO())
    for _ in range(40):
        svi.step()
    return pyro.param("t").item(), pyro.param("logits").detach().abs().max().item()


def _learned_numpyro(estimator: Any, optim: str) -> tuple[float, float]:
    import jax
    import jax.numpy as jnp
    import numpyro
    from numpyro.distributions import constraints
    from numpyro.infer import SVI, TraceMeanField_ELBO

    from relaxed_dists.numpyro import OneHotCategorical

    def model() -> None:
        with numpyro.plate("data", 3):
            z = numpyro.sample("z", OneHotCategorical(probs=jnp.ones(3)))
            numpyro.sample("x", numpyro.distributions.Normal(z @ jnp.array(MEANS), 0.7), obs=X)

    def guide() -> None:
        t = numpyro.param("t", 1.5, constraint=constraints.positive)
        logits = numpyro.param("logits", jnp.zeros((3, 3)))
        with numpyro.plate("data", 3):
            numpyro.sample("z", OneHotCategorical(logits=logits, estimator=estimator(t)))

    svi = SVI(model, guide, getattr(numpyro.optim, optim)(0.05), TraceMeanField_ELBO())
    params = svi.run(jax.random.key(0), 40, progress_bar=False).params
    return float(params["t"]), float(abs(params["logits"]).max())


@pytest.mark.parametrize("optim", ["Adam", "ClippedAdam"])
@pytest.mark.filterwarnings("ignore:.*does not support models with discrete latent:UserWarning")
def test_t4_a_learned_temperature_stays(backend: Backend, optim: str) -> None:
    """Where it is a parameter, SVI trains the rest; else Adam moves it at every step."""
    learned = {"pyro": _learned_pyro, "numpyro": _learned_numpyro}[backend.framework]
    for estimator in (GumbelSoftmax, GumbelRao) if optim == "Adam" else (ReinMax,):
        t, logits = learned(estimator, optim)
        assert t == pytest.approx(1.5, abs=1e-6)
        assert logits > 0.5


START, OFF = 0.3, np.array([0.25, 0.35, 0.45])


def _scalar_sites(backend: Backend, loss: Any, plate: bool, runs: int, seed: int) -> np.ndarray:
    """Estimates of the gradients by the logits of three scalar sites, with Pyro in its own loop.

    With ``plate`` each is in a vectorised plate of one, where its batch shape is (1,).
    """
    pp = Pp(backend)
    loop = pp.ppl.plate("loop", 3) if pp.framework == "pyro" else range(3)
    around = (lambda i: pp.ppl.plate(f"one{i}", 1)) if plate else lambda i: nullcontext()

    def model() -> None:
        for i in loop:
            with around(i):
                z = pp.ppl.sample(f"z{i}", pp.ours.Bernoulli(probs=pp.array(0.5)))
                pp.ppl.factor(f"cost{i}", -2 * (z - OFF[i]) ** 2)

    def guide() -> None:
        for i in loop:
            logit = pp.ppl.param(f"logit{i}", pp.array(START))
            with around(i):
                estimator = pp.ours.GumbelSoftmax(0.5)
                pp.ppl.sample(f"z{i}", pp.ours.Bernoulli(logits=logit, estimator=estimator))

    names = [f"logit{i}" for i in range(3)]
    if pp.framework == "pyro":
        import pyro

        found = []
        for run in range(runs):
            pyro.clear_param_store()
            pyro.set_rng_seed(seed + run)
            loss.loss_and_grads(model, guide)
            found.append([pyro.param(name).grad.item() for name in names])
        return np.array(found)
    import jax

    def of(params: Any, key: Any) -> Any:
        return loss.loss(key, params | {"w": pp.array(0.3)}, model, guide)

    keys = jax.random.split(jax.random.key(seed), 600)[:runs]
    params = dict.fromkeys(names, pp.array(START))
    slopes = jax.jit(jax.vmap(jax.grad(of), (None, 0)))(params, keys)
    return np.stack([backend.numpy(slopes[name]) for name in names], -1)


@pytest.mark.parametrize("name", ["REBAR_ELBO", "RELAX_ELBO"])
def test_t5_scalar_binary_sites(backend: Backend, name: str, seed: int) -> None:
    """The mean estimate is the exact gradient, from the two values of each site.

    The false-alarm rate is 1e-6 for each site. An error of 5 standard errors is seen: 0.15 of 600
    estimates in NumPyro, 0.34 of 120 in Pyro. And each estimate is what a plate of one gives.
    """
    if backend.framework == "pyro":
        import pyro

        surrogate: Any = lambda values: values["z1"] * pyro.param("w", backend.array(0.3))  # noqa: E731
    else:
        surrogate = lambda params, values: values["z1"] * params["w"]  # noqa: E731
    ours = backend.names
    loss = ours.REBAR_ELBO() if name == "REBAR_ELBO" else ours.RELAX_ELBO(surrogate)
    runs = 120 if backend.framework == "pyro" else 600
    found = _scalar_sites(backend, loss, False, runs, seed)
    p = expit(START)
    gain = -2 * (1 - OFF) ** 2 + 2 * OFF**2 - START  # f(1) - f(0)
    error = found.std(0) / runs**0.5
    assert (abs(found.mean(0) + p * (1 - p) * gain) < 5 * error).all()
    assert (error < 0.75 / runs**0.5).all()
    again = _scalar_sites(backend, loss, True, 10, seed)
    np.testing.assert_allclose(again, found[:10], atol=1e-9)
