"""Registries, handlers and inference functions of the frameworks, on each of our distributions.

Their names are read from the installed frameworks, so that a new registry, handler or
inference function in a newer version fails these tests until a test for it is added.
Two of these tests run every second distribution in NumPyro, and all of them with --whole.
"""

import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import BACKENDS, Backend, Lazy
from machinery import NAMES, NO_DENSITY, event_dim, every_second, made

older = Lazy("relaxed_dists_numpyro._older")
FEW = [name for name in NAMES if " " not in name or name.endswith((" soft", " StraightThrough"))]
FEWER = [name for name in FEW if name.partition(" ")[2] in ("", "GumbelSoftmax soft")]
PACKAGES = {"pyro": ["pyro", "torch.distributions"], "numpyro": ["numpyro"]}

# Our errors say what was expected; the frameworks' own ones for discrete sites name the site.
SAID = (
    r"; expected |cannot handle discrete sample site 'z'|Cannot transform \w+ constraints"
    r"|the Permutation distribution at site z does not have enumerate support"
)


def answer(f: Callable[[], Any]) -> Any:
    """The result of f, or the text of an error that says what to do; any other error is raised."""
    try:
        return f()
    except (ValueError, NotImplementedError, RuntimeError) as error:
        if not re.search(SAID, str(error)):
            raise
        return str(error)


def numbers_of(backend: Backend, x: Any) -> np.ndarray:
    """The numbers of a value, which must not be NaN."""
    found = backend.numpy(x)
    assert not np.isnan(found).any()
    return found


# Registries: functions that choose an implementation by the class of their argument.

REGISTRIES = {
    "pyro": {
        "biject_to": "every support: test_transforms, and below",
        "transform_to": "every support: test_transforms, and below",
        "register_kl": "test_divergences, test_kl_refusals",
        "reshape_batch": "below",
        "prefix_condition": "below",
        "reshape_transform_batch": "of transforms",
        "sample": "contrib.autoname's statement, by a name's class",
        "track_provenance": "of values: test_f5",
        "extract_provenance": "of values: test_f5",
        "_get_support_value": "of funsors",
        "_substitute": "of funsors",
        "_extract_deltas": "of funsors",
    },
    "numpyro": {
        "biject_to": "every support: test_transforms, and below",
        "kl_divergence": "test_divergences, test_kl_refusals",
        "vmap_over": "test_f6",
        "promote_batch_shape": "test_f6",
        "_get_support_value": "of funsors",
        "uniform_reparam_transform": "contrib.nested_sampling, of a package not installed",
    },
}
DECLARED = re.compile(
    r"^@(?:functools\.)?(?:singledispatch|dispatch\([^\n]*\))\ndef (\w+)"
    r"|^(\w+) = ConstraintRegistry\(|^def (register_kl)\(",
    re.MULTILINE,
)


def registries(framework: str) -> set[str]:
    """The names of the registries in a framework's sources."""
    found = set()
    for package in PACKAGES[framework]:
        spec = importlib.util.find_spec(package)
        for folder in spec.submodule_search_locations:
            for path in Path(folder).rglob("*.py"):
                if "testing" not in path.parts:
                    text = path.read_text(encoding="utf-8")
                    found |= {name for names in DECLARED.findall(text) for name in names if name}
    return found


@pytest.mark.parametrize("framework", PACKAGES)
def test_no_registry_is_unknown(framework: str) -> None:
    """Each registry of the frameworks is in the table, which names its test."""
    pytest.importorskip(framework)
    assert registries(framework) == set(REGISTRIES[framework])


@pytest.mark.parametrize("framework", PACKAGES)
def test_a_registry_that_is_left_out_fails(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that isn't in the table fails the test, like one of a newer framework."""
    monkeypatch.delitem(REGISTRIES[framework], "biject_to")
    with pytest.raises(AssertionError, match="biject_to"):
        test_no_registry_is_unknown(framework)


@pytest.mark.parametrize("name", FEW)
def test_a_support_has_a_transform_or_says_why_not(backend: Backend, name: str) -> None:
    """A support's transform inverts its inverse; without a transform the error says what to do."""
    distribution = made(backend, name)
    own = "torch" if backend.framework == "pyro" else "numpyro"
    distributions = importlib.import_module(f"{own}.distributions")
    x = backend.draw(distribution, 0)
    assert bool(
        (distribution.support.check if backend.framework == "pyro" else distribution.support)(
            x
        ).all()
    )
    assert distribution.support.event_dim == event_dim(name)
    assert isinstance(distribution.support, distributions.constraints.Constraint)
    for registry in ("biject_to", "transform_to"):
        if not hasattr(distributions, registry):
            continue
        if own == "numpyro" and distribution.support is distributions.constraints.boolean:
            continue  # NumPyro's error for booleans has no text
        to = getattr(distributions, registry)
        transform = answer(lambda: to(distribution.support))  # noqa: B023
        if not isinstance(transform, str):
            inverse = transform.inv(x) if backend.framework == "pyro" else transform._inverse(x)
            np.testing.assert_allclose(transform(inverse), x, rtol=1e-5, atol=1e-6)


def test_forecasting_takes_our_bernoulli_as_pyros() -> None:
    """reshape_batch and prefix_condition work on our Bernoulli; others raise Pyro's error."""
    pytest.importorskip("pyro")
    code = """
import torch
from pyro import distributions as dist
from pyro.contrib.forecast.util import prefix_condition, reshape_batch
from relaxed_dists.pyro import Bernoulli, GumbelSoftmax, OneHotCategorical
x = torch.randn(2, 5, 3)
ours = Bernoulli(logits=x, estimator=GumbelSoftmax(0.5))
for d in (ours, dist.Bernoulli(logits=x)):
    for e in (reshape_batch(d, (2, 15)), prefix_condition(d, x[:, :2])):
        print(e.logits.sum().item(), e.batch_shape)
print(reshape_batch(ours, (10, 3)).estimator.temperature.shape)
try:
    reshape_batch(OneHotCategorical(logits=x), (10,))
except NotImplementedError as error:
    print(error)
"""
    out = in_a_process(code).splitlines()  # alone: pyro.contrib sets funsor's backend
    assert out[:2] == out[2:4]
    assert out[4] == "torch.Size([10, 3])"
    assert "OneHotCategorical" in out[5]


def in_a_process(code: str) -> str:
    """The output of code that runs in a new process."""
    import subprocess
    import sys

    run = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"]
    return subprocess.run(run, capture_output=True, text=True, check=True).stdout


# Tests of the frameworks' utility functions.


@pytest.mark.parametrize("name", NAMES)
def test_pyros_deep_copies_are_the_same_distribution(name: str) -> None:
    """deep_to moves all tensors of a distribution, and detach detaches all of them."""
    pytest.importorskip("pyro")
    import torch
    from pyro.distributions import util

    backend = BACKENDS["pyro"]()
    distribution = made(backend, name)
    moved = util.deep_to(distribution, torch.float32)
    assert moved.logits.dtype == torch.float32
    assert distribution.logits.dtype == torch.float64
    distribution.logits.requires_grad_()
    for copied in (moved, util.detach(distribution)):
        assert type(copied) is type(distribution)
        assert not copied.logits.requires_grad
        assert copied.batch_shape == distribution.batch_shape
        assert repr(copied.support) == repr(distribution.support)
        assert copied.sample().shape == distribution.sample().shape


# Tests of handlers.

HANDLERS: dict[str, Callable[[Backend, Any, Any], Any]] = {
    "block": lambda h, m, x: m,
    "broadcast": lambda h, m, x: h.broadcast(m),
    "condition": lambda h, m, x: h.condition(m, data={"z": x}),
    "do": lambda h, m, x: h.do(m, data={"other": x}),
    "enum": lambda h, m, x: h.enum(m, first_available_dim=-3),
    "equalize": lambda h, m, x: h.equalize(m, ["z", "absent"]),
    "escape": lambda h, m, x: h.escape(m, escape_fn=lambda msg: False),
    "infer_config": lambda h, m, x: h.infer_config(m, config_fn=lambda site: {}),
    "lift": lambda h, m, x: h.lift(m, prior={}),
    "mask": lambda h, m, x: h.mask(m, mask=True),
    "reparam": lambda h, m, x: h.reparam(m, config={}),
    "replay": lambda h, m, x: h.replay(m, trace=h.trace(m).get_trace()),
    "scale": lambda h, m, x: h.scale(m, scale=2.0),
    "scope": lambda h, m, x: h.scope(m, prefix="", divider=""),
    "seed": lambda h, m, x: h.seed(m, rng_seed=0),
    "substitute": lambda h, m, x: h.substitute(m, data={"z": x} if hasattr(h, "scope") else {}),
    "trace": lambda h, m, x: h.trace(m),
    "uncondition": lambda h, m, x: h.uncondition(m),
}
ELSEWHERE = {  # not handlers of a model's sites; markov and queue, of enumeration, are in test_f1
    *("enable_validation", "get_mask", "is_validation_enabled", "NonlocalExit", "Trace", "unwrap"),
    *("collapse", "markov", "queue"),  # collapse needs funsor, see test_f12
}


@pytest.mark.parametrize("framework", PACKAGES)
def test_no_handler_is_unknown(framework: str) -> None:
    """Each handler of the frameworks is in the table, or doesn't apply to a model's sites."""
    pytest.importorskip(framework)
    module = {"pyro": "pyro.poutine", "numpyro": "numpyro.handlers"}[framework]
    assert set(importlib.import_module(module).__all__) <= HANDLERS.keys() | ELSEWHERE


@pytest.mark.parametrize("name", FEW)
def test_handlers_leave_a_site_what_it_is(backend: Backend, name: str) -> None:
    """Under each handler the value has its shape, and the distribution's density or our error."""
    distribution = made(backend, name)
    framework = backend.ppl
    handlers = framework.poutine if backend.framework == "pyro" else framework.handlers
    drawn = backend.draw(distribution, 0)
    expected = answer(lambda: distribution.log_prob(drawn))

    def model() -> Any:
        with framework.plate("rows", 2):
            return framework.sample("z", distribution)

    for handler, applied in HANDLERS.items():
        if not hasattr(handlers, handler):
            continue
        seeded = model if backend.framework == "pyro" else handlers.seed(model, 0)
        site = dict(
            handlers.trace(applied(handlers, seeded, drawn)).get_trace().items()
            if backend.framework == "numpyro"
            else handlers.trace(applied(handlers, seeded, drawn)).get_trace().nodes
        )["z"]
        value = site["value"]
        numbers_of(backend, value)
        assert tuple(value.shape) == tuple(distribution.batch_shape + distribution.event_shape)
        density = answer(lambda: site["fn"].log_prob(site["value"]))  # noqa: B023
        if isinstance(expected, str):
            assert density == expected
            continue
        given = value is drawn
        # Pyro's substitute replaces parameters, and not values.
        numpyros = backend.framework == "numpyro" and handler == "substitute"
        assert given == (handler == "condition" or numpyros)
        again = expected if given else distribution.log_prob(value)
        np.testing.assert_allclose(numbers_of(backend, density), backend.numpy(again), rtol=1e-9)


def test_a_handler_that_changes_a_site_fails(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test fails for a handler that changes the value or the distribution."""
    name, distribution = "RelaxedBernoulli", made(backend, "RelaxedBernoulli")
    framework = backend.ppl

    def wider(h: Any, m: Any, x: Any) -> Any:
        def model() -> Any:
            return framework.sample("z", made(backend, name, (3, 2)))

        return h.seed(model, 0) if hasattr(h, "seed") else model

    seeded = "seed" if backend.framework == "numpyro" else "trace"
    wrong = {"mask": lambda h, m, x: h.condition(m, data={"z": x}), seeded: wider}
    for handler, applied in wrong.items():
        with monkeypatch.context() as patched:
            patched.setitem(HANDLERS, handler, applied)
            with pytest.raises(AssertionError):
                test_handlers_leave_a_site_what_it_is(backend, name)

    def silent(*args: Any) -> Any:
        raise ValueError("bad value")

    monkeypatch.setattr(type(distribution), "log_prob", silent)
    with pytest.raises(ValueError, match="bad value"):
        test_handlers_leave_a_site_what_it_is(backend, name)


# Tests of inference functions.

INFERENCE = {
    "pyro": {
        "init_to_feasible", "init_to_sample", "init_to_median", "init_to_mean", "init_to_uniform",
        "init_to_value", "init_to_generated",
    },
    "numpyro": {
        "init_to_feasible", "init_to_sample", "init_to_median", "init_to_mean", "init_to_uniform",
        "init_to_value",
    },
}  # fmt: skip


def initialisation(framework: str) -> Any:
    """The framework's module of initialization strategies."""
    path = "infer.autoguide.initialization" if framework == "pyro" else "infer.initialization"
    return importlib.import_module(f"{framework}.{path}")


@pytest.mark.parametrize("framework", PACKAGES)
def test_no_strategy_to_begin_from_is_unknown(framework: str) -> None:
    """Each initialization strategy of the frameworks is in the table."""
    pytest.importorskip(framework)
    found = inspect.getmembers(initialisation(framework), inspect.isfunction)
    assert {name for name, _ in found if name.startswith("init_to")} == INFERENCE[framework]


@every_second(FEWER)
@pytest.mark.parametrize("name", FEWER)
def test_strategies_to_begin_from(backend: Backend, name: str) -> None:
    """A strategy gives a value on the support, or raises an error that says what to do."""
    framework = backend.ppl
    module = initialisation(backend.framework)
    distribution = made(backend, name, dtype="float32")
    value = backend.draw(distribution, 0)

    def model() -> Any:
        return framework.sample("z", distribution)

    # In NumPyro init_to_sample is init_to_median with one draw, and init_to_uniform is
    # init_to_feasible with a radius.
    less = {"init_to_sample", "init_to_uniform"} if backend.framework == "numpyro" else set()
    off = {"init_to_mean"}  # the support
    if backend.framework == "numpyro" and older.VERSION < (0, 18):
        off.add("init_to_median")  # takes the median of each number by itself
    for strategy in sorted(INFERENCE[backend.framework] - less):
        start = getattr(module, strategy)
        if strategy == "init_to_value":
            start = start(values={"z": value})
        if strategy == "init_to_generated":
            start = start(generate=lambda: module.init_to_value(values={"z": value}))
        if backend.framework == "pyro":
            begun = module.InitMessenger(start)(model)
        else:
            seeded = framework.handlers.seed(model, 0)
            begun = framework.handlers.substitute(seeded, substitute_fn=start)
        found = answer(begun)
        if not isinstance(found, str):
            assert numbers_of(backend, found).shape == tuple(
                distribution.batch_shape + distribution.event_shape
            )
            if strategy not in off and "StraightThrough" not in name:
                check = (
                    distribution.support.check
                    if backend.framework == "pyro"
                    else distribution.support
                )
                assert bool(check(found).all())


@every_second(FEWER, 1)
@pytest.mark.parametrize("name", FEWER)
def test_models_can_be_initialised_predicted_and_scored(backend: Backend, name: str) -> None:
    """Each distribution works in HMC's set-up and in posterior predictions, or raises our error."""
    framework = backend.ppl
    infer = backend.infer
    distribution = made(backend, name, dtype="float32")

    enumerable = name in ("OneHotCategorical", "Bernoulli", "Subset")
    how = {"enumerate": "parallel"} if enumerable else {}

    def model() -> Any:
        with framework.plate("rows", 2):
            return framework.sample("z", distribution, infer=how)

    shape = (3, *distribution.batch_shape, *distribution.event_shape)
    if backend.framework == "pyro":
        util = importlib.import_module("pyro.infer.mcmc.util")

        def energy() -> Any:
            start, potential, _, _ = util.initialize_model(model, max_plate_nesting=1)
            return potential(start)

        began = answer(energy)
        for parallel in (False, True):
            predicted = infer.Predictive(model, num_samples=3, parallel=parallel)()
            assert predicted["z"].shape == shape
    else:
        import jax

        key = jax.random.PRNGKey(0)  # NumPyro 0.17 does not pad keys of the newer kind
        util = importlib.import_module("numpyro.infer.util")
        began = answer(lambda: util.initialize_model(key, model).param_info.potential_energy)
        predicted = infer.Predictive(model, num_samples=3, parallel=True)(key)
        assert predicted["z"].shape == shape
    continuous = name in ("LogitRelaxedBernoulli", "RelaxedBernoulli") or (
        "Relaxed" in name and "OneHot" in name and "Through" not in name
    )
    numbers = continuous or name == "Bernoulli" or (enumerable and backend.framework == "pyro")
    assert isinstance(began, str) != numbers
    if numbers:
        numbers_of(backend, began)
    if name in NO_DENSITY:
        assert "which has no density" in began or "discrete" in began
