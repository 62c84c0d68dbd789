"""Losses with unbiased gradients: their means, against enumeration, and their parts."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logit, softmax

from fits import fit, mean_field
from harness import BACKENDS, Backend, Jax
from languages import Language
from models import MODELS
from numpy_ops import NumpyOps
from relaxed_dists._infer import unbiased
from relaxed_dists._infer.unbiased import Relaxation
from relaxed_dists.schedules import constant
from unbiased import PROBLEMS, Params

COPIES = 20_000
FREE = {"w": np.array([0.5, -0.7, 0.3])}  # parameters of the surrogate


def surrogate(backend: Backend, name: str) -> Callable[..., Any]:
    """A control variate that is nonlinear in the values, and far from a good one."""
    tanh = backend.xp.tanh

    def r(w: Any, values: Any) -> Any:
        z, b = values["z"], values["b"]
        first, second = (b, b) if name == "plates" else (b[..., 1], b[..., 0])
        return tanh(w[0] * z[..., 0] * 2 + w[1] * first) + w[2] * second

    if backend.framework == "numpyro":
        return lambda params, values: r(params["w"], values)
    return lambda values: r(backend.ppl.param("w"), values)


def losses(backend: Backend, name: str) -> dict[str, Any]:
    """The losses, by their names in the tests."""
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
    """The gradient estimates of a loss, with a surrogate's parameters if it has them."""
    more = [FREE] if getattr(loss, "surrogate", None) else []
    return PROBLEMS[name].estimates(backend, loss, COPIES, seed, *more)[0][0]


@functools.cache
def found_by(framework: str, name: str, label: str, seed: int) -> Params:
    """The gradient estimates of a loss by its name, cached for two tests."""
    backend = BACKENDS[framework]()
    return one(backend, name, losses(backend, name)[label], seed)


CASES = {
    "plates": ["leave-one-out", "REBAR of two", "RELAX alone"],
    "chain": ["leave-one-out", "REBAR", "RELAX"],
}


@pytest.mark.share
@pytest.mark.parametrize(("name", "label"), [(n, k) for n, labels in CASES.items() for k in labels])
def test_unbiased(backend: Backend, name: str, label: str, seed: int) -> None:
    """The mean over 20,000 copies is the gradient of the exact ELBO, by all parameters.

    Model and guide have plates, scales, masks and several dependent sites, one of them continuous.
    Fewer than one run in 10,000 of all these fails by chance. A bias of 4 % of the gradient's norm
    in any parameter fails. A share of the cases runs each loss in one framework in turn; the test
    of the variance has leave-one-out and REBAR in each framework.
    """
    found = found_by(backend.framework, name, label, seed)
    assert worst(found, PROBLEMS[name].exact()) < 5


def included(f: Any) -> Any:
    """A wrong baseline: the mean of all particles, with the particle itself."""
    return f - f.mean(0)


WRONG = {
    "own particle": (unbiased, "less_the_others", included, "leave-one-out"),
    # With constant noise behind z~, its gradient equals that of z, and both cancel.
    "detached noise": (Relaxation, "correction", lambda draw, slope: 0.0 * slope, "REBAR"),
    "one level": (unbiased, "levels", lambda parents: [list(parents)], "REBAR"),
}


@pytest.mark.parametrize("backend", ["pyro"], indirect=True)  # both backends share this code
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_versions_are_biased(
    backend: Backend, wrong: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Wrong baselines, detached conditional noise, and a guide treated as mean-field are seen.

    Each of these biases is 42 standard errors or more.
    """
    where, name, instead, label = WRONG[wrong]
    loss = losses(backend, "chain")[label]
    monkeypatch.setattr(where, name, instead)
    assert worst(one(backend, "chain", loss, seed), PROBLEMS["chain"].exact()) > 8


@pytest.mark.parametrize("one_hot", [True, False])
def test_pathwise_gradients_of_a_fixed_draw(one_hot: bool) -> None:
    """The derivative of c(s(z)) - c(s(z~ given b)) agrees with central differences.

    z~ is that of Paulus et al. (2021), equation 6, for categories, and that of the appendix of
    Tucker et al. (2017) for one logit.
    """
    rng = np.random.default_rng(0)
    theta = rng.normal(0, 1.5, (50, 4) if one_hot else 50)
    noise = rng.gumbel(size=theta.shape) if one_hot else rng.logistic(size=50)
    temperature, slope = rng.uniform(0.3, 1.5, 50), rng.normal(size=theta.shape)
    draw = Relaxation(NumpyOps(), one_hot, theta, noise, temperature)

    def soft(z: np.ndarray) -> np.ndarray:
        return softmax(z / temperature[:, None], -1) if one_hot else expit(z / temperature)

    p = softmax(theta, -1) if one_hot else expit(theta)
    if one_hot:
        z = np.log(p) + noise
        assert (draw.hard == (z == z.max(-1, keepdims=True))).all()
        top = np.exp(-z.max(-1, keepdims=True))
        rest = p * (np.exp(-z) - top)  # standard exponential, given b

        def given(theta: np.ndarray) -> np.ndarray:
            with np.errstate(divide="ignore"):
                others = -np.log(top + rest / softmax(theta, -1))
            return np.where(draw.hard == 1, -np.log(top), others)
    else:
        z = theta + noise
        u = expit(noise)
        v = np.where(z > 0, (u - (1 - p)) / p, u / (1 - p))  # uniform, given b

        def given(theta: np.ndarray) -> np.ndarray:
            q = expit(theta)
            return np.where(z > 0, logit(1 - q + v * q), logit(v * (1 - q))) + theta

    np.testing.assert_allclose(soft(given(theta)), soft(z), rtol=1e-9)
    np.testing.assert_allclose(draw.soft, soft(z), rtol=1e-9)
    expected, by = np.zeros_like(theta), np.eye(4) * 1e-6 if one_hot else np.full((1, 50), 1e-6)
    for k, step in enumerate(by):
        ends = [soft(x + noise) - soft(given(x)) for x in (theta + step, theta - step)]
        moved = slope * (ends[0] - ends[1]) / 2e-6
        expected[(..., k) if one_hot else ...] = moved.sum(-1) if one_hot else moved
    np.testing.assert_allclose(draw.correction(slope), expected, rtol=1e-6, atol=1e-8)


def test_trained_for_a_small_second_moment(backend: Backend, seed: int) -> None:
    """The surrogate's gradient is that of the squared estimate, by differences at fixed noise."""
    loss = backend.names.RELAX_ELBO(surrogate(backend, "plates"), eta="eta")
    at, shift = {**FREE, "eta": np.array([0.8])}, 1e-5
    moved = [
        at | {name: at[name] + sign * shift * step}
        for name in at
        for step in np.eye(len(at[name]))
        for sign in (1, -1)
    ]
    found = PROBLEMS["plates"].estimates(backend, loss, 100, seed, at, *moved)
    squares = [sum((x[k] ** 2).sum() for k in ("theta", "phi")) for x, _ in found]
    expected = (np.array(squares[1::2]) - np.array(squares[2::2])) / (2 * shift)
    got = np.concatenate([found[0][1][name] for name in at])
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_variance(backend: Backend, seed: int) -> None:
    """At two evaluations, the variance is below that of the framework's score function.

    For the chain's first site it is a sixth by leave-one-out, and a seventh by REBAR.
    """
    infer = backend.infer
    own = infer.TraceGraph_ELBO if isinstance(backend, Jax) else infer.Trace_ELBO
    problem, exact = PROBLEMS["chain"], PROBLEMS["chain"].exact()
    plain = problem.estimates(backend, own(2), COPIES, seed, temperature=None)[0][0]
    assert worst(plain, exact) < 5
    for label in ("leave-one-out", "REBAR"):
        found = found_by(backend.framework, "chain", label, seed)
        assert worst(found, exact) < 5
        assert found["theta"].var(0).sum() < 0.35 * plain["theta"].var(0).sum()


@pytest.mark.share
@pytest.mark.parametrize("label", ["leave-one-out", "REBAR", "RELAX"])
def test_annealed_svi_reaches_the_best_bound(backend: Backend, label: str, seed: int) -> None:
    """AnnealedSVI fits the model `gates`, with a hand-written guide or, for REBAR, an AutoRelaxed.

    The largest gap of 18 runs was 0.006; GumbelSoftmax under the framework's loss has 0.16.
    A share of the cases runs each loss in one of the frameworks.
    """
    model, ours = MODELS["gates"], backend.names
    program, jax = functools.partial(model.program, backend), isinstance(backend, Jax)
    by_hand = mean_field(backend, model, lambda ours, t: ours.GumbelSoftmax(t))

    def guide(temperature: Any) -> None:
        backend.ppl.param("w", backend.array(np.zeros(4)))
        by_hand(temperature)

    def r(*given: Any) -> Any:
        w = given[0]["w"] if jax else backend.ppl.param("w")
        return (given[-1]["z"] * w).sum(-1)

    made: dict[str, tuple[Any, Any]] = {
        "leave-one-out": (ours.LeaveOneOut_ELBO, by_hand),
        "REBAR": (ours.REBAR_ELBO, ours.AutoRelaxed(program, estimator=ours.GumbelSoftmax)),
        "RELAX": (functools.partial(ours.RELAX_ELBO, r), guide),
    }
    loss, chosen = made[label]
    params = fit(backend, program, chosen, constant(0.5), seed, loss, 20)
    if label == "REBAR":
        found = backend.language.ask(chosen, "discrete_posterior", params)
        logits = found["z"].base_dist.logits
    else:
        logits = params["z_logits"]
    assert -1e-9 < model.best - model.bound(model.rows({"z": backend.numpy(logits)})) < 0.03


def ordinary(pp: Backend, **how: Any) -> tuple[Any, Any]:
    """A model of one site in a plate of two, and its guide; `how` replaces parts of them."""
    estimator = how.get("estimator", pp.names.GumbelSoftmax(0.5))

    def site() -> Any:
        return pp.names.Bernoulli(logits=pp.ppl.param("theta"), estimator=estimator)

    def model() -> None:
        with pp.ppl.plate("rows", 2):
            prior = how.get("prior", lambda: pp.names.Bernoulli(probs=pp.array(0.5)))
            mean = how.get("mean", lambda z: z)(pp.ppl.sample("z", prior()))
            pp.ppl.sample("x", pp.dist.Normal(mean, 1.0), obs=pp.array([1.0, 0.0]))

    def guide() -> None:
        with pp.ppl.plate("rows", 2):
            pp.ppl.sample("z", how.get("site", site)())

    return model, guide


BAD: dict[str, tuple[Callable[[Any], Any], Callable[[Backend], dict[str, Any]], str]] = {
    "one particle": (
        lambda n: n.LeaveOneOut_ELBO(1), lambda pp: {},
        "LeaveOneOut_ELBO got num_particles=1; expected a whole number of at least 2. The baseline",
    ),
    "no particle": (
        lambda n: n.REBAR_ELBO(0), lambda pp: {},
        "REBAR_ELBO got num_particles=0; expected a whole number of at least 1. Take 1",
    ),
    "eta": (
        lambda n: n.REBAR_ELBO(eta=np.nan), lambda pp: {},
        "got eta=nan; expected a finite number, or the name of a parameter",
    ),
    "no such eta": (
        lambda n: n.REBAR_ELBO(eta="eta"), lambda pp: {},
        r"got eta='eta', which is no parameter of the guide; .* Write param\('eta', 1.0\)",
    ),
    "no surrogate": (
        lambda n: n.RELAX_ELBO(1.0), lambda pp: {},
        "got surrogate=1.0; expected a function of a dict",
    ),
    "its shape": (
        lambda n: n.RELAX_ELBO(lambda *given: np.zeros(3), eta=0), lambda pp: {},
        r"returns the shape \(3,\), beside the site 'z' of batch shape \(2,\); expected a number",
    ),
    "soft": (
        lambda n: n.REBAR_ELBO(), lambda pp: {"estimator": pp.names.GumbelSoftmax(0.5, hard=False)},
        "got the site 'z' with a GumbelSoftmax of hard=False; expected hard=True",
    ),
    "another estimator": (
        lambda n: n.REBAR_ELBO(), lambda pp: {"estimator": pp.names.ReinMax()},
        r"got the site 'z', Bernoulli with estimator=ReinMax\(.*\); expected .* Use LeaveOneOut",
    ),
    "no estimator": (
        lambda n: n.REBAR_ELBO(), lambda pp: {"estimator": None},
        "got the site 'z', Bernoulli with no estimator; expected OneHotCategorical or Bernoulli",
    ),
    "straight-through": (
        lambda n: n.LeaveOneOut_ELBO(),
        lambda pp: {"site": lambda: pp.names.RelaxedBernoulliStraightThrough(0.5, 0.5)},
        "got the site 'z', RelaxedBernoulliStraightThrough, whose pathwise gradient is biased",
    ),
    "and REBAR": (
        lambda n: n.REBAR_ELBO(),
        lambda pp: {"site": lambda: pp.names.RelaxedBernoulliStraightThrough(0.5, 0.5)},
        "REBAR_ELBO got the site 'z', RelaxedBernoulliStraightThrough, whose",
    ),
    "counts": (
        lambda n: n.REBAR_ELBO(), lambda pp: {"prior": lambda: pp.dist.Poisson(pp.array(0.5))},
        "got the site 'z', Poisson in the model, which takes no soft values",
    ),
    "a relaxed model": (
        lambda n: n.REBAR_ELBO(),
        lambda pp: {"prior": lambda: pp.names.RelaxedBernoulli(0.5, pp.array(0.5))},
        "got the site 'z', RelaxedBernoulli in the model, which takes no soft values",
    ),
    "steps": (
        lambda n: n.REBAR_ELBO(), lambda pp: {"mean": lambda z: pp.xp.where(z > 0.5, 1.0, 0.0)},
        "got the site 'z', on whose value no other density depends by a derivative; expected a mo",
    ),
}  # fmt: skip


@pytest.mark.parametrize("label", BAD)
def test_errors(backend: Backend, language: Language, label: str) -> None:
    """The errors say what was got, what was expected and what to do."""
    make, how, text = BAD[label]
    model, guide = ordinary(backend, **how(backend))
    with pytest.raises(ValueError, match=text):
        language.slopes(make(backend.names), model, guide, 0)({"theta": backend.array([0.3, 0.1])})


def test_a_model_that_is_right(backend: Backend) -> None:
    """The unchanged model and guide, which the errors' cases change, raise no error."""
    slopes = backend.language.slopes(backend.names.REBAR_ELBO(), *ordinary(backend), 0)
    _, found = slopes({"theta": backend.array([0.3, 0.1])})
    assert np.isfinite(found["theta"]).all()


@pytest.mark.parametrize("label", ["LeaveOneOut_ELBO", "REBAR_ELBO"])
@pytest.mark.parametrize("backend", ["numpyro"], indirect=True)
def test_a_site_in_control_flow(backend: Backend, label: str) -> None:
    """A site in NumPyro's scan raises: handlers can't change its biased gradient."""
    from numpyro.contrib.control_flow import scan

    def program(made: Any) -> None:
        theta = backend.ppl.param("theta")
        scan(lambda carry, x: (carry, backend.ppl.sample("z", made(x))), 0.0, theta)

    def model() -> None:
        program(lambda x: backend.names.Bernoulli(probs=0.5))

    def guide() -> None:
        estimator = backend.names.GumbelSoftmax(0.5)
        program(lambda x: backend.names.Bernoulli(logits=x, estimator=estimator))

    slopes = backend.language.slopes(getattr(backend.names, label)(), model, guide, 0)
    with pytest.raises(ValueError, match="got the site 'z' of a scan or cond in the guide"):
        slopes({"theta": backend.array([0.3, 0.1])})
