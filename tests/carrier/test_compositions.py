"""Compositions of wrappers and handlers: an ELBO has the right number, or raises the named error.

A wrapper changes the distribution, a handler the sample statement, so that a composition is an
order of wrappers and an order of handlers around it. The temperatures are so low that most values
are rounded: the density of a copy, without the relaxed sample behind it, is another number.
"""

import functools
import importlib
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from carrying import LOST
from cases import DISCRETE, RELAXED
from harness import Backend, jax, torch

BATCH = (2, 1)  # the second axis can be expanded
COLD = {"q": 0.002, "p": 0.003}
WRAPPERS = ["mask", "expand", "to_event", "Independent", "transform", "mixture", "vmap"]
HANDLERS = ["scale", "plate", "subsample", "hide", "scan"]
# Wrappers that may replace a value: transforms and mixtures compute another value, and NumPyro's
# Independent uses its own mask, which copies the value.
LOSING = {"pyro": {"transform", "mixture"}, "numpyro": {"transform", "mixture", "Independent"}}
ESTIMATED = [f"{name} {kind}" for name in DISCRETE for kind in ("hard", "soft")]
SKIPPED = ["RelaxedSubset", "Permutation", "RelaxedPermutation"]  # no density: under mask(False)
NAMES = [*RELAXED, *DISCRETE, *ESTIMATED, "HardConcrete", "Subset", *SKIPPED]
# Pyro warns of batch dimensions that no plate declares, which most compositions have.
pytestmark = pytest.mark.filterwarnings("ignore:Missing a plate statement:UserWarning")
Composition = tuple[tuple[str, ...], tuple[str, ...]]


def compositions(length: int) -> list[Composition]:
    """All sequences of wrappers and of handlers with `length` items in total."""
    return [
        (wrappers, handlers)
        for number in range(length + 1)
        for wrappers in itertools.product(WRAPPERS, repeat=number)
        for handlers in itertools.product(HANDLERS, repeat=length - number)
    ]


def built(backend: Backend, name: str, side: str, logits: Any, expand: Any = None) -> Any:
    """The guide's distribution (q) or the model's (p), perhaps expanded to a batch shape."""
    names, (name, *kind) = backend.names, name.split(" ")
    t = backend.array(COLD[side])
    if kind and side == "q":
        estimator = names.GumbelSoftmax(0.5, hard=kind == ["hard"])
        made = getattr(names, name)(logits=logits, estimator=estimator)
    elif name in DISCRETE:
        made = getattr(names, name)(logits=logits)
    elif "Subset" in name or "Permutation" in name:
        size = {"k": 2} if "Subset" in name else {}
        temperature = (t,) if "Relaxed" in name else ()
        made = getattr(names, name)(*temperature, logits=logits, **size)
    else:
        made = getattr(names, name)(t, logits=logits)
    made = made if expand is None else made.expand(expand)
    return made.mask(False) if name in SKIPPED else made


def logits_of(backend: Backend, name: str, side: str) -> Any:
    """The logits of the guide (q) or of the model (p)."""
    event = (
        (3, 3) if "Permutation" in name else (3,) if "OneHot" in name or "Subset" in name else ()
    )
    rng = np.random.default_rng({"q": 1, "p": 2}[side])
    return backend.array(rng.normal(0, 1, (*BATCH, *event)))


class Shape:
    """The weights of the elements of a site, and how many of their axes belong to an event."""

    def __init__(self) -> None:
        self.weights, self.events = np.ones(BATCH), 0

    @property
    def batch(self) -> tuple[int, ...]:
        """The batch shape."""
        return self.weights.shape[: self.weights.ndim - self.events]

    def larger(self) -> tuple[int, ...]:
        """The batch shape with its last axis expanded, or with one more axis."""
        one = self.batch and self.batch[-1] == 1
        return (*self.batch[:-1], 2) if one else (2, *self.batch)

    def mask(self) -> np.ndarray:
        """A mask along the first batch axis, if the axis is longer than 1."""
        if self.batch and self.batch[0] > 1:
            return np.arange(self.batch[0]).reshape(-1, *(1,) * (len(self.batch) - 1)) % 2 == 0
        return np.array(True)

    def masked(self) -> None:
        """Apply the mask."""
        mask = self.mask()
        self.weights = self.weights * mask.reshape(*mask.shape, *(1,) * self.events)

    def expanded(self, batch: tuple[int, ...]) -> None:
        """Expand to another batch shape."""
        events = self.weights.shape[self.weights.ndim - self.events :]
        self.weights = np.broadcast_to(self.weights, batch + events)


class Impossible(Exception):
    """An error for a composition that makes no sense, or that a framework doesn't support."""


def wrap(backend: Backend, fn: Any, wrappers: tuple[str, ...], shape: Shape) -> Any:
    """The distribution in its wrappers, innermost first."""
    dist = backend.dist
    for i, wrapper in enumerate(wrappers):
        if wrapper == "mask":
            fn = fn.mask(backend.array(shape.mask(), "bool"))
            shape.masked()
        elif wrapper == "expand":
            fn = fn.expand(shape.larger())
            shape.expanded(shape.larger())
        elif wrapper in ("to_event", "Independent"):
            if not shape.batch:
                raise Impossible
            fn = fn.to_event(1) if wrapper == "to_event" else dist.Independent(fn, 1)
            shape.events += 1
        elif wrapper == "transform":
            double = dist.transforms.AffineTransform(0.0, 2.0)
            fn = dist.TransformedDistribution(fn, [double])
        elif wrapper == "vmap":
            outside = {"transform", "mixture"} & set(wrappers[:i])
            if backend.framework == "pyro" or not shape.batch or outside:
                raise Impossible
            fn = jax.vmap(lambda fn: fn)(fn)
        elif wrapper == "mixture":
            if i:
                raise Impossible
            weights = dist.Categorical(backend.array(np.full((2, 2), 0.5)))
            fn = dist.MixtureSameFamily(weights, fn.expand((2, 2)))
            shape.weights = np.ones(2)
    return fn


def program(
    backend: Backend, make: Callable[[], Any], case: Composition, seed: int
) -> tuple[Callable[[], Any], Shape]:
    """The sample statement in its handlers, and the Shape of its value."""
    ppl, h = backend.ppl, backend.handlers
    wrappers, handlers = case
    shape = Shape()
    wrap(backend, make(), wrappers, shape)

    def statement() -> Any:
        fn = wrap(backend, make(), wrappers, Shape())
        if backend.framework == "pyro":
            torch.manual_seed(seed)
            return ppl.sample("z", fn)
        return ppl.sample("z", fn, rng_key=jax.random.key(seed))

    run = statement
    for i, handler in enumerate(handlers):
        if handler == "scale":
            run = h.scale(run, scale=3.0)
            shape.weights = shape.weights * 3.0
        elif handler == "hide":
            run = h.mask(run, mask=backend.array(shape.mask(), "bool"))
            shape.masked()
        elif handler in ("plate", "subsample"):
            if "scan" in handlers[:i]:
                raise Impossible  # NumPyro needs plates inside a scan
            larger = shape.larger()
            dim = -1 if len(larger) == len(shape.batch) else -len(larger)
            size, part = (4, 2) if handler == "subsample" else (2, None)
            plate = (f"plate {i}", size), {"subsample_size": part, "dim": dim}

            def run(inner: Any = run, plate: Any = plate) -> Any:
                with ppl.plate(*plate[0], **plate[1]):
                    return inner()

            if part and backend.framework == "numpyro":  # else compiles each subsample
                chosen = {f"plate {i}": backend.array(np.arange(part), "int32")}
                run = h.substitute(run, data=chosen)

            shape.expanded(larger)
            shape.weights = shape.weights * (size / 2)
        elif handler == "scan":
            # Only NumPyro has scan; it can't be nested, and can't return a transform's parameters.
            if backend.framework == "pyro" or {"scan", "transform"} & {*handlers[:i], *wrappers}:
                raise Impossible

            def run(inner: Any = run) -> Any:
                from numpyro.contrib.control_flow import scan

                return scan(lambda carry, _: (carry, inner()), None, None, length=2)

            shape.expanded((2, *shape.batch))
    return run, shape


@functools.cache
def plain(
    backend: Backend, name: str, shape: tuple[int, ...], seed: int, slope: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The expected draw and ELBO terms of a shape, by the bare distributions.

    The terms are log p - log q at the drawn value, or the derivatives by the guide's logits.
    """
    q, p = (logits_of(backend, name, side) for side in "qp")

    def terms(logits: Any) -> tuple[Any, Any]:
        guide = built(backend, name, "q", logits, shape)
        value = backend.draw(guide, seed)
        return built(backend, name, "p", p, shape).log_prob(value) - guide.log_prob(value), value

    if not slope:
        term, value = terms(q)
        return backend.numpy(value), backend.numpy(term)
    if backend.framework == "numpyro":
        return backend.numpy(terms(q)[1]), backend.numpy(jax.jacrev(lambda w: terms(w)[0])(q))
    q.requires_grad_()
    term, value = terms(q)
    each = term.reshape(-1) + 0 * q.sum()  # gives 0 where there is no gradient
    slopes = [torch.autograd.grad(x, q, retain_graph=True)[0] for x in each]
    return backend.numpy(value), backend.numpy(torch.stack(slopes).reshape(*shape, *q.shape))


def elbo(backend: Backend, name: str, case: Composition, logits: Any, seed: int) -> Any:
    """An ELBO of one site, and its value."""
    prior, values = logits_of(backend, name, "p"), []
    model, _ = program(backend, lambda: built(backend, name, "p", prior), case, seed)
    guide, _ = program(backend, lambda: built(backend, name, "q", logits), case, seed)
    h = backend.handlers
    loss = backend.infer.Trace_ELBO()

    def kept() -> None:
        trace = h.trace(guide).get_trace()
        values.append(getattr(trace, "nodes", trace)["z"]["value"])

    if backend.framework == "pyro":
        # Pyro would check that a plate declares each batch dimension.
        enable = importlib.import_module("pyro.infer.util").enable_validation
        enable(False)
        try:
            return -loss.differentiable_loss(model, kept), values[0]
        finally:
            enable(True)
    return -loss.loss(jax.random.key(seed), {}, model, kept), values[0]


def result(score: Callable[[], Any]) -> Any:
    """The result of a function, or LOST if this library's log_prob refuses the value."""
    try:
        return score()
    except ValueError as error:
        if ".log_prob got" in str(error):
            return LOST
        raise


def by_numbers(backend: Backend, name: str, mixture: bool, value: np.ndarray) -> np.ndarray:
    """The ELBO's terms at a copy of a value, from its numbers."""
    both = []
    for side in "pq":
        fn = built(backend, name, side, logits_of(backend, name, side), (2, 2) if mixture else None)
        events = len(fn.event_shape)
        at = np.expand_dims(value, value.ndim - events) if mixture else value
        terms = backend.numpy(fn.log_prob(backend.array(at)))
        both.append(np.logaddexp.reduce(terms, -1) + np.log(0.5) if mixture else terms)
    return both[0] - both[1]


def has_path(name: str) -> bool:
    """Whether the draw has a pathwise gradient; if not, an ELBO uses the score function."""
    return name not in (*DISCRETE, "Subset")


def check(backend: Backend, name: str, case: Composition, seed: int, slope: bool = False) -> None:
    """Check the ELBO of a composition and its gradient by the guide's logits, or its error."""
    unfit = ("soft", "Subset", "Permutation")  # no mixture: supports differ or aren't discrete
    if "mixture" in case[0] and any(word in name for word in unfit):
        raise Impossible
    q = logits_of(backend, name, "q")
    _, shape = program(backend, lambda: built(backend, name, "q", q), case, seed)
    weights, scanned, wrappers = shape.weights, "scan" in case[1], case[0]
    got = result(lambda: elbo(backend, name, case, q, seed))
    if got is LOST:
        assert LOSING[backend.framework] & set(wrappers)
        return
    value = backend.numpy(got[1]) / 2.0 ** wrappers.count("transform")
    expected, drawn_shape = None, weights.shape[1:] if scanned else weights.shape
    if "mixture" not in wrappers:
        drawn, terms = plain(backend, name, drawn_shape, seed)
        if np.allclose(np.broadcast_to(drawn, value.shape), value, 1e-9):  # scans round differently
            expected = (weights * terms).sum()
    if expected is None:  # drawn in another order: scored by the copy's numbers
        slope = False
        terms = result(lambda: by_numbers(backend, name, "mixture" in wrappers, value))
        assert terms is not LOST
        expected = (weights * terms).sum()
    np.testing.assert_allclose(float(got[0]), expected, 1e-8, 1e-8)
    # JAX compiles for each shape, so only one distribution checks slopes of several shapes.
    many = backend.framework == "pyro" or name == "RelaxedBernoulli"
    if slope and has_path(name) and (many or drawn_shape == BATCH):
        slopes = plain(backend, name, drawn_shape, seed, slope=True)[1]
        weights = weights.sum(0) if scanned else weights
        expected = np.tensordot(weights, slopes, weights.ndim)
        actual = result(
            lambda: backend.grad(
                lambda logits: elbo(backend, name, case, logits, seed)[0] + 0 * logits.sum(),
                logits_of(backend, name, "q"),
            )[0]
        )
        if actual is LOST:
            assert LOSING[backend.framework] & set(wrappers)
            return
        np.testing.assert_allclose(actual, expected, 1e-7, 1e-7)


def run(
    backend: Backend, name: str, cases: list[Composition], seed: int, slopes: int, least: int
) -> None:
    """Check all possible compositions, at least `least`, and slopes of one in `slopes`."""
    ran = 0
    for i, case in enumerate(cases):
        try:
            check(backend, name, case, seed, slope=(i + seed) % slopes == 0)
            ran += 1
        except Impossible:
            pass
        except Exception as error:
            error.add_note(f"{name} in {case}")
            raise
    assert ran >= least


@pytest.mark.parametrize("name", NAMES)
def test_compositions(backend: Backend, name: str, seed: int, whole: bool) -> None:
    """All compositions of one and of two items, and a share of those of three.

    In Pyro each composition of three runs with some distribution. NumPyro compiles each, so it runs
    a twenty-second of the pairs, and a sixth of what Pyro runs of those of three, with an eighth of
    the scans and a twelfth of the slopes. The flag --whole runs all.
    """
    at, number = NAMES.index(name) + seed, len(NAMES)
    none, ones, pairs, triples = map(compositions, range(4))
    compiled = backend.framework == "numpyro" and not whole
    pairs = pairs[at % 22 :: 22] if compiled else pairs
    step = 6 if compiled else 1
    triples = triples if whole else triples[step * at % (step * number) :: step * number]
    cases = none + ones + pairs + triples
    if compiled:
        cases = [case for i, case in enumerate(cases) if "scan" not in case[1] or i % 8 == at % 8]
    # The rest, mostly of three items, makes no sense or is not supported by a framework.
    least = len(cases) // (3 if whole else 2)
    run(backend, name, cases, seed, slopes=12 if compiled else 1, least=least)


def test_a_wrapper_that_copies_the_value_fails(
    backend: Backend, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test fails if a mask scores a copy, whether log_prob refuses the copy or not."""
    dist = backend.dist

    class Copying(dist.MaskedDistribution):
        def log_prob(self, value: Any, *intermediates: Any) -> Any:
            return super().log_prob(value + 0)

    made = type(
        built(backend, "RelaxedBernoulli", "q", logits_of(backend, "RelaxedBernoulli", "q"))
    )
    case = (("expand", "expand", "mask"), ())  # four unmasked values, one of them rounded
    check(backend, "RelaxedBernoulli", case, seed)
    monkeypatch.setattr(made, "mask", lambda d, mask: Copying(d, mask))
    with pytest.raises(AssertionError):
        check(backend, "RelaxedBernoulli", case, seed)
    monkeypatch.setattr(made, "_refuse_rounded", lambda *args: None)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check(backend, "RelaxedBernoulli", case, seed)
