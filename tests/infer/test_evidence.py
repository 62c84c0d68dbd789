"""Bounds of the evidence against enumeration and closed forms."""

import importlib
import itertools
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp
from scipy.stats import norm

from harness import Backend
from languages import Language
from relaxed_dists._infer.evidence import EvidenceBounds, Running

X = np.array([0.4, -0.8, 1.7, 0.1])
LOCS = np.array([-1.0, 0.0, 1.5])
PRIOR = np.log([0.5, 0.3, 0.2])
LOGITS = np.array([[0.3, 0.8, 0.5], [1.0, 1.2, -0.4], [-0.5, 0.0, 0.9], [0.2, 0.6, 0.0]])

# For each datum and category: log q(z), and the log weight log p(x, z) - log q(z).
LOG_Q = log_softmax(LOGITS, -1)
LOG_W = PRIOR + norm.logpdf(X[:, None], LOCS) - LOG_Q
ELBO = (np.exp(LOG_Q) * LOG_W).sum(-1)
EVIDENCE = logsumexp(LOG_Q + LOG_W, -1)


def mixture(language: Language, how: str = "plain", **options: Any) -> tuple[Any, Any]:
    """A model and a guide with a category for each datum; options set subsampling and handlers."""
    backend = language.backend
    names, array = backend.names, backend.array

    def distribution(logits: Any, guide: bool) -> Any:
        if how == "relaxed":
            return names.ExpRelaxedOneHotCategorical(0.5, logits=logits)
        soft = names.GumbelSoftmax(0.5, hard=False) if how == "estimated" and guide else None
        return names.OneHotCategorical(logits=logits, estimator=soft)

    def within(handlers: list[Callable[[], Any]]) -> ExitStack:
        stack = ExitStack()
        for handler in handlers:
            stack.enter_context(handler())
        return stack

    x, logits = array(options.get("x", X)), array(options.get("logits", LOGITS))

    def model() -> None:
        with (
            within(options.get("around", [])),
            language.plate("data", len(x), -1, options.get("subsample")) as rows,
        ):
            with within(options.get("latent", [])):
                z = language.sample("z", distribution(array(PRIOR), False))
            z = language.exp(z) if how == "relaxed" else z
            loc = (z * array(LOCS)).sum(-1)
            language.sample("x", language.normal(loc, array(1.0)), obs=x[rows])
        language.deterministic("beside the plate", logits.sum())

    def guide() -> None:
        with (
            within(options.get("around", [])),
            language.plate("data", len(x), -1, options.get("subsample")) as rows,
        ):
            language.sample("z", distribution(logits[rows], True))

    return model, guide


def hierarchy(language: Language, with_top: bool) -> tuple[Any, Any]:
    """A model with one category that shifts all data, and a category for each datum."""
    names, array = language.backend.names, language.backend.array

    def model() -> None:
        top = language.sample("top", names.OneHotCategorical(logits=array(PRIOR)))
        with language.plate("data", len(X), -1):
            z = language.sample("z", names.OneHotCategorical(logits=array(PRIOR)))
            loc = ((z + top) * array(LOCS)).sum(-1)
            language.sample("x", language.normal(loc, array(1.0)), obs=array(X))

    def guide() -> None:
        if with_top:
            language.sample("top", names.OneHotCategorical(logits=array([0.1, 0.0, 0.3])))
        with language.plate("data", len(X), -1):
            language.sample("z", names.OneHotCategorical(logits=array(LOGITS)))

    return model, guide


def hierarchy_evidence() -> float:
    """The log evidence of hierarchy, as a sum over all values."""
    inner = PRIOR + norm.logpdf(X[:, None], (LOCS[:, None] + LOCS)[:, None, :])
    return float(logsumexp(PRIOR + logsumexp(inner, -1).sum(-1)))


def near(got: float, expected: float, error: float, bias: float = 0.0) -> bool:
    """Whether a number is within 5 standard errors (false alarms 6e-7), plus a known bias."""
    return abs(got - expected) < 5 * error + bias


# Tests of the running sums, without a framework.


def chunks(weights: np.ndarray) -> Iterator[np.ndarray]:
    """Split the weights into chunks of 1, 2, 3, ... samples."""
    start = size = 0
    while start < len(weights):
        size += 1
        yield weights[start : start + size]
        start += size


@pytest.mark.parametrize("shift", [0.0, 1e6, -1e6])
def test_running_sums_are_those_of_all_samples(shift: float) -> None:
    """Means, log means and errors equal those of NumPy and SciPy; rtol 1e-9."""
    weights = np.random.default_rng(0).normal(shift, 3, (200, 5))
    running = Running()
    for piece in chunks(weights):
        running.add(piece)
    got = running.bounds(2.0)
    log_mean = logsumexp(weights, 0) - np.log(200)
    relative = np.exp(weights - log_mean)  # of mean 1
    np.testing.assert_allclose(got.elbo, 2 * weights.mean(0).sum(), rtol=1e-12)
    np.testing.assert_allclose(got.importance_weighted, 2 * log_mean.sum(), rtol=1e-12)
    np.testing.assert_allclose(got.elbo_pointwise, weights.mean(0), rtol=1e-12)
    np.testing.assert_allclose(got.importance_weighted_pointwise, log_mean, rtol=1e-12)
    for error, values in (
        (got.elbo_error, weights),
        (got.importance_weighted_error, relative),
    ):
        expected = 2 * np.sqrt((values.var(0, ddof=1) / 200).sum())
        np.testing.assert_allclose(error, expected, rtol=1e-9)


def test_running_sums_of_impossible_values() -> None:
    """A zero weight makes the ELBO -inf, but not the other bound; zeros alone make both -inf."""
    running = Running()
    running.add([[-np.inf], [-np.inf]])
    assert running.bounds()[:3:2] == (-np.inf, -np.inf)
    running.add([[0.0], [0.0]])
    got = running.bounds()
    assert got.elbo == -np.inf
    np.testing.assert_allclose(got.importance_weighted, np.log(0.5))
    # The weights 0, 0, 1, 1 have the mean 1/2 and the sample variance 1/3.
    np.testing.assert_allclose(got.importance_weighted_error, np.sqrt(1 / 3 / 4) / 0.5)


def test_the_error_of_one_sample_is_unknown() -> None:
    """The error is NaN, without a warning."""
    running = Running()
    running.add([[1.0, 2.0]])
    elbo, error, weighted, weighted_error, *_ = running.bounds()
    assert elbo == weighted == 3.0
    assert "elbo_error=nan, importance_weighted=3.0" in repr(running.bounds())
    assert repr(running.bounds()).endswith(", ...)")
    assert np.isnan([error, weighted_error]).all()


@pytest.mark.parametrize("axis", [-1, 0])
def test_parts_joined_are_the_whole(axis: int) -> None:
    """Bounds of parts of the data, joined along an axis, are those of all data; rtol 1e-12."""
    weights = np.random.default_rng(0).normal(0, 3, (200, 3, 7))

    def bounds(part: np.ndarray) -> EvidenceBounds:
        running = Running()
        running.add(part)
        return running.bounds()

    cuts = [1, 3] if axis else [2]
    parts = np.split(weights, cuts, axis if axis < 0 else axis + 1)
    joined = EvidenceBounds.joined((bounds(part) for part in parts), axis)
    for got, expected in zip(joined, bounds(weights), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("parts", [0, 2])
def test_parts_without_data_are_refused(parts: int) -> None:
    """No parts can't be joined, nor parts whose data share one weight."""
    running = Running()
    running.add(np.zeros(3))
    what = "a part whose sites share no plate" if parts else "no parts"
    expected = f"joined got {what}; expected .* Put the data into a plate"
    with pytest.raises(ValueError, match=expected):
        EvidenceBounds.joined([running.bounds()] * parts)


def test_scaled_parts_are_refused() -> None:
    """A part whose sums are scaled to all data would be counted too often."""
    running = Running()
    running.add(np.array([[-1.0, -2.0], [-3.0, -np.inf]]))
    assert EvidenceBounds.joined([running.bounds()] * 2).elbo == -np.inf
    running = Running()
    running.add(np.array([[-1.0, -2.0], [-3.0, 1.0]]))
    expected = r"joined got a part whose elbo is -5\.0, but -2\.5 in .*score each part in a plate"
    with pytest.raises(ValueError, match=expected):
        EvidenceBounds.joined([running.bounds(), running.bounds(2.0)])


# Tests of the bounds of models.


@pytest.mark.parametrize("how", ["plain", "relaxed", "estimated"])
def test_a_mixture(language: Language, how: str, seed: int) -> None:
    """Bounds and errors agree with enumeration, for all kinds of distribution.

    The importance-weighted bound of 4,000 samples is 2e-4 below the evidence. The errors are right
    to 10 %; the smallest is 0.01.
    """
    got = language.bounds(*mixture(language, how), seed, num_samples=4000, chunk_size=1500)
    assert near(got.elbo, ELBO.sum(), got.elbo_error)
    error = got.importance_weighted_error
    assert near(got.importance_weighted, EVIDENCE.sum(), error, 1e-3)
    q = np.exp(LOG_Q)
    variance = (q * LOG_W**2).sum(-1) - ELBO**2
    relative = (q * np.exp(2 * (LOG_W - EVIDENCE[:, None]))).sum(-1) - 1
    np.testing.assert_allclose(got.elbo_error, np.sqrt(variance.sum() / 4000), rtol=0.1)
    np.testing.assert_allclose(error, np.sqrt(relative.sum() / 4000), rtol=0.1)
    for each, exact, of_each, bias in (
        (got.elbo_pointwise, ELBO, variance, 0),
        (got.importance_weighted_pointwise, EVIDENCE, relative, 3e-4),
    ):
        assert (abs(each - exact) < 5 * np.sqrt(of_each / 4000) + bias).all()


def test_data_in_two_plates(language: Language, seed: int) -> None:
    """The bounds of the data have the shape of the plates around all sites; others are summed."""
    names, array = language.backend.names, language.backend.array
    x = np.arange(24.0).reshape(2, 3, 4) % 2

    def model() -> None:
        with language.plate("rows", 2, -3), language.plate("columns", 4, -1):
            language.sample("top", names.Bernoulli(logits=array(0.0)))
            with language.plate("within", 3, -2):
                z = language.sample("z", names.Bernoulli(logits=array(0.0)))
                language.sample("x", names.Bernoulli(probs=0.25 + z / 2), obs=array(x))

    def guide() -> None:
        with language.plate("rows", 2, -3), language.plate("columns", 4, -1):
            language.sample("top", names.Bernoulli(logits=array(0.0)))
            with language.plate("within", 3, -2):
                language.sample("z", names.Bernoulli(logits=array(2 * np.log(3) * (x - 0.5))))

    # The guide is the posterior, so each sample has the weight p(x) = 1/2 to the third power.
    got = language.bounds(model, guide, seed, num_samples=2)
    for each in (got.elbo_pointwise, got.importance_weighted_pointwise):
        np.testing.assert_allclose(each, np.full((2, 4), 3 * np.log(0.5)), rtol=1e-6)
    np.testing.assert_allclose(got.elbo, 24 * np.log(0.5), rtol=1e-6)


@pytest.mark.parametrize("with_top", [True, False])
def test_a_latent_variable_that_data_share(language: Language, with_top: bool, seed: int) -> None:
    """All data share one weight; a weight for each datum would give a number 0.5 away.

    The same holds if the guide lacks that variable, which the model then draws.
    """
    got = language.bounds(*hierarchy(language, with_top), seed, num_samples=4000, chunk_size=4000)
    error = got.importance_weighted_error
    assert error < 0.05
    assert near(got.importance_weighted, hierarchy_evidence(), error, 5e-3)
    assert got.importance_weighted_pointwise.shape == ()
    assert got.importance_weighted_pointwise == got.importance_weighted


def test_a_continuous_latent_variable(language: Language, seed: int) -> None:
    """x = z + e of normal z and e has the evidence N(x; 0, 2)."""
    array = language.backend.array

    def model(x: Any) -> None:
        with language.plate("data", len(X), -1):
            z = language.sample("z", language.normal(array(0.0), array(1.0)))
            language.sample("x", language.normal(z, array(1.0)), obs=x)

    def guide(x: Any) -> None:
        with language.plate("data", len(X), -1):
            language.sample("z", language.normal(x / 2, array(0.8)))

    got = language.bounds(model, guide, seed, array(X), num_samples=2000, chunk_size=1000)
    evidence = norm.logpdf(X, 0, np.sqrt(2)).sum()
    assert near(got.importance_weighted, evidence, got.importance_weighted_error, 1e-3)
    # The mean of log p(x, z) - log q(z) is log p(x) - KL(guide, N(x / 2, 1/2)).
    divergence = len(X) * (0.5 * (0.64 / 0.5 - 1 - np.log(0.64 / 0.5)))
    assert near(got.elbo, evidence - divergence, got.elbo_error)


def test_chunks(language: Language, seed: int) -> None:
    """Chunks of any size work: with equal numbers in NumPyro, with other draws in Pyro."""
    model, guide = mixture(language)
    pieces = {
        size: language.bounds(model, guide, seed, num_samples=60, chunk_size=size)
        for size in (1, 7, 60)
    }
    for got in pieces.values():
        if language.backend.framework == "numpyro":
            for ours, whole in zip(got, pieces[60], strict=True):
                np.testing.assert_allclose(ours, whole, rtol=1e-9)
        error = got.elbo_error
        assert near(got.elbo, ELBO.sum(), error)
        assert near(got.importance_weighted, EVIDENCE.sum(), got.importance_weighted_error, 0.05)


def test_data_scored_in_parts(language: Language, seed: int) -> None:
    """The joined bounds of two parts of the data agree with enumeration of all."""
    parts = [mixture(language, x=X[rows], logits=LOGITS[rows]) for rows in (slice(1), slice(1, 4))]
    got = EvidenceBounds.joined(
        language.bounds(*part, seed + i, num_samples=2000) for i, part in enumerate(parts)
    )
    assert near(got.elbo, ELBO.sum(), got.elbo_error)
    assert near(got.importance_weighted, EVIDENCE.sum(), got.importance_weighted_error, 1e-3)
    assert (abs(got.importance_weighted_pointwise - EVIDENCE) < 0.2).all()


def test_a_shared_plate_may_be_subsampled(language: Language, seed: int) -> None:
    """With two of four equal data, each bound and error is twice that of the minibatch."""
    same = {"x": np.full(4, X[0]), "logits": np.tile(LOGITS[0], (4, 1))}
    model, guide = mixture(language, subsample=2, **same)
    got = language.bounds(model, guide, seed, num_samples=2000, chunk_size=500)
    assert near(got.elbo, 4 * ELBO[0], got.elbo_error)
    assert near(got.importance_weighted, 4 * EVIDENCE[0], got.importance_weighted_error, 2e-3)
    relative = (np.exp(LOG_Q[0] + 2 * (LOG_W[0] - EVIDENCE[0]))).sum() - 1
    expected = 2 * np.sqrt(2 * relative / 2000)
    np.testing.assert_allclose(got.importance_weighted_error, expected, rtol=0.2)


def test_the_minibatch_stays_from_chunk_to_chunk(language: Language, seed: int) -> None:
    """If the guide is the posterior, all log weights equal the evidence, without variance."""
    posterior = PRIOR + norm.logpdf(X[:, None], LOCS)
    model, guide = mixture(language, subsample=2, logits=posterior)
    got = language.bounds(model, guide, seed, num_samples=9, chunk_size=3)
    pairs = [2 * EVIDENCE[list(pair)].sum() for pair in itertools.combinations(range(4), 2)]
    assert min(abs(np.array(pairs) - got.elbo)) < 1e-6
    np.testing.assert_allclose(2 * got.elbo_pointwise.sum(), got.elbo)
    assert got.elbo_error < 1e-6


def test_masks_and_scales_around_model_and_guide(language: Language, seed: int) -> None:
    """Sites masked in both add nothing; one scale at all sites multiplies the bounds."""
    keep = np.array([True, False, True, True])
    handlers = [
        lambda: language.mask(language.backend.array(keep, "bool")),
        lambda: language.scale(0.5),
    ]
    model, guide = mixture(language, around=handlers)
    got = language.bounds(model, guide, seed, num_samples=2000, chunk_size=1000)
    assert near(got.elbo, 0.5 * ELBO[keep].sum(), got.elbo_error)
    error = got.importance_weighted_error
    assert near(got.importance_weighted, 0.5 * EVIDENCE[keep].sum(), error, 1e-3)


def test_temperature_reaches_those_that_take_it(language: Language, seed: int) -> None:
    """Only the guide takes a temperature, which does not change the bounds."""
    model, guide = mixture(language, "relaxed")
    seen = []

    def annealed(temperature: float) -> None:
        seen.append(temperature)
        guide()

    got = language.bounds(model, annealed, seed, num_samples=4, temperature=0.5)
    assert set(seen) == {0.5}
    assert got[:4] == language.bounds(model, guide, seed, num_samples=4)[:4]


# Tests of errors.


def test_unlike_scales_are_refused(language: Language) -> None:
    """A scale at only one site raises, and so does a site outside of a subsampled plate."""
    model, guide = mixture(language, latent=[lambda: language.scale(0.5)])
    with pytest.raises(ValueError, match=r"sites with the scales z: 0\.5, x: 1\.0, z: 1\.0"):
        language.bounds(model, guide, 0)
    names, array = language.backend.names, language.backend.array

    def part() -> None:
        language.sample("top", names.Bernoulli(logits=array(0.0)))
        with language.plate("data", 4, -1, 2):
            language.sample("z", names.Bernoulli(logits=array(0.0)))

    with pytest.raises(ValueError, match=r"a plate around all sites of model and guide may be"):
        language.bounds(part, part, 0)


def test_a_continuous_guide_is_refused(language: Language) -> None:
    """Bounds raise an error, since the discrete model has hard values, and the guide soft ones."""
    array = language.backend.array
    model, _ = mixture(language, "relaxed")

    def guide() -> None:
        with language.plate("data", 4, -1):
            distribution = language.normal(array(np.zeros((4, 3))), array(1.0))
            language.sample("z", distribution.to_event(1))

    with pytest.raises(ValueError, match=r"the site 'z', .* and the guide from Normal; expected a"):
        language.bounds(model, guide, 0)


def test_a_guide_of_one_value(language: Language) -> None:
    """A hard value has the bound log p(x, z); a soft one, as by AutoDelta, raises."""
    dist = importlib.import_module(f"{language.backend.framework}.distributions")
    array, rows = language.backend.array, np.eye(3)[[0, 1, 2, 2]]
    model, _ = mixture(language)

    def bounds(value: np.ndarray) -> Any:
        def guide() -> None:
            with language.plate("data", 4, -1):
                language.sample("z", dist.Delta(array(value), event_dim=1))

        return language.bounds(model, guide, 0, num_samples=2)

    expected = (rows @ PRIOR).sum() + norm.logpdf(X, rows @ LOCS).sum()
    np.testing.assert_allclose(bounds(rows).elbo, expected, rtol=1e-12)
    with pytest.raises(ValueError, match=r"'z', .* the guide from a Delta at another value"):
        bounds(0.9 * rows + 0.1 / 3)


def test_bad_arguments_are_refused(language: Language) -> None:
    """Numbers of samples that are not whole or below 1 raise, and so does a model without sites."""
    model, guide = mixture(language)
    bad = (0, -1, 2.5, True, math.nan, math.inf, "5", [5], np.ones(2))
    both = itertools.product(("num_samples", "chunk_size"), bad)
    for name, count in [("num_samples", None), *both]:
        with pytest.raises(ValueError, match=f"got {name}=.*; expected a whole number"):
            language.bounds(model, guide, 0, **{name: count})
    with pytest.raises(ValueError, match="a model without sample sites"):
        language.bounds(lambda: None, lambda: None, 0)


@pytest.mark.parametrize("transform", ["jit", "vmap", "grad"])
@pytest.mark.parametrize("name", ["evidence_bounds", "exact_evidence"])
def test_a_traced_call_is_refused(backend: Backend, name: str, transform: str) -> None:
    """Both return numbers, so JAX can't trace them, and the error says what to do."""
    if backend.framework == "pyro":
        pytest.skip("Pyro's functions are not traced")
    if name == "exact_evidence":
        pytest.importorskip("funsor")

    def call(x: Any) -> Any:
        names, sample = backend.names, backend.language.sample

        def guide() -> Any:
            return sample("z", names.Bernoulli(logits=x))

        def model() -> None:
            sample("y", names.Bernoulli(logits=guide()), obs=backend.array(1.0))

        if name == "exact_evidence":
            return names.exact_evidence({}, model)
        return backend.language.bounds(model, guide, 0, num_samples=2).elbo

    traced = getattr(importlib.import_module("jax"), transform)(call)
    x = backend.array([1.0] if transform == "vmap" else 1.0)
    with pytest.raises(ValueError, match=f"^{name} got traced arrays; .* See docs/devices.md."):
        traced(x)


def test_a_call_without_its_first_arguments() -> None:
    """NumPyro's functions say which argument is wrong, and end in the call with all arguments."""
    pytest.importorskip("numpyro")
    pytest.importorskip("funsor")
    import jax
    import numpyro
    from numpyro.infer import Trace_ELBO

    from relaxed_dists.numpyro import AnnealedSVI, evidence_bounds, exact_evidence

    def model(x: Any) -> None:
        loc = numpyro.param("loc", 0.0)
        numpyro.sample("x", numpyro.distributions.Normal(loc, 1.0), obs=x)

    def guide(x: Any) -> None:
        pass

    key, params, x = jax.random.key(0), {"loc": 0.0}, np.ones(3)
    keys = jax.random.split(key)
    svi = AnnealedSVI(model, guide, numpyro.optim.Adam(0.1), Trace_ELBO())
    array = r"of type ndarray and shape \(3,\)"
    bounds = r"evidence_bounds\(rng_key, params, model, guide, \.\.\.\)"
    exact = r"exact_evidence\(params, model, \.\.\.\)"
    run = r"AnnealedSVI\.run\(rng_key, num_steps, \.\.\.\)"
    init = r"AnnealedSVI\.init\(rng_key, \.\.\.\)"
    calls: list[tuple[Callable[[], Any], str, str]] = [
        (lambda: evidence_bounds(params, model, guide, x), "rng_key of type dict", bounds),
        (lambda: evidence_bounds(key, model, guide, x), "params of type function", bounds),
        (lambda: evidence_bounds(key, params, model, x), rf"guide {array}", bounds),
        (lambda: exact_evidence(model, x), "params of type function", exact),
        (lambda: exact_evidence(params, x), rf"model {array}", exact),
        (lambda: svi.run(200, x), "rng_key of type int", run),
        (lambda: svi.init(x), rf"rng_key {array}", init),
        (lambda: svi.init(keys, x), r"rng_key of type PRNGKeyArray and shape \(2,\)", init),
    ]
    for call, got, whole in calls:
        name = whole.partition(r"\(")[0]
        with pytest.raises(ValueError, match=rf"^{name} got {got}; expected .*\. Write {whole}\.$"):
            call()
    state = svi.init(key, x)
    for bar in (True, False):  # a run that continues needs no key, as in NumPyro
        svi.run(None, 1, x, init_state=state, progress_bar=bar)  # type: ignore[arg-type]
    kwargs = {"num_samples": 2, "progress_bar": False}
    for good in (key, jax.random.key_data(key)):  # both kinds of keys
        assert np.isfinite(evidence_bounds(good, params, model, guide, x, **kwargs).elbo)


def test_buffers_of_modules_are_restored() -> None:
    """In training mode a BatchNorm's running means stay those of the training; noise goes on."""
    pytest.importorskip("pyro")
    import pyro
    import torch

    from relaxed_dists.pyro import Bernoulli, evidence_bounds, exact_evidence

    norm = torch.nn.BatchNorm1d(1)
    x = torch.tensor([3.0, 4.0, 5.0])

    def program(observed: bool) -> None:
        logits = norm(x[:, None])[:, 0]
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", Bernoulli(logits=logits))
            if observed:
                pyro.sample("x", pyro.distributions.Normal(z, 1.0), obs=x)

    model, guide = partial(program, True), partial(program, False)
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    pyro.set_rng_seed(0)
    kwargs = {"num_samples": 4, "progress_bar": False}
    first, second = (evidence_bounds(model, guide, **kwargs).elbo for _ in range(2))
    assert first != second
    exact_evidence(model)
    for name, buffer in norm.named_buffers():
        assert torch.equal(buffer, before[name]), name
    norm(x[:, None])  # a call outside changes them
    assert not torch.equal(norm.running_mean, before["running_mean"])


def test_buffers_that_a_module_assigns_are_restored() -> None:
    """So are those of parts that are not called, and shared ones; a lazy module keeps its first."""
    pytest.importorskip("pyro")
    import pyro
    import torch

    from relaxed_dists.pyro import Bernoulli, evidence_bounds, exact_evidence

    class Counts(torch.nn.Module):
        """Assigns a buffer of its own, and writes to one of a part that is not called."""

        total: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.zeros(()))
            self.register_buffer("last", None)
            self.part = torch.nn.BatchNorm1d(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.total = self.total + 1
            self.last = x.mean()
            assert self.part.num_batches_tracked is not None
            self.part.num_batches_tracked += 1
            return x

    counts, shares, lazy = Counts(), torch.nn.BatchNorm1d(1), torch.nn.LazyBatchNorm1d()
    shares.running_mean = counts.part.running_mean
    total = counts.total

    def model() -> None:
        x = lazy(shares(counts.part(counts(torch.tensor([[1.0], [2.0]])))))
        z = pyro.sample("z", Bernoulli(probs=torch.tensor(0.5)))
        pyro.sample("x", pyro.distributions.Normal(x.sum() + z, 1.0), obs=torch.tensor(1.0))

    def guide() -> None:
        pyro.sample("z", Bernoulli(probs=torch.tensor(0.5)))

    pyro.set_rng_seed(0)
    evidence_bounds(model, guide, num_samples=4, progress_bar=False)
    exact_evidence(model)
    assert counts.total is total
    assert float(total) == 0.0
    assert counts.last is None
    assert int(counts.part.num_batches_tracked or 0) == 0
    assert float(counts.part.running_mean or 0.0) == 0.0
    assert shares.running_mean is counts.part.running_mean
    assert lazy.running_mean is not None
    first = lazy.running_mean.clone()
    exact_evidence(model)
    assert torch.equal(lazy.running_mean, first)


def test_whole_floats_are_numbers_of_samples(language: Language) -> None:
    """1e1 samples in chunks of 4.0 give what 10 samples in chunks of 4 give."""
    model, guide = mixture(language)
    expected = language.bounds(model, guide, 0, num_samples=10, chunk_size=4)
    assert language.bounds(model, guide, 0, num_samples=1e1, chunk_size=4.0)[:4] == expected[:4]


def test_the_progress_bar(language: Language, capsys: pytest.CaptureFixture[str]) -> None:
    """The bar counts samples, and only appears if asked for."""
    model, guide = mixture(language)
    language.bounds(model, guide, 0, num_samples=6, chunk_size=2, progress_bar=True)
    assert "6/6" in capsys.readouterr().err
    language.bounds(model, guide, 0, num_samples=6)
    assert capsys.readouterr().err == ""


PEAK = """
import resource, sys
sys.path[:0] = {path!r}
import numpy as np
from harness import BACKENDS
from languages import LANGUAGES
language = LANGUAGES[{name!r}](BACKENDS[{name!r}]())
names, array = language.backend.names, language.backend.array
logits = array(np.zeros(20_000), "float32")
def model():
    with language.plate("data", 20_000, -1):
        z = language.sample("z", names.Bernoulli(logits=logits))
        language.sample("x", names.Bernoulli(logits=z), obs=logits)
def guide():
    with language.plate("data", 20_000, -1):
        language.sample("z", names.Bernoulli(logits=logits))
for samples in (20, 400):
    language.bounds(model, guide, 0, num_samples=samples, chunk_size=10)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_samples(language: Language) -> None:
    """From 20 to 400 samples of 20,000 data the peak grows by less than a fifth of their weights.

    The weights need 32 MB in float32, and the latent values as much.
    """
    code = PEAK.format(path=[p for p in sys.path if p], name=language.backend.framework)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    few, many = (int(line) for line in result.stdout.split())  # kilobytes
    assert many - few < 6_000, result.stdout
