"""The formulas of the page of derivations: the library's values, and the expected values."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import derivation_references as expected
from relaxed_dists._distributions import one_hot, quadrature, tables

INF = np.inf
SEED = 0
ERRORS = 5  # standard errors that a mean may be off, which chance does once in 1.7 million


@dataclass(frozen=True)
class Framework:
    """All that the checks need of a framework."""

    name: str
    names: Any
    ops: Any
    array: Callable[[Any], Any]
    kl: Callable[[Any, Any], Any]
    gradient: Callable[[Callable[[Any], Any], Any], Any]
    run: Callable[[Callable[[], Any]], Any]


@dataclass(frozen=True)
class Formula:
    """The values that a formula should give, and how far off it may be."""

    name: str
    reference: Any
    bound: Any = 1e-10  # of the difference over max(1, abs(reference)), or over abs(reference)
    relative: bool = False

    def worst(self, library: Any) -> list[float]:
        """Library, reference, difference and bound of the entry that is closest to its bound."""
        reference, library = np.asarray(self.reference, float), np.asarray(library, float)
        assert library.shape == reference.shape, (self.name, library.shape, reference.shape)
        scale = abs(reference) if self.relative else np.maximum(1, abs(reference))
        with np.errstate(invalid="ignore"):
            difference = np.where(library == reference, 0, abs(library - reference) / scale)
        bound = np.broadcast_to(self.bound, reference.shape)
        i = (np.nan_to_num(difference, nan=INF) / bound).argmax()
        return [float(x.flat[i]) for x in (library, reference, difference, bound)]


# A function that computes the library's values (JAX compiles it once), and the expected values.
Group = tuple[Callable[[Framework], list[Any]], list[Formula]]


def own_samples() -> Group:
    """Density and gradients of an own sample, from the exponentials that the sample is made of."""
    rng, (rows, k) = np.random.default_rng(SEED), (20, 5)
    e, logits = rng.standard_exponential((rows, k)), 3 * rng.standard_normal((rows, k))
    t = rng.uniform(0.01, 2, rows)
    log, simplex = one_hot.exp_concrete_log_prob, one_hot.concrete_log_prob

    def library(f: Framework) -> list[Any]:
        def own(formula: Any, logits: Any, t: Any) -> Any:
            value = one_hot.concrete(f.ops, logits, t, f.array(-np.log(e)))[0]
            return formula(f.ops, logits, t, value)

        logits_, t_ = f.array(logits), f.array(t)
        by_logits = [f.gradient(lambda x, g=g: own(g, x, t_), logits_) for g in (log, simplex)]
        by_t = f.gradient(lambda t: own(simplex, logits_, t), t_)
        return [own(log, logits_, t_), *by_logits, by_t]

    y = expected.log_softmax((logits - np.log(e)) / t[:, None], -1)
    x = np.exp(y)
    by_t = (k - 1 + y.sum(-1) - k * (x * y).sum(-1)) / t
    return library, [
        Formula("own-sample density, log space", expected.own_density(e, t)),
        Formula("its total gradient by the logits", np.zeros((rows, k))),
        Formula("the same on the simplex", -(1 - k * x) / t[:, None]),
        Formula("and by the temperature", by_t),
    ]


def line(quick: bool) -> Group:
    """H + r G by the library's tables; H and G are independent standard Gumbel variables."""
    rule, points = tables.DOUBLE, np.array([-2.0, 0.5, 6.0])
    r = np.array([1, 0.3]) if quick else np.array([1, 0.3, 4, -0.5, -1, -4])
    wide = np.maximum(1, abs(r))
    narrow = np.where(wide > 1, 1 / wide, r)
    position = (points / wide[:, None] - rule.points[0].mean()) / rule.interval

    def library(f: Framework) -> list[Any]:
        found = tables.tabulate(f.ops, rule, f.array(narrow), f.array(r) < -1)[:3]
        log_f, score, slope = f.ops.interpolate(found, f.array(position))
        cdf, scale = f.ops.exp(log_f), f.array(wide)[:, None]
        return [cdf, cdf * score / scale, cdf * slope / scale**2, cdf[0], (cdf * score)[0]]

    values = np.array([[expected.cdf(x, t) for t in points] for x in r], float)
    pointwise = 1e-6  # errors of either sign average out
    bessel = np.array([expected.bessel_cdf(t) for t in points], float)
    return library, [
        Formula("cdf of H + r G", values[..., 0], pointwise),
        Formula("its density", values[..., 1], pointwise),
        Formula("its density's slope", values[..., 2], pointwise),
        Formula("cdf of H + G, a Bessel function", bessel[:, 0], pointwise),
        Formula("its density, another", bessel[:, 1], pointwise),
    ]


def many_categories() -> Group:
    """The expectations for a thousand categories: of four distinct logits, and of similar ones."""
    a, count = np.array([0.0, 1.0, -4.0, 7.0]), np.array([600, 300, 97, 3])
    rows, last = np.repeat(a, count), np.cumsum(count) - 1
    r, t = np.array([-20, -3, -0.2, 0.05, 1, 30]), np.array([0.01, 0.1, 0.5, 1, 10])
    similar, times, low = np.array([0, 1e-3, 0.1]), np.array([400, 400, 200]), np.array([-5, -50])

    def library(f: Framework) -> list[Any]:
        tiled = f.array(np.tile(rows, (len(r), 1)))
        d = f.names.RelaxedOneHotCategorical(f.array(t), logits=tiled[: len(t)])
        mean, variance = d.mean[:, last], d.variance[:, last]
        alike = f.array(np.tile(np.repeat(similar, times), (len(low), 1)))
        s = [
            quadrature.expected_logsumexp(f.ops, *x)
            for x in ((tiled, f.array(r)), (alike, f.array(low)))
        ]
        return [s[0], *s[1], mean, variance + mean**2]

    values = [expected.line_law(a, count, x)[0] for x in r]
    bound = np.where(r == -20, 1e-8, 1e-10)  # at r = -20 a cdf is steep between two nodes
    lines = [expected.line_law(a / x, count, 1 / x) for x in t]
    return library, [
        Formula("E logsumexp(a + r G), K = 1,000", values, bound),
        *(
            Formula(
                f"the same, similar logits, r = {x}", expected.line_law(similar, times, x)[0], most
            )
            for x, most in zip(low, (2e-9, 6e-8), strict=True)
        ),
        Formula("mean, K = 1,000", [line[1] for line in lines]),
        Formula("second moment, K = 1,000", [line[2] for line in lines]),
    ]


def few_categories(number: int) -> Group:
    """All expectations: for three categories and masked ones, and, by draws, for ten categories."""
    rng, k = np.random.default_rng(SEED), 10
    logits, other = np.full((4, k), -INF), np.full((4, k), -INF)
    logits[:3, :3], other[:3, :3] = [[0.3, -1.2, 0.8], [2, 0, -1], [0.5, -0.5, 1]], np.eye(3)
    logits[2], other[2] = logits[2, ::-1], other[2, ::-1]
    logits[3], other[3] = 2 * rng.standard_normal(k), rng.standard_normal(k)
    t, other_t = np.array([0.5, 2 / 3, 3, 0.4]), np.array([0.7, 0.4, 1, 0.7])
    r = np.array([-2, -0.5, 0.3, 1])

    def library(f: Framework) -> list[Any]:
        log_space, t_, logits_ = f.names.ExpRelaxedOneHotCategorical, f.array(t), f.array(logits)
        d, other_d = (
            log_space(t_, logits=logits_),
            log_space(f.array(other_t), logits=f.array(other)),
        )
        simplex = f.names.RelaxedOneHotCategorical(t_, logits=logits_)
        mean = simplex.mean
        second = simplex.variance + mean**2
        log_mean, log_second = d.mean, d.variance + d.mean**2
        entropies = d.entropy(), simplex.entropy()
        values = [mean, second, log_mean, log_second, *entropies, f.kl(d, other_d)]
        a, r_ = f.array(np.tile(logits[:1], (4, 1))), f.array(r)
        s = functools.partial(quadrature.expected_logsumexp, f.ops)
        by_r, by_a = f.gradient(lambda r: s(a, r), r_), f.gradient(lambda a: s(a, r_), a)[:, :3]
        return [*(x[:3] for x in values), s(a, r_), by_r, by_a, *(x[3] for x in values)]

    rows = zip(logits[:3], t, other, other_t, strict=False)
    found = [expected.expectations(*row) for row in rows]
    names = (
        "mean",
        "second moment",
        "mean, log space",
        "second moment, log space",
        "entropy, log space",
        "entropy, simplex",
        "KL, two temperatures",
    )
    exact = zip(names, zip(*found, strict=True), strict=True)
    drawn = expected.by_draws(number, rng, logits[3], t[3], other[3], other_t[3])
    s = zip(*(expected.logsumexp_mean(logits[0, :3], x) for x in r), strict=True)
    return library, [
        *(Formula(f"{name}, K = 3", value) for name, value in exact),
        *(
            Formula(f"{name}, K = 3", np.array(value))
            for name, value in zip(
                ("E logsumexp(a + r G)", "its derivative by r", "by a"), s, strict=True
            )
        ),
        *(
            Formula(f"{name}, K = 10", mean, ERRORS * error / np.maximum(1, abs(mean)))
            for name, (mean, error) in zip(names, drawn, strict=True)
        ),
    ]


def binary() -> Group:
    """The case of two categories: moments and entropy on (0, 1), KL of the logits."""
    logits, other = np.array([0.3, -2, 1]), np.array([1, -2, 0])
    t, other_t = np.array([0.5, 2 / 3, 3]), np.array([0.7, 0.4, 1])

    def library(f: Framework) -> list[Any]:
        d = f.names.RelaxedBernoulli(f.array(t), logits=f.array(logits))
        kl = f.kl(d, f.names.RelaxedBernoulli(f.array(other_t), logits=f.array(other)))
        return [d.mean, d.variance, d.entropy(), kl]

    pairs = [np.stack([x, 0 * x], -1) for x in (logits, other)]
    parameters = zip(pairs[0], t, pairs[1], other_t, strict=True)
    values = [expected.expectations(*given) for given in parameters]
    mean, second, *_, entropy, kl = (np.array(x) for x in zip(*values, strict=True))
    return library, [
        Formula("mean, (0, 1)", mean[:, 0]),
        Formula("variance, (0, 1)", second[:, 0] - mean[:, 0] ** 2),
        Formula("entropy, (0, 1)", entropy),
        Formula("KL, two temperatures, binary", kl),
    ]


def one_temperature() -> Group:
    """KL at one temperature: of close and of distant logits, and of different masked categories."""
    k = 12
    shape = np.random.default_rng(SEED).standard_normal(k)
    a = np.array([[1e-6], [1e-3], [1], [10], [80]]) * shape
    d = np.array([1e-6, 1e-3, 0.5, 0.99, 1, 5, 80])
    faces, others = np.full((4, k), -INF), np.full((4, k), -INF)
    faces[:, :3] = [[0, 1, -INF], [0, 1, 2], [0, 1, -INF], [0, -INF, -INF]]
    others[:, :3] = [[0, 1, 2], [0, 1, -INF], [0, -INF, 2], [3, -INF, -INF]]
    logits, other = np.concatenate([0 * a, faces]), np.concatenate([a, others])

    def library(f: Framework) -> list[Any]:
        rows, pair = f.names.ExpRelaxedOneHotCategorical, f.names.LogitRelaxedBernoulli
        kl = f.kl(rows(0.5, logits=f.array(logits)), rows(0.5, logits=f.array(other)))
        two = f.kl(pair(0.5, logits=f.array(0 * d)), pair(0.5, logits=f.array(d)))
        return [kl[:5], kl[0], kl[5:], two, two[2:]]

    limit = k / (2 * (k + 1)) * k * (1e-6 * shape).var()
    fractions = [float(expected.kl_by_fractions(x)) for x in a]
    closed = [float(expected.coth_kl(x)) for x in d]
    return library, [
        Formula("KL, one temperature (relative)", fractions, 1e-9, True),
        Formula("its limit, close distributions (relative)", limit, 1e-5, True),
        Formula("KL, unequal faces; equal points", [INF, INF, INF, 0]),
        Formula("d coth(d/2) - 2 (relative)", closed, 1e-12, True),
        Formula("the same, by its definition", [float(expected.binary_kl(x)) for x in d[2:]]),
    ]


def groups(quick: bool) -> Iterator[Group]:
    """The groups of checks to run."""
    yield own_samples()
    yield line(quick)
    yield few_categories(20_000 if quick else 200_000)
    yield one_temperature()
    if not quick:
        yield binary()
        yield many_categories()
