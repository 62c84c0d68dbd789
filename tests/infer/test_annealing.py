"""AnnealedSVI equals the framework's SVI with the schedule's temperatures, for all its options."""

import importlib
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from harness import BACKENDS, Backend
from relaxed_dists._infer.svi import mapped
from relaxed_dists.schedules import exponential, linear
from restarting import Mixture
from training import COMPILED, DATA, ELBOS, OPTIMISERS, Sides, elbo

# Pyro's Jit ELBOs use functions that torch has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit.trace` is deprecated:DeprecationWarning",
    "ignore:.*registered as constants in the trace",
)

in_numpyro = pytest.mark.parametrize("backend", ["numpyro"], indirect=True)

STEPS = 8
TWO = {"prior": linear(1.0, 0.5, 5), "posterior": exponential(0.8, 0.1, 0.3)}


def two(step: int) -> dict[str, float]:
    """The temperatures of the schedules TWO, by their formulas."""
    prior = 1.0 - 0.5 * min(step / 5, 1)
    return {"prior": prior, "posterior": max(0.3, 0.8 * math.exp(-0.1 * step))}


def late(step: int) -> dict[str, float]:
    """The temperatures of the previous step, which a wrong SVI would use."""
    return two(max(step - 1, 0))


def plain_svi(backend: Backend) -> Any:
    """The framework's own SVI."""
    return backend.infer.SVI


def adam(backend: Backend) -> Any:
    """The framework's Adam."""
    return OPTIMISERS[backend.framework]["adam"]()


def of_table(table: dict[str, dict[str, Any]]) -> Any:
    """A parametrization by the entries of each framework's table."""
    cases = [(framework, kind) for framework in BACKENDS for kind in table[framework]]
    cases = [case for case in cases if case[1] != "adam"]  # every ELBO runs with Adam
    ids = [f"{framework}-{kind}" for framework, kind in cases]
    return pytest.mark.parametrize(("backend", "kind"), cases, ids=ids, indirect=["backend"])


def same(
    backend: Backend, ours: Any, theirs: Any, seed: int, by_hand: Callable[[int], Any]
) -> float:
    """The largest relative difference of losses and parameters from SVI by hand."""
    x = backend.array(DATA)
    losses, params = backend.language.train(ours, x, STEPS, seed)
    their_losses, their_params = backend.language.train(theirs, x, STEPS, seed, by_hand)
    assert set(params) == set(their_params) == {"locs", "scale"}
    assert abs(their_params["locs"]).max() > 0.05  # the parameter was trained
    pairs = [(losses, their_losses), *((params[k], their_params[k]) for k in params)]
    return max(float(abs(a - b).max() / abs(b).max()) for a, b in pairs)


def minibatch_sides(backend: Backend, kind: str) -> Sides:
    """The programs on minibatches of 5; NumPyro's multi-sample guides can't have minibatches."""
    samples = 2 if "samples" in kind else 0
    return Sides(backend, None if samples else 5, samples)


@of_table(ELBOS)
def test_every_elbo_gets_the_temperatures(backend: Backend, kind: str, seed: int) -> None:
    """Losses and parameters equal those of SVI with temperatures by hand at each step, to 1e-9."""
    sides = minibatch_sides(backend, kind)
    args = sides.model, sides.guide, adam(backend), elbo(backend, kind)
    ours, theirs = backend.names.AnnealedSVI(*args, TWO), plain_svi(backend)(*args)
    assert same(backend, ours, theirs, seed, two) < 1e-9


def test_temperatures_that_are_late_would_be_seen(backend: Backend, seed: int) -> None:
    """A temperature that is one step late changes the result by 1e-3 or more."""
    sides = minibatch_sides(backend, "")
    args = sides.model, sides.guide, adam(backend), elbo(backend, "one particle")
    ours, theirs = backend.names.AnnealedSVI(*args, TWO), plain_svi(backend)(*args)
    assert same(backend, ours, theirs, seed, late) > 1e-3


@of_table(OPTIMISERS)
def test_every_optimiser_steps_as_with_svi(backend: Backend, kind: str, seed: int) -> None:
    """Each optimiser, clipped or scheduled too, gives the results of SVI by hand, to 1e-9."""
    sides = Sides(backend)
    make, loss = OPTIMISERS[backend.framework][kind], elbo(backend, "one particle")
    ours = backend.names.AnnealedSVI(sides.model, sides.guide, make(), loss, TWO)
    theirs = plain_svi(backend)(sides.model, sides.guide, make(), loss)
    assert same(backend, ours, theirs, seed, two) < 1e-9


@pytest.mark.parametrize("backend", ["pyro"], indirect=True)
@pytest.mark.parametrize("kind", COMPILED)
def test_a_compiling_elbo_compiles_once_and_computes_the_same(
    backend: Backend, kind: str, seed: int
) -> None:
    """Each temperature gives the loss and gradients of the plain ELBO at equal noise, to 1e-5.

    The compiled ELBO has the temperature in float32, torch's default: a relative error of 6e-8. The
    model and guide are called for torch.jit.trace, for the search for parameters and for the
    check of gradients. New temperatures compile nothing.
    """
    pyro = importlib.import_module("pyro")
    sides, x = Mixture(backend), backend.array(DATA)
    compiled = getattr(pyro.infer, f"Jit{kind}")(max_plate_nesting=1, ignore_jit_warnings=True)
    plain = getattr(pyro.infer, kind)(max_plate_nesting=1)
    svi = backend.names.AnnealedSVI(sides.model, sides.guide, adam(backend), compiled, TWO)
    for _ in range(STEPS):
        svi.step(x)
    svi.step(x, temperature={"prior": 0.7, "posterior": 0.2})
    assert sides.calls == 3
    assert svi.steps == STEPS + 1
    results = []
    for loss in (svi, plain):
        for step in range(3):
            pyro.set_rng_seed(seed)
            value = loss.loss_and_grads(sides.model, sides.guide, x, temperature=two(step))
            leaves = [leaf for _, leaf in sorted(pyro.get_param_store().named_parameters())]
            results.append([value, *(leaf.grad.numpy().copy() for leaf in leaves)])
            pyro.infer.util.zero_grads(leaves)
    for ours, theirs in zip(results[:3], results[3:], strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert abs(results[0][1] - results[1][1]).max() > 1e-3


@in_numpyro
def test_a_whole_run_compiles_once(backend: Backend) -> None:
    """init and one trace call the model, for 3 steps as for 300."""
    jax = importlib.import_module("jax")
    counts = []
    for steps, bar in [(3, False), (300, False), (20, True)]:
        sides, x = Sides(backend), backend.array(DATA)
        args = sides.model, sides.guide, adam(backend), elbo(backend, "one particle"), TWO
        svi = backend.names.AnnealedSVI(*args)
        svi.run(jax.random.key(0), steps, x, progress_bar=bar)
        counts.append(sides.calls)
    assert counts == [2, 2, 2]
    state, update = svi.init(jax.random.key(0), x), jax.jit(svi.update)
    for _ in range(30):
        state, _ = update(state, x)
    assert sides.calls == 4


@in_numpyro
def test_the_progress_bar_shows_the_temperatures(
    backend: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bar shows the temperatures of the last step beside SVI's own text."""
    jax = importlib.import_module("jax")
    sides, x = Sides(backend), backend.array(DATA)
    args = sides.model, sides.guide, adam(backend), elbo(backend, "one particle")
    losses = {}
    for stable in (False, True):
        svi = backend.names.AnnealedSVI(*args, {"prior": linear(1.0, 0.5, 100), "posterior": 0.3})
        losses[stable] = svi.run(jax.random.key(0), 40, x, stable_update=stable).losses
        printed = capsys.readouterr().err.rpartition("\r")[2]
        first, last = losses[stable][0], losses[stable][-2:].mean()
        text = f"init loss: {first:.4f}, avg. loss [39-40]: {last:.4f}, "
        assert f"{text}temperature['prior']: 0.805, temperature['posterior']: 0.3]" in printed
        assert "40/40" in printed
    plain_svi(backend)(*args).run(jax.random.key(0), 40, x, temperature=two(0))
    assert "avg. loss [39-40]: " in capsys.readouterr().err


@in_numpyro
def test_the_progress_bar_counts_the_losses_that_stable_update_keeps(
    backend: Backend,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The mean ignores NaN losses, and is NaN if all are NaN. The temperature is an array."""
    jax, jnp = importlib.import_module("jax"), importlib.import_module("jax.numpy")
    numpyro = importlib.import_module("numpyro")

    def model(scale: Any, temperature: Any) -> None:
        numpyro.factor("t", -scale * temperature.sum() * numpyro.param("w", 1.0))

    rows = jnp.array([0.25, 0.5])
    args = model, lambda scale: None, adam(backend), elbo(backend, "one particle"), rows
    svi = backend.names.AnnealedSVI(*args)
    svi.run(jax.random.key(0), 1, jnp.nan, stable_update=True)
    assert "avg. loss [1-1]: nan, temperature: 0.25 to 0.5]" in capsys.readouterr().err


class Pair(NamedTuple):
    """Two temperatures by name."""

    prior: Any
    posterior: Any


@pytest.mark.parametrize(
    ("nest", "expected"),
    [
        ({"a": linear(1.0, 0.5, 2), "b": 0.3}, {"a": 0.75, "b": 0.3}),
        ([linear(1.0, 0.5, 2), [0.2]], [0.75, [0.2]]),
        ((0.5, {"c": linear(1.0, 0.5, 2)}), (0.5, {"c": 0.75})),
        (Pair(linear(1.0, 0.5, 2), 1), Pair(0.75, 1)),
        (0.6, 0.6),
        (lambda step: {"a": linear(1.0, 0.5, 2)(step)}, {"a": 0.75}),
    ],
    ids=["dict", "list", "tuple", "named tuple", "number", "schedule of a dict"],
)
def test_model_and_guide_get_the_structure_of_the_schedules(
    backend: Backend, nest: Any, expected: Any
) -> None:
    """Model and guide get the same dicts, lists and tuples of numbers; a number is constant."""
    ppl, seen = backend.ppl, []

    def side(temperature: Any) -> None:
        ppl.param("w", backend.array(0.0))
        seen.append(temperature)

    svi = backend.names.AnnealedSVI(
        side, side, adam(backend), elbo(backend, "one particle"), temperature=nest
    )
    if backend.framework == "pyro":
        svi.steps = 1
        svi.evaluate_loss()
    else:
        state = svi.init(importlib.import_module("jax").random.key(0))
        seen.clear()
        later = state._replace(optim_state=(state.optim_state[0] + 1, state.optim_state[1]))
        svi.evaluate(later)
        assert float_nest(svi.current_temperature(later)) == expected
    assert [float_nest(temperature) for temperature in seen] == [expected] * 2
    assert type(seen[0]) is type(expected) or isinstance(expected, float)


def float_nest(nest: Any) -> Any:
    """The nest with Python floats, rounded to six places."""
    return mapped(lambda x: round(float(x), 6), nest)


def test_a_wrong_entry_is_named(backend: Backend) -> None:
    """An entry that is no schedule raises at once, and a value of 0 or less at its step."""
    sides = Sides(backend)
    args = sides.model, sides.guide, adam(backend), elbo(backend, "one particle")
    text = (
        "AnnealedSVI got temperature['posterior'] of type str; expected a schedule (a function "
        "from a step to a temperature), a number, or a dict, list or tuple of them. "
        "Take one from relaxed_dists.schedules."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        backend.names.AnnealedSVI(*args, {"prior": 1.0, "posterior": "0.5"})
    svi = backend.names.AnnealedSVI(*args, {"prior": 1.0, "posterior": lambda step: -1.0})
    text = "The temperature schedule temperature['posterior'] yielded -1.0; expected positive "
    text += "finite numbers. Give the schedule a floor above zero."
    x = backend.array(DATA)
    calls = [lambda: svi.step(x)]
    if backend.framework == "numpyro":
        key = pytest.importorskip("jax").random.key(0)
        calls = [lambda: svi.init(key, x), lambda: svi.run(key, 3, x)]
    for call in calls:
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            call()


def test_evaluation_at_a_given_temperature(backend: Backend, seed: int) -> None:
    """evaluate gives the framework's ELBO at that temperature, not at the schedule's."""
    sides, x = Sides(backend), backend.array(DATA)
    args = sides.model, sides.guide, adam(backend), elbo(backend, "one particle")
    ours, theirs = backend.names.AnnealedSVI(*args, TWO), plain_svi(backend)(*args)
    at = {"prior": 0.9, "posterior": 0.1}
    if backend.framework == "pyro":
        pyro = importlib.import_module("pyro")

        def evaluated(svi: Any, **kwargs: Any) -> float:
            pyro.set_rng_seed(seed)
            return svi.evaluate_loss(x, **kwargs)

    else:
        key = importlib.import_module("jax").random.key(seed)
        state = ours.init(key, x)
        theirs.init(key, x, temperature=at)

        def evaluated(svi: Any, **kwargs: Any) -> float:
            return float(svi.evaluate(state, x, **kwargs))

    assert evaluated(ours, temperature=at) == evaluated(theirs, temperature=at)
    assert evaluated(ours) == evaluated(theirs, temperature=two(0))
    assert abs(evaluated(ours) - evaluated(ours, temperature=at)) > 1e-3


@in_numpyro
def test_mutable_state_is_kept(backend: Backend) -> None:
    """A mutable counter in the model counts a run's updates, with a progress bar and without."""
    jax, numpyro = importlib.import_module("jax"), importlib.import_module("numpyro")
    sides, x = Sides(backend), backend.array(DATA)

    def model(x: Any, temperature: Any) -> None:
        counter = numpyro.primitives.mutable("counter", {"updates": 0.0})
        counter["updates"] = counter["updates"] + temperature["prior"]
        sides.model(x, temperature)

    args = model, sides.guide, adam(backend), elbo(backend, "one particle"), TWO
    steps = [0, *range(10)]  # init counts as well
    expected = sum(two(step)["prior"] for step in steps)
    for bar in (True, False):
        result = backend.names.AnnealedSVI(*args).run(jax.random.key(0), 10, x, progress_bar=bar)
        updates = result.state.mutable_state["counter"]["updates"]
        np.testing.assert_allclose(updates, expected, rtol=1e-6)
