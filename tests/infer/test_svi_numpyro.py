"""AnnealedSVI in NumPyro, and SVI with relaxed sites on posteriors known by enumeration."""

# ruff: noqa: E402 - the imports are below the skip for a missing framework

import functools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

numpyro = pytest.importorskip("numpyro")
jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import random
from numpyro import handlers
from numpyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from numpyro.infer.autoguide import AutoNormal

from numpy_ops import binary_concrete_density, concrete_density
from relaxed_dists import numpyro as relaxed
from relaxed_dists.numpyro import (
    AnnealedSVI,
    Bernoulli,
    GumbelSoftmax,
    OneHotCategorical,
    RelaxedOneHotCategorical,
    StraightThrough,
)
from relaxed_dists.schedules import constant, cosine, exponential, linear

# Models of a one-hot and a binary z, and an observation x: the likelihood of each value of z.
PRIOR = np.array([0.5, 0.3, 0.2])
LIKELIHOOD = np.exp(-0.5 * (1.5 - np.array([-1.0, 0.0, 2.0])) ** 2)
POSTERIOR = PRIOR * LIKELIHOOD / (PRIOR * LIKELIHOOD).sum()
PRIOR_OF_ONE, LIKELIHOOD_OF_ONE = 0.3, np.array([0.2, 1.0])  # of z = 0 and z = 1
POSTERIOR_OF_ONE = 0.3 * 1.0 / (0.3 * 1.0 + 0.7 * 0.2)


# Tests of the temperatures that model and guide get.


def loss_is_temperature(temperature: Any) -> None:
    """A model whose loss, with an empty guide, is the temperature."""
    numpyro.param("w", 0.0)
    numpyro.factor("t", -temperature)


def empty() -> None:
    """A guide without sites."""


def reads(schedule: Callable[[Any], Any]) -> AnnealedSVI:
    """An SVI whose losses are the temperatures."""
    return AnnealedSVI(
        loss_is_temperature, empty, numpyro.optim.Adam(0.1), Trace_ELBO(), temperature=schedule
    )


@pytest.mark.share
@pytest.mark.parametrize(
    "schedule",
    [linear(1.0, 0.5, 10), exponential(1.0, 0.1, 0.5, every=3), cosine(1.0, 0.2, 15)],
    ids=["linear", "exponential", "cosine"],
)
@pytest.mark.parametrize("progress_bar", [True, False])
def test_run_follows_the_schedule(schedule: Any, progress_bar: bool) -> None:
    """The losses of run equal the schedule's temperatures from step 0 on; rtol 1e-6.

    A share of the cases runs each schedule, and each of the two loops.
    """
    result = reads(schedule).run(random.key(0), 20, progress_bar=progress_bar)
    np.testing.assert_allclose(result.losses, [schedule(s) for s in range(20)], rtol=1e-6)


def test_an_optax_schedule_is_a_temperature() -> None:
    """An optax schedule works: 1 - 0.05 s, and 0.5 from step 10 on."""
    svi = reads(optax.linear_schedule(1.0, 0.5, 10))
    expected = 1.0 - 0.05 * np.minimum(np.arange(15), 10)
    losses = svi.run(random.key(0), 15, progress_bar=False).losses
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("method", ["update", "stable_update"])
def test_updates_and_evaluate_follow_the_schedule(method: str, jit: bool) -> None:
    """update and evaluate use the temperature of the state's step."""
    svi = reads(linear(1.0, 0.5, 10))
    update, evaluate = getattr(svi, method), svi.evaluate
    if jit:
        update, evaluate = jax.jit(update), jax.jit(evaluate)
    state = svi.init(random.key(0))
    updated, evaluated, current = [], [], []
    for _ in range(4):
        current.append(svi.current_temperature(state))
        evaluated.append(evaluate(state))
        state, loss = update(state)
        updated.append(loss)
    for seen in (updated, evaluated, current):
        np.testing.assert_allclose(np.array(seen), [1.0, 0.95, 0.9, 0.85], rtol=1e-6)


def test_a_scan_follows_the_schedule() -> None:
    """Inside lax.scan every step sees its own temperature."""
    svi = reads(linear(1.0, 0.5, 10))
    state = svi.init(random.key(0))
    state, losses = jax.lax.scan(lambda s, _: svi.update(s), state, None, length=12)
    np.testing.assert_allclose(losses, 1.0 - 0.05 * np.minimum(np.arange(12), 10), rtol=1e-6)
    assert int(svi.steps(state)) == 12


@pytest.mark.parametrize("method", ["update", "stable_update", "evaluate", "run"])
def test_a_given_temperature_stands_in_the_schedules_place(method: str) -> None:
    """temperature= given to a method replaces the schedule's, even if the schedule's is invalid."""
    svi = reads(lambda step: step - 100.0)
    state = svi.init(random.key(0), temperature=1.0)
    calls = {
        "update": lambda: svi.update(state, temperature=0.7)[1],
        "stable_update": lambda: svi.stable_update(state, temperature=0.7)[1],
        "evaluate": lambda: svi.evaluate(state, temperature=0.7),
        "run": lambda: svi.run(random.key(0), 3, progress_bar=False, temperature=0.7).losses,
    }
    np.testing.assert_allclose(calls[method](), 0.7, rtol=1e-6)


class Recorder:
    """Functions of several kinds that note the temperature of each call."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def note(self, temperature: Any) -> None:
        """Note the temperature, and sample with a parameter to fit."""
        self.seen.append(float(temperature))
        numpyro.sample("x", dist.Normal(numpyro.param("loc", 0.0), 1.0))

    def named(self, temperature: Any) -> None:
        """A function with an argument named temperature."""
        self.note(temperature)

    def keywords(self, **kwargs: Any) -> None:
        """A function with **kwargs."""
        self.note(kwargs["temperature"])

    def two(self, scale: float, temperature: Any) -> None:
        """A function with another argument before temperature."""
        self.note(temperature * scale)

    def make(self, kind: str) -> Callable[..., None]:
        """The guide of a kind."""
        return {
            "function": lambda temperature: self.note(temperature),
            "method": self.named,
            "keywords": self.keywords,
            "partial": functools.partial(self.two, 1.0),
            "handler": handlers.scale(self.named, scale=0.5),
            "two handlers": handlers.block(handlers.scale(self.named, scale=0.5), hide=["y"]),
            "partial of keywords": functools.partial(self.keywords, other=1),
        }[kind]


KINDS = [
    "function",
    "method",
    "keywords",
    "partial",
    "handler",
    "two handlers",
    "partial of keywords",
]


def latent() -> None:
    """A model without a temperature argument."""
    numpyro.sample("x", dist.Normal(0.0, 1.0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_guide_that_takes_temperature_gets_it_and_the_model_that_does_not_is_spared(
    kind: str,
) -> None:
    """Functions, methods, **kwargs, partials and handlers get the schedule's temperatures."""
    record = Recorder()
    svi = AnnealedSVI(
        latent,
        record.make(kind),
        numpyro.optim.Adam(0.1),
        Trace_ELBO(),
        temperature=linear(1.0, 0.5, 2),
    )
    state = svi.init(random.key(0))
    for _ in range(3):
        state, _ = svi.update(state)
    assert record.seen == [1.0, 1.0, 0.75, 0.5]  # init, and three updates


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: handlers.scale(f, scale=0.5)])
def test_a_model_that_takes_temperature_gets_it_and_the_guide_that_does_not_is_spared(
    wrap: Any,
) -> None:
    """Only the model gets the temperature, also if the guide is inside a handler."""
    record = Recorder()
    svi = AnnealedSVI(
        record.named, wrap(latent), optax.adam(0.1), Trace_ELBO(), temperature=constant(0.5)
    )
    state, _ = svi.update(svi.init(random.key(0)))
    assert set(record.seen) == {0.5}
    assert int(state.optim_state[0]) == 1


def test_an_autoguide_hands_the_temperature_to_its_model() -> None:
    """The signature of the autoguide's model decides whether the autoguide gets a temperature."""
    record = Recorder()
    guide = AutoNormal(record.named)
    svi = AnnealedSVI(
        record.named, guide, numpyro.optim.Adam(0.1), Trace_ELBO(), temperature=constant(0.5)
    )
    svi.update(svi.init(random.key(0)))
    assert set(record.seen) == {0.5}


def test_an_autoguide_of_a_model_without_temperature_is_spared() -> None:
    """An autoguide gets no temperature if its model has no such argument."""
    record = Recorder()
    svi = AnnealedSVI(
        record.named,
        AutoNormal(latent),
        numpyro.optim.Adam(0.1),
        Trace_ELBO(),
        temperature=constant(0.5),
    )
    svi.update(svi.init(random.key(0)))
    assert set(record.seen) == {0.5}


@pytest.mark.parametrize(
    "guide",
    [
        latent,
        handlers.scale(latent, scale=0.5),
        functools.partial(latent),
        AutoNormal(latent),
    ],
    ids=["function", "handler", "partial", "autoguide"],
)
def test_a_model_and_a_guide_without_temperature_are_refused(guide: Any) -> None:
    """The error names the argument and what to do."""
    text = (
        "AnnealedSVI got a model and a guide that both take no argument named temperature; "
        "expected at least one that does. Add temperature to its signature, or leave the "
        "schedule and temperature= out."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        AnnealedSVI(latent, guide, numpyro.optim.Adam(0.1), Trace_ELBO(), temperature=constant(0.5))


def bad_schedule(low: float, at: int) -> Callable[[Any], Any]:
    """A schedule that is 1 up to a step, and then a bad number."""
    return lambda step: jnp.where(jnp.asarray(step) < at, 1.0, low)


@pytest.mark.parametrize("low", [0.0, -0.5, np.nan])
def test_a_schedule_that_is_not_positive_is_refused_by_run_before_the_loop(low: float) -> None:
    """The error names the temperature, and comes before any call of the model."""
    called: list[Any] = []

    def model(temperature: Any) -> None:
        called.append(temperature)
        numpyro.param("w", 0.0)

    svi = AnnealedSVI(
        model, empty, numpyro.optim.Adam(0.1), Trace_ELBO(), temperature=bad_schedule(low, 7)
    )
    text = f"The temperature schedule yielded {low}; expected positive finite numbers. "
    text += "Give the schedule a floor above zero."
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        svi.run(random.key(0), 8, progress_bar=False)
    assert called == []


def test_run_looks_only_at_the_steps_it_takes() -> None:
    """A schedule may reach zero after the run; a run from a later state is refused."""
    svi = reads(bad_schedule(0.0, 7))
    result = svi.run(random.key(0), 7, progress_bar=False)
    np.testing.assert_allclose(result.losses, np.ones(7))
    with pytest.raises(ValueError, match=r"The temperature schedule yielded 0\.0; expected"):
        svi.run(random.key(0), 1, progress_bar=False, init_state=result.state)


@pytest.mark.parametrize("method", ["update", "stable_update", "evaluate", "current_temperature"])
def test_an_eager_step_at_a_bad_temperature_is_refused(method: str) -> None:
    """The temperature is checked outside jit, where the step is known."""
    svi = reads(bad_schedule(-0.5, 1))
    state, _ = svi.update(svi.init(random.key(0)))
    with pytest.raises(ValueError, match=r"The temperature schedule yielded -0\.5; expected"):
        getattr(svi, method)(state)


def test_init_at_a_bad_temperature_is_refused() -> None:
    """init checks the temperature of step 0."""
    with pytest.raises(ValueError, match=r"The temperature schedule yielded 0\.0; expected"):
        reads(bad_schedule(0.0, 0)).init(random.key(0))


# Tests of one trajectory, in one or several parts.


def gate_model(temperature: Any) -> None:
    """A relaxed gate in front of a Normal likelihood."""
    z = numpyro.sample("z", RelaxedOneHotCategorical(temperature, probs=jnp.asarray(PRIOR)))
    numpyro.sample("x", dist.Normal(z @ jnp.array([-1.0, 0.0, 2.0]), 1.0), obs=1.5)


def gate_guide(temperature: Any) -> None:
    """A relaxed guide with logits to fit.

    Its values are soft, so that programs that are compiled differently differ only by rounding: in
    a hard value one ulp can change a category, and then the whole trajectory.
    """
    logits = numpyro.param("logits", jnp.zeros(3))
    numpyro.sample("z", RelaxedOneHotCategorical(temperature, logits=logits))


OPTIMISERS = {
    "numpyro": lambda: numpyro.optim.Adam(0.01),
    "optax": lambda: optax.chain(optax.clip(10.0), optax.adam(0.01)),
}


def gate_svi(optimiser: str, particles: int = 1) -> AnnealedSVI:
    """The SVI of the gate, with a temperature from 1 to 0.3 in 600 steps."""
    return AnnealedSVI(
        gate_model,
        gate_guide,
        OPTIMISERS[optimiser](),
        Trace_ELBO(num_particles=particles),
        temperature=linear(1.0, 0.3, 600),
    )


@pytest.mark.parametrize(("optimiser", "particles"), [("numpyro", 1), ("optax", 4)])
def test_one_trajectory_by_run_by_updates_and_cut_in_two(optimiser: str, particles: int) -> None:
    """800 steps by run equal 800 jitted updates, and 360 updates with 440 more steps by run.

    Temperature, noise and optimiser go on as if nothing had happened: equal to rtol 1e-4, while
    a temperature that starts again would be off by more than 1e-2 (the next test).
    """
    svi = gate_svi(optimiser, particles)
    whole = svi.run(random.key(0), 800, progress_bar=False)

    by_updates = gate_svi(optimiser, particles)
    state, update, losses = by_updates.init(random.key(0)), jax.jit(by_updates.update), []
    for step in range(800):
        if step == 360:
            before = state
        state, loss = update(state)
        losses.append(loss)
    logits = by_updates.get_params(state)["logits"]
    np.testing.assert_allclose(logits, whole.params["logits"], rtol=1e-4)
    np.testing.assert_allclose(np.array(losses), whole.losses, rtol=1e-3, atol=1e-3)

    after = by_updates.run(random.key(1), 440, progress_bar=False, init_state=before)
    np.testing.assert_allclose(after.params["logits"], whole.params["logits"], rtol=1e-4)
    np.testing.assert_allclose(after.losses, whole.losses[360:], rtol=1e-3, atol=1e-3)


def test_a_run_whose_temperature_starts_again_ends_elsewhere() -> None:
    """The tolerances above detect a step count that starts again at 0 in the second part."""
    svi = gate_svi("numpyro")
    whole = svi.run(random.key(0), 800, progress_bar=False)
    half = svi.run(random.key(0), 360, progress_bar=False).state
    broken = half._replace(optim_state=(jnp.zeros_like(half.optim_state[0]), half.optim_state[1]))
    again = svi.run(random.key(0), 440, progress_bar=False, init_state=broken)
    assert abs(again.params["logits"] - whole.params["logits"]).max() > 1e-2


@pytest.mark.parametrize("stable", [True, False])
def test_run_with_a_progress_bar_is_run_without(stable: bool) -> None:
    """The loops in Python and in XLA take the same steps, also with stable_update."""
    svi = gate_svi("numpyro")
    with_bar = svi.run(random.key(0), 100, progress_bar=True, stable_update=stable)
    hidden = svi.run(random.key(0), 100, progress_bar=False)
    np.testing.assert_allclose(with_bar.params["logits"], hidden.params["logits"], rtol=1e-4)
    np.testing.assert_allclose(np.array(with_bar.losses), hidden.losses, rtol=1e-3, atol=1e-4)


def test_stable_update_keeps_the_parameters_where_the_loss_is_not_finite() -> None:
    """A NaN loss changes neither parameters, nor step, nor temperature."""

    def model(scale: Any, temperature: Any) -> None:
        numpyro.factor("t", -temperature * scale * numpyro.param("w", 1.0))

    svi = AnnealedSVI(
        model,
        lambda scale: None,
        numpyro.optim.SGD(0.1),
        Trace_ELBO(),
        temperature=linear(1.0, 0.5, 10),
    )
    start = svi.init(random.key(0), 1.0)
    state, loss = jax.jit(svi.stable_update)(start, jnp.nan)
    moved, _ = jax.jit(svi.stable_update)(start, 1.0)
    assert np.isnan(loss)
    assert float(svi.get_params(state)["w"]) == 1.0
    assert float(svi.current_temperature(state)) == 1.0
    np.testing.assert_allclose(svi.get_params(moved)["w"], 0.9, rtol=1e-6)
    np.testing.assert_allclose(svi.current_temperature(moved), 0.95, rtol=1e-6)


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
    seed: int,
    detached: bool = False,
) -> np.ndarray:
    """The probabilities of a guide, after 600 steps with 64 particles."""

    def model() -> None:
        if one_hot:
            z = numpyro.sample("z", OneHotCategorical(probs=jnp.asarray(PRIOR)))
        else:
            z = numpyro.sample("z", Bernoulli(probs=PRIOR_OF_ONE))
        # A negligible gradient, since init refuses stop_gradient(z).
        still = jax.lax.stop_gradient(z)
        likelihood(still + 1e-6 * (z - still) if detached else z)

    def guide(temperature: Any) -> None:
        distribution = OneHotCategorical if one_hot else Bernoulli
        logits = numpyro.param("logits", jnp.zeros(3) if one_hot else jnp.array(0.0))
        numpyro.sample(
            "z", distribution(logits=logits, estimator=ESTIMATORS[estimator](temperature))
        )

    svi = AnnealedSVI(
        model,
        guide,
        optax.adam(optax.exponential_decay(0.1, 100, 0.5)),
        ELBOS[elbo](num_particles=64),
        temperature=exponential(1.0, rate=0.01, floor=0.2),
    )
    logits = svi.run(random.key(seed), 600, progress_bar=False).params["logits"]
    return np.asarray(jax.nn.softmax(logits) if one_hot else jax.nn.sigmoid(logits))


def mixture_of_rows(z: Any) -> None:
    """log p(x | z) as sum_k z_k log p(x | k), linear in z."""
    numpyro.factor("x", z @ jnp.log(jnp.asarray(LIKELIHOOD)))


def normal_of_rows(z: Any) -> None:
    """x ~ Normal(z @ means, 1): at one-hot z, the likelihoods of mixture_of_rows."""
    means = jnp.array([-1.0, 0.0, 2.0])
    numpyro.sample("x", dist.Normal(z @ means, 1.0), obs=1.5)


def mixture_of_two(z: Any) -> None:
    """log p(x | z) for z in {0, 1}, linear in z."""
    low, high = np.log(LIKELIHOOD_OF_ONE)
    numpyro.factor("x", (1 - z) * low + z * high)


@pytest.mark.share
@pytest.mark.parametrize("elbo", ELBOS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_one_hot_guide_finds_the_posterior(estimator: str, elbo: str, seed: int) -> None:
    """|fit - posterior| < 0.05; the prior is 0.43 away. The guide of one site can be exact.

    The likelihood is linear in z, where StraightThrough has no bias and GumbelSoftmax a small one
    at the last temperature, 0.2. A share of the cases runs each estimator, and each ELBO.
    """
    assert np.abs(fit(True, estimator, elbo, mixture_of_rows, seed) - POSTERIOR).max() < 0.05


@pytest.mark.share
@pytest.mark.parametrize("elbo", ELBOS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_bernoulli_guide_finds_the_posterior(estimator: str, elbo: str, seed: int) -> None:
    """|fit - posterior| < 0.05; the prior is 0.38 away. A share runs each estimator and ELBO."""
    assert abs(fit(False, estimator, elbo, mixture_of_two, seed) - POSTERIOR_OF_ONE) < 0.05


@pytest.mark.parametrize("elbo", ELBOS)
def test_a_hard_guide_finds_the_posterior_behind_a_normal_likelihood(elbo: str, seed: int) -> None:
    """|fit - posterior| < 0.08 for x ~ Normal(z @ means, 1), which is not linear in z.

    The bias of GumbelSoftmax is 0.04 here; that of StraightThrough is 0.14, which would not pass.
    """
    assert np.abs(fit(True, "hard", elbo, normal_of_rows, seed) - POSTERIOR).max() < 0.08


@pytest.mark.share
@pytest.mark.parametrize("one_hot", [True, False])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_guide_without_its_gradient_stays_at_the_prior(
    estimator: str, one_hot: bool, seed: int
) -> None:
    """With z detached only the KL is trained, so the fit is the prior, and fails the tests above.

    A share of the cases runs each estimator, one-hot or binary.
    """
    likelihood = mixture_of_rows if one_hot else mixture_of_two
    found = fit(one_hot, estimator, "TraceMeanField_ELBO", likelihood, seed, detached=True)
    prior, posterior = (PRIOR, POSTERIOR) if one_hot else (PRIOR_OF_ONE, POSTERIOR_OF_ONE)
    assert np.abs(found - prior).max() < 0.02
    assert np.abs(found - posterior).max() > 0.35


# Tests of relaxed sites in model and guide.

GUIDES = ["RelaxedOneHotCategorical", "RelaxedBernoulli"]
LOGITS = np.random.default_rng(0).normal(0, 1, (2, 4, 3))  # of the model and of the guide


def relaxed_sides(name: str, shape: str, model_suffix: str, guide_suffix: str) -> tuple[Any, Any]:
    """A model and a guide, each with one site of a batch of four (by three if binary)."""
    dims = 0 if "OneHot" in name else 1

    def site(distribution: Any) -> Any:
        distribution = {
            "plate": lambda: distribution.to_event(dims),
            "to_event": lambda: distribution.to_event(dims + 1),
            "mask": lambda: distribution.to_event(dims).mask(jnp.array([True, False, True, True])),
        }[shape]()
        if shape == "to_event":
            return numpyro.sample("z", distribution)
        with numpyro.plate("rows", 4):
            return numpyro.sample("z", distribution)

    def model() -> Any:
        distribution = getattr(relaxed, name + model_suffix)
        return site(distribution(0.7, logits=jnp.asarray(LOGITS[0])))

    def guide() -> Any:
        logits = numpyro.param("logits", jnp.asarray(LOGITS[1]))
        return site(getattr(relaxed, name + guide_suffix)(0.4, logits=logits))

    return model, guide


@pytest.mark.share("name", "suffix")
@pytest.mark.parametrize(
    ("elbo", "particles"),
    [(Trace_ELBO, 3), (TraceMeanField_ELBO, 1)],
)
@pytest.mark.parametrize("suffix", ["", "StraightThrough"])
@pytest.mark.parametrize("shape", ["plate", "to_event", "mask"])
@pytest.mark.parametrize("name", GUIDES)
def test_relaxed_sites_on_both_sides_have_finite_losses_and_gradients(
    name: str, shape: str, suffix: str, particles: int, elbo: Any
) -> None:
    """Losses and gradients are finite with plates, to_event, masks and vectorised particles.

    Masked rows have no gradient.

    A share of the cases runs each of these ways, and each ELBO, with each distribution.
    """
    model, guide = relaxed_sides(name, shape, suffix, suffix)

    def loss(params: Any) -> Any:
        return elbo(num_particles=particles).loss(random.key(0), params, model, guide)

    params = {"logits": jnp.asarray(LOGITS[1])}
    value, grads = jax.jit(jax.value_and_grad(loss))(params)
    grad = np.asarray(grads["logits"])
    used = grad[[0, 2, 3]] if shape == "mask" else grad
    assert np.isfinite(value)
    assert np.isfinite(grad).all()
    assert (used != 0).all()
    assert (grad[1] != 0).any() == (shape != "mask")


@pytest.mark.share("name")
@pytest.mark.parametrize("particles", [1, 3])
@pytest.mark.parametrize("shape", ["plate", "to_event", "mask"])
@pytest.mark.parametrize("name", GUIDES)
def test_a_straight_through_guide_has_the_elbo_of_the_relaxed_one(
    name: str, shape: str, particles: int, seed: int
) -> None:
    """At equal noise, the loss is that of the relaxed guide, and the paper's log q - log p.

    A share of the cases runs each shape and number of particles with each distribution.
    """
    losses, values = [], []
    for suffix in ("", "StraightThrough"):
        model, guide = relaxed_sides(name, shape, "", suffix)
        drawn: list[np.ndarray] = []

        def recorded(guide: Any = guide, drawn: Any = drawn) -> None:
            jax.debug.callback(lambda z: drawn.append(np.asarray(z, np.float64)), guide())

        elbo = Trace_ELBO(num_particles=particles)
        losses.append(float(elbo.loss(random.key(seed), {}, model, recorded)))
        jax.effects_barrier()
        values.append(np.stack(drawn))
    density = concrete_density if "OneHot" in name else binary_concrete_density
    log_p = np.log(density(LOGITS[0], np.array(0.7), values[0]))
    log_q = np.log(density(LOGITS[1], np.array(0.4), values[0]))
    used = np.array([1, shape != "mask", 1, 1])[:, None]
    expected = ((log_q - log_p).reshape(particles, 4, -1) * used).sum() / particles
    assert losses[0] == losses[1]
    # The expected numbers come from float32 values, which round the distance to 1.
    np.testing.assert_allclose(losses[0], expected, rtol=2e-3)
    assert set(np.unique(values[1])) == {0.0, 1.0}


def test_plain_svi_takes_the_straight_through_guide() -> None:
    """The distributions also work under NumPyro's own SVI."""
    sides = relaxed_sides(GUIDES[0], "plate", "", "StraightThrough")
    svi = SVI(*sides, numpyro.optim.Adam(0.1), Trace_ELBO(num_particles=3))
    losses = svi.run(random.key(0), 5, progress_bar=False).losses
    assert np.isfinite(losses).all()
