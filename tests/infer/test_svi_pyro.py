"""AnnealedSVI in Pyro, and SVI with relaxed sites on posteriors known by enumeration."""

# ruff: noqa: E402 - the imports are below the skip for a missing framework

import copy
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pyro = pytest.importorskip("pyro")
torch = pytest.importorskip("torch")

import pyro.distributions as dist
from pyro import poutine
from pyro.infer import SVI, JitTrace_ELBO, Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroParam

from numpy_ops import binary_concrete_density, concrete_density
from relaxed_dists import pyro as relaxed
from relaxed_dists.pyro import (
    AnnealedSVI,
    Bernoulli,
    GumbelSoftmax,
    OneHotCategorical,
    RelaxedOneHotCategorical,
    RelaxedOneHotCategoricalStraightThrough,
    StraightThrough,
)
from relaxed_dists.schedules import constant, cosine, exponential, linear

# Models of a one-hot and a binary z, and an observation x: the likelihood of each value of z.
PRIOR = np.array([0.5, 0.3, 0.2])
LIKELIHOOD = np.exp(-0.5 * (1.5 - np.array([-1.0, 0.0, 2.0])) ** 2)
POSTERIOR = PRIOR * LIKELIHOOD / (PRIOR * LIKELIHOOD).sum()
PRIOR_OF_ONE, LIKELIHOOD_OF_ONE = 0.3, np.array([0.2, 1.0])  # of z = 0 and z = 1
POSTERIOR_OF_ONE = 0.3 * 1.0 / (0.3 * 1.0 + 0.7 * 0.2)


@pytest.fixture(autouse=True)
def _fresh(seed: int) -> Iterator[None]:
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    yield
    pyro.clear_param_store()


def adam(lr: float = 0.1) -> Any:
    """Pyro's Adam."""
    return pyro.optim.Adam({"lr": lr})


# Tests of the temperatures that model and guide get.


def latent() -> None:
    """A model without a temperature argument."""
    pyro.sample("x", dist.Normal(0.0, 1.0))


class Recorder:
    """Functions of several kinds that note the temperature of each call."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def note(self, temperature: Any) -> None:
        """Note the temperature, and sample with a parameter to fit."""
        self.seen.append(float(temperature))
        pyro.sample("x", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))

    def named(self, temperature: Any) -> None:
        """A function with an argument named temperature."""
        self.note(temperature)

    def keywords(self, **kwargs: Any) -> None:
        """A function with **kwargs."""
        self.note(kwargs["temperature"])

    def two(self, scale: float, temperature: Any) -> None:
        """A function with another argument before temperature."""
        self.note(temperature * scale)

    def module(self, kind: Any) -> Any:
        """A module whose forward has an argument named temperature."""
        note = self.note

        class Guide(kind):
            def forward(self, temperature: Any) -> None:
                note(temperature)

        return Guide()

    def make(self, kind: str) -> Callable[..., None]:
        """The guide of a kind."""
        return {
            "function": lambda temperature: self.note(temperature),
            "method": self.named,
            "keywords": self.keywords,
            "partial": functools.partial(self.two, 1.0),
            "module": self.module(torch.nn.Module),
            "pyro module": self.module(PyroModule),
            "handler": poutine.scale(self.named, scale=0.5),
            "trace handler": poutine.trace(self.named),
            "handler as decorator": poutine.scale(scale=0.5)(self.named),
            "two handlers": poutine.block(poutine.scale(self.named, scale=0.5), hide=["y"]),
        }[kind]


KINDS = [
    "function",
    "method",
    "keywords",
    "partial",
    "module",
    "pyro module",
    "handler",
    "trace handler",
    "handler as decorator",
    "two handlers",
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_guide_that_takes_temperature_gets_it_and_the_model_that_does_not_is_spared(
    kind: str,
) -> None:
    """Functions, methods, **kwargs, partials, modules and handlers get the temperatures."""
    record = Recorder()
    svi = AnnealedSVI(
        latent, record.make(kind), adam(), Trace_ELBO(), temperature=linear(1.0, 0.5, 2)
    )
    losses = [svi.step() for _ in range(4)]
    assert record.seen == [1.0, 0.75, 0.5, 0.5]
    assert np.isfinite(losses).all()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda f: f,
        lambda f: poutine.scale(f, scale=0.5),
        lambda f: poutine.scale(scale=0.5)(f),
        poutine.trace,
    ],
    ids=["function", "handler", "handler as decorator", "trace handler"],
)
def test_a_model_that_takes_temperature_gets_it_and_the_guide_that_does_not_is_spared(
    wrap: Any,
) -> None:
    """Only the model gets the temperature, also if the guide is inside a handler."""
    record = Recorder()
    svi = AnnealedSVI(record.named, wrap(latent), adam(), Trace_ELBO(), temperature=constant(0.5))
    svi.step()
    assert record.seen == [0.5]


def test_model_and_guide_get_the_same_temperature() -> None:
    """Model and guide both get the schedule's temperature, once a step."""
    model, guide = Recorder(), Recorder()
    svi = AnnealedSVI(
        model.named, guide.named, adam(), Trace_ELBO(), temperature=cosine(1.0, 0.5, 4)
    )
    for _ in range(5):
        svi.step()
    expected = 0.5 + 0.25 * (1 + np.cos(np.pi * np.arange(5) / 4))
    np.testing.assert_allclose(model.seen, expected)
    np.testing.assert_allclose(guide.seen, expected)


def test_an_autoguide_hands_the_temperature_to_its_model() -> None:
    """The signature of the autoguide's model decides whether the autoguide gets a temperature."""
    record = Recorder()
    svi = AnnealedSVI(
        record.named, AutoNormal(record.named), adam(), Trace_ELBO(), temperature=constant(0.5)
    )
    svi.step()
    assert set(record.seen) == {0.5}


def test_an_autoguide_of_a_model_without_temperature_is_spared() -> None:
    """An autoguide gets no temperature if its model has no such argument."""
    record = Recorder()
    svi = AnnealedSVI(
        record.named, AutoNormal(latent), adam(), Trace_ELBO(), temperature=constant(0.5)
    )
    svi.step()
    assert record.seen == [0.5]


class Plain(PyroModule):
    """A module without a temperature argument."""

    def forward(self) -> None:
        latent()


@pytest.mark.parametrize(
    "guide",
    [
        lambda: latent,
        lambda: poutine.scale(latent, scale=0.5),
        lambda: poutine.trace(latent),
        lambda: poutine.scale(scale=0.5)(latent),
        lambda: functools.partial(latent),
        lambda: AutoNormal(latent),
        Plain,
    ],
    ids=["function", "handler", "trace handler", "decorator", "partial", "autoguide", "module"],
)
def test_a_model_and_a_guide_without_temperature_are_refused(guide: Any) -> None:
    """The error names the argument and what to do."""
    text = (
        "AnnealedSVI got a model and a guide that both take no argument named temperature; "
        "expected at least one that does. Add temperature to its signature, or leave the "
        "schedule and temperature= out."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        AnnealedSVI(latent, guide(), adam(), Trace_ELBO(), temperature=constant(0.5))


def test_the_parameters_of_a_module_guide_are_fitted() -> None:
    """AnnealedSVI wraps a module guide without a temperature; the optimiser still finds it."""

    class Guide(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.loc = PyroParam(torch.tensor(0.0))

        def forward(self) -> None:
            pyro.sample("x", dist.Normal(self.loc, 1.0))

    def model(temperature: float) -> None:
        pyro.sample("x", dist.Normal(2.0, 1.0))

    guide = Guide()
    svi = AnnealedSVI(model, guide, adam(0.1), Trace_ELBO(), temperature=constant(0.5))
    svi.step()
    assert guide.loc.item() == pytest.approx(0.1, rel=1e-3)  # Adam's first step is of size lr


@pytest.mark.parametrize("low", [0.0, -0.5, float("nan"), float("inf")])
@pytest.mark.parametrize("method", ["step", "evaluate_loss"])
def test_a_schedule_that_is_not_positive_is_refused(method: str, low: float) -> None:
    """A step at a bad temperature raises, is not counted, and does not call the guide."""
    record = Recorder()
    svi = AnnealedSVI(
        latent, record.named, adam(), Trace_ELBO(), temperature=lambda s: 1.0 if s < 2 else low
    )
    svi.step()
    svi.step()
    text = f"The temperature schedule yielded {low}; expected positive finite numbers. "
    text += "Give the schedule a floor above zero."
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        getattr(svi, method)()
    assert record.seen == [1.0, 1.0]
    assert svi.steps == 2


def test_a_given_temperature_stands_in_the_schedules_place() -> None:
    """temperature= given to a method replaces the schedule's, even if the schedule's is invalid."""
    record = Recorder()
    svi = AnnealedSVI(latent, record.named, adam(), Trace_ELBO(), temperature=lambda s: s - 100.0)
    svi.step(temperature=0.7)
    svi.evaluate_loss(temperature=0.8)
    assert record.seen == [0.7, 0.8]
    assert svi.steps == 1


def test_evaluate_loss_is_at_the_temperature_of_the_next_step_and_counts_none() -> None:
    """Here the loss is the temperature: 1.0, 1.0, 1.0, 0.75."""

    def model(temperature: float) -> None:
        pyro.factor("t", torch.tensor(-temperature))

    svi = AnnealedSVI(model, lambda: None, adam(), Trace_ELBO(), temperature=linear(1.0, 0.5, 2))
    losses = [svi.evaluate_loss(), svi.evaluate_loss(), svi.step(), svi.evaluate_loss()]
    assert losses == [1.0, 1.0, 1.0, 0.75]


# Tests of a restart.


def gate_model(temperature: Any) -> None:
    """A relaxed gate in front of a Normal likelihood."""
    z = pyro.sample("z", RelaxedOneHotCategorical(temperature, probs=torch.tensor(PRIOR)))
    means = torch.tensor([-1.0, 0.0, 2.0], dtype=z.dtype)
    pyro.sample("x", dist.Normal(z @ means, 1.0), obs=torch.tensor(1.5))


def gate_guide(temperature: Any) -> None:
    """A straight-through guide with logits to fit."""
    logits = pyro.param("logits", torch.zeros(3, dtype=torch.float64))
    pyro.sample("z", RelaxedOneHotCategoricalStraightThrough(temperature, logits=logits))


def gate_svi(particles: int) -> AnnealedSVI:
    """The SVI of the gate, with a temperature from 1 to 0.3 in 100 steps."""
    elbo = Trace_ELBO(num_particles=particles, vectorize_particles=True, max_plate_nesting=0)
    return AnnealedSVI(gate_model, gate_guide, adam(0.02), elbo, temperature=linear(1.0, 0.3, 100))


def gate_logits() -> np.ndarray:
    """The current logits."""
    return pyro.param("logits").detach().numpy().copy()


def cut_in_two(particles: int, path: Path, lost: str) -> np.ndarray:
    """The logits after 70 steps, a save, a load without a part, and 50 steps by a new SVI."""
    svi = gate_svi(particles)
    for _ in range(70):
        svi.step()
    torch.save(svi.state_dict(), path / "svi.pt")
    pyro.clear_param_store()
    pyro.set_rng_seed(99)

    saved = torch.load(path / "svi.pt", weights_only=True)
    saved.pop(lost, None)
    svi = gate_svi(particles)
    svi.load_state_dict(saved)
    assert svi.steps == (0 if lost == "steps" else 70)
    for _ in range(50):
        svi.step()
    return gate_logits()


@pytest.mark.parametrize("particles", [1, 4])
def test_a_run_cut_in_two_by_a_file_ends_where_the_whole_one_does(
    particles: int, tmp_path: Path, seed: int
) -> None:
    """120 steps equal 70 steps, a save, and 50 steps of a new SVI, bit for bit.

    Without any part of the file the result differs by more than 1e-3.
    """
    svi = gate_svi(particles)
    for _ in range(120):
        svi.step()
    whole, ends = gate_logits(), {}
    for lost in ["nothing", "steps", "optim", "params", "rng"]:
        pyro.clear_param_store()
        pyro.set_rng_seed(seed)
        ends[lost] = cut_in_two(particles, tmp_path, lost)
    np.testing.assert_array_equal(ends.pop("nothing"), whole)
    assert all(abs(end - whole).max() > 1e-3 for end in ends.values())


def test_a_state_goes_back_into_an_svi_that_has_gone_on(seed: int) -> None:
    """A loaded state repeats the same 20 losses in a process that has gone on.

    Pyro's existing optimisers can't load a state, so new ones are made at the next step. A save
    before that step has the loaded state for them.
    """
    svi = gate_svi(1)
    for _ in range(20):
        svi.step()
    state = copy.deepcopy(svi.state_dict())
    losses = [svi.step() for _ in range(20)]
    svi.load_state_dict(copy.deepcopy(state))
    again = copy.deepcopy(svi.state_dict())
    assert again["optim"].keys() == {"logits"}
    assert [svi.step() for _ in range(20)] == losses
    svi.load_state_dict(again)
    assert [svi.step() for _ in range(20)] == losses


def test_gradients_accumulate_across_a_restart(tmp_path: Path) -> None:
    """A step after a load takes the gradient that was accumulated before it into account."""

    def accumulated(svi: AnnealedSVI) -> np.ndarray:
        svi.loss_and_grads(svi.model, svi.guide, temperature=svi.temperature(svi.steps))
        svi.step()
        return gate_logits()

    svi = gate_svi(1)
    svi.step()
    svi.save(tmp_path / "svi.pt")
    expected = accumulated(svi)
    pyro.clear_param_store()
    svi = gate_svi(1)
    svi.load(tmp_path / "svi.pt")
    np.testing.assert_array_equal(accumulated(svi), expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*registered as constants in the trace")
@pytest.mark.parametrize("loss", [Trace_ELBO, JitTrace_ELBO])
def test_what_draws_at_its_first_call_goes_on(loss: type, tmp_path: Path) -> None:
    """After a restart, automatic guides and compilers run the model again."""

    def model(temperature: float) -> None:
        gate = pyro.sample("gate", Bernoulli(probs=torch.tensor(0.3)))
        pyro.sample("x", dist.Normal(gate, 1.0), obs=torch.tensor(1.0))

    def make() -> AnnealedSVI:
        args = adam(), loss(), linear(1.0, 0.5, 10)
        return AnnealedSVI(model, relaxed.AutoRelaxed(model), *args)

    svi = make()
    for _ in range(3):
        svi.step()
    torch.save(svi.state_dict(), tmp_path / "svi.pt")
    losses = [svi.step() for _ in range(3)]
    pyro.clear_param_store()
    svi = make()
    svi.load_state_dict(torch.load(tmp_path / "svi.pt", weights_only=True))
    assert [svi.step() for _ in range(3)] == losses


def test_a_learning_rate_schedule_goes_on(tmp_path: Path) -> None:
    """torch's StepLR, stepped by hand as in Pyro, has the same learning rates after a restart."""

    def make() -> AnnealedSVI:
        options = {"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.1}, "step_size": 2}
        svi = gate_svi(1)
        svi.optim = pyro.optim.StepLR({**options, "gamma": 0.5})
        return svi

    def rates(svi: AnnealedSVI, steps: int) -> list[float]:
        seen = []
        for _ in range(steps):
            svi.step()
            (scheduler,) = svi.optim.optim_objs.values()
            seen += scheduler.get_last_lr()
            assert scheduler.optimizer.param_groups[0]["lr"] == seen[-1]
            svi.optim.step()
        return seen

    svi = make()
    before = rates(svi, 3)
    torch.save(svi.state_dict(), tmp_path / "svi.pt")
    pyro.clear_param_store()
    svi = make()
    svi.load_state_dict(torch.load(tmp_path / "svi.pt", weights_only=True))
    assert before + rates(svi, 3) == [0.1, 0.1, 0.05, 0.05, 0.025, 0.025]


# Tests of posteriors known by enumeration.

ESTIMATORS = {
    "straight-through": lambda temperature: StraightThrough(),
    "hard": lambda temperature: GumbelSoftmax(temperature, hard=True),
    "soft": lambda temperature: GumbelSoftmax(temperature, hard=False),
}
ELBOS = {"Trace_ELBO": Trace_ELBO, "TraceMeanField_ELBO": TraceMeanField_ELBO}


def fit(
    one_hot: bool,
    estimator: str,
    elbo: str,
    likelihood: Callable[[Any], Any],
    detached: bool = False,
) -> np.ndarray:
    """The probabilities of a guide, after 500 steps with 64 particles."""

    def model() -> None:
        if one_hot:
            z = pyro.sample("z", OneHotCategorical(probs=torch.tensor(PRIOR)))
        else:
            z = pyro.sample("z", Bernoulli(probs=torch.tensor(PRIOR_OF_ONE, dtype=torch.float64)))
        # A negligible gradient, since the first step refuses z.detach().
        likelihood(z.detach() + 1e-6 * (z - z.detach()) if detached else z)

    def guide(temperature: Any) -> None:
        distribution = OneHotCategorical if one_hot else Bernoulli
        logits = pyro.param("logits", torch.zeros(3 if one_hot else (), dtype=torch.float64))
        pyro.sample("z", distribution(logits=logits, estimator=ESTIMATORS[estimator](temperature)))

    svi = AnnealedSVI(
        model,
        guide,
        pyro.optim.ClippedAdam({"lr": 0.1, "lrd": 0.5 ** (1 / 100)}),
        ELBOS[elbo](num_particles=64, vectorize_particles=True, max_plate_nesting=0),
        temperature=exponential(1.0, rate=0.01, floor=0.2),
    )
    for _ in range(500):
        svi.step()
    logits = pyro.param("logits").detach()
    return (torch.softmax(logits, -1) if one_hot else torch.sigmoid(logits)).numpy()


def mixture_of_rows(z: Any) -> None:
    """log p(x | z) as sum_k z_k log p(x | k), linear in z."""
    pyro.factor("x", z @ torch.tensor(np.log(LIKELIHOOD)))


def normal_of_rows(z: Any) -> None:
    """x ~ Normal(z @ means, 1): at one-hot z, the likelihoods of mixture_of_rows."""
    means = torch.tensor([-1.0, 0.0, 2.0], dtype=z.dtype)
    pyro.sample("x", dist.Normal(z @ means, 1.0), obs=torch.tensor(1.5))


def mixture_of_two(z: Any) -> None:
    """log p(x | z) for z in {0, 1}, linear in z."""
    low, high = np.log(LIKELIHOOD_OF_ONE)
    pyro.factor("x", (1 - z) * low + z * high)


@pytest.mark.share
@pytest.mark.parametrize("elbo", ELBOS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_one_hot_guide_finds_the_posterior(estimator: str, elbo: str) -> None:
    """|fit - posterior| < 0.05; the prior is 0.43 away. The guide of one site can be exact.

    The likelihood is linear in z, where StraightThrough has no bias and GumbelSoftmax a small one
    at the last temperature, 0.2. A share of the cases runs each estimator, and each ELBO.
    """
    assert np.abs(fit(True, estimator, elbo, mixture_of_rows) - POSTERIOR).max() < 0.05


@pytest.mark.share
@pytest.mark.parametrize("elbo", ELBOS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_bernoulli_guide_finds_the_posterior(estimator: str, elbo: str) -> None:
    """|fit - posterior| < 0.05; the prior is 0.38 away. A share runs each estimator and ELBO."""
    assert abs(fit(False, estimator, elbo, mixture_of_two) - POSTERIOR_OF_ONE) < 0.05


@pytest.mark.parametrize("elbo", ELBOS)
def test_a_hard_guide_finds_the_posterior_behind_a_normal_likelihood(elbo: str) -> None:
    """|fit - posterior| < 0.08 for x ~ Normal(z @ means, 1), which is not linear in z.

    The bias of GumbelSoftmax is 0.04 here; that of StraightThrough is 0.14, which would not pass.
    """
    assert np.abs(fit(True, "hard", elbo, normal_of_rows) - POSTERIOR).max() < 0.08


@pytest.mark.share
@pytest.mark.parametrize("one_hot", [True, False])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_guide_without_its_gradient_stays_at_the_prior(estimator: str, one_hot: bool) -> None:
    """With z detached only the KL is trained, so the fit is the prior, and fails the tests above.

    A share of the cases runs each estimator, one-hot or binary.
    """
    likelihood = mixture_of_rows if one_hot else mixture_of_two
    found = fit(one_hot, estimator, "TraceMeanField_ELBO", likelihood, detached=True)
    prior, posterior = (PRIOR, POSTERIOR) if one_hot else (PRIOR_OF_ONE, POSTERIOR_OF_ONE)
    assert np.abs(found - prior).max() < 0.02
    assert np.abs(found - posterior).max() > 0.35


# Tests of relaxed sites in model and guide.

GUIDES = ["RelaxedOneHotCategorical", "RelaxedBernoulli"]
LOGITS = np.random.default_rng(0).normal(0, 1, (2, 4, 3))  # of the model and of the guide


def relaxed_sides(name: str, shape: str, model_suffix: str, guide_suffix: str) -> tuple[Any, Any]:
    """A model and a guide, each with one site of a batch of four (by three if binary)."""
    one_hot = "OneHot" in name
    dims = 0 if one_hot else 1

    def site(distribution: Any) -> Any:
        distribution = {
            "plate": lambda: distribution.to_event(dims),
            "to_event": lambda: distribution.to_event(dims + 1),
            "mask": lambda: distribution.to_event(dims).mask(
                torch.tensor([True, False, True, True])
            ),
        }[shape]()
        if shape == "to_event":
            return pyro.sample("z", distribution)
        with pyro.plate("rows", 4):
            return pyro.sample("z", distribution)

    def model() -> Any:
        distribution = getattr(relaxed, name + model_suffix)
        return site(distribution(torch.tensor(0.7), logits=torch.tensor(LOGITS[0])))

    def guide() -> Any:
        logits = pyro.param("logits", torch.tensor(LOGITS[1]))
        return site(getattr(relaxed, name + guide_suffix)(torch.tensor(0.4), logits=logits))

    return model, guide


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO, TraceGraph_ELBO])
@pytest.mark.parametrize("particles", [1, 3])
@pytest.mark.parametrize("suffix", ["", "StraightThrough"])
@pytest.mark.parametrize("shape", ["plate", "to_event", "mask"])
@pytest.mark.parametrize("name", GUIDES)
def test_relaxed_sites_on_both_sides_have_finite_losses_and_gradients(
    name: str, shape: str, suffix: str, particles: int, elbo: Any
) -> None:
    """Losses and gradients are finite with plates, to_event, masks and vectorised particles.

    Masked rows have no gradient.
    """
    model, guide = relaxed_sides(name, shape, suffix, suffix)
    loss = elbo(num_particles=particles, vectorize_particles=True, max_plate_nesting=1)
    value = loss.loss_and_grads(model, guide)
    grad = pyro.param("logits").unconstrained().grad
    used = grad[[0, 2, 3]] if shape == "mask" else grad
    assert np.isfinite(value)
    assert torch.isfinite(grad).all()
    assert (used != 0).all()
    assert (grad[1] != 0).any() == (shape != "mask")


@pytest.mark.parametrize("particles", [1, 3])
@pytest.mark.parametrize("shape", ["plate", "to_event", "mask"])
@pytest.mark.parametrize("name", GUIDES)
def test_a_straight_through_guide_has_the_elbo_of_the_relaxed_one(
    name: str, shape: str, particles: int, seed: int
) -> None:
    """At equal noise, the loss is that of the relaxed guide, and the paper's log q - log p."""
    elbo = Trace_ELBO(num_particles=particles, vectorize_particles=True, max_plate_nesting=1)
    losses, values = [], []
    for suffix in ("", "StraightThrough"):
        model, guide = relaxed_sides(name, shape, "", suffix)

        def recorded(guide: Any = guide) -> None:
            values.append(guide().detach().numpy())

        pyro.set_rng_seed(seed)
        losses.append(elbo.loss(model, recorded))
    density = concrete_density if "OneHot" in name else binary_concrete_density
    log_p = np.log(density(LOGITS[0], np.array(0.7), values[0]))
    log_q = np.log(density(LOGITS[1], np.array(0.4), values[0]))
    used = np.array([1, shape != "mask", 1, 1])[:, None]
    expected = ((log_q - log_p).reshape(particles, 4, -1) * used).sum() / particles
    np.testing.assert_allclose(losses, [expected, expected], rtol=1e-6)
    assert set(np.unique(values[1])) == {0.0, 1.0}


def test_plain_svi_takes_the_straight_through_guide() -> None:
    """The distributions also work under Pyro's own SVI."""
    svi = SVI(*relaxed_sides(GUIDES[0], "plate", "", "StraightThrough"), adam(), Trace_ELBO())
    assert np.isfinite([svi.step() for _ in range(3)]).all()
