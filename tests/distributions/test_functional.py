"""The functional layer: its functions are the distributions' formulas, and torch's signature."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax

from harness import Backend, one_graph

INF = np.inf
ESTIMATORS = {
    "DecoupledGumbelSoftmax": (0.3, 1.0),
    "GappedStraightThrough": (0.5,),
    "GumbelRao": (0.5, 3),
    "GumbelSoftmax": (0.5,),
    "ReinMax": (),
    "ReinMaxRao": (0.7, 3),
    "StraightThrough": (),
}
# Each density with its function that samples, its class, and whether events are vectors.
DENSITIES = {
    "exp_concrete": ("ExpRelaxedOneHotCategorical", True),
    "concrete": ("RelaxedOneHotCategorical", True),
    "logit_concrete": ("LogitRelaxedBernoulli", False),
    "binary_concrete": ("RelaxedBernoulli", False),
}
ROWS = np.random.default_rng(0).normal(size=(2, 4, 3))


def call(backend: Backend, name: str, *given: Any, seed: int = 0, **named: Any) -> Any:
    """A function of the functional layer that samples, with a seed."""
    if backend.framework == "pyro":
        backend.xp.manual_seed(seed)
    else:
        import jax

        named["key"] = jax.random.key(seed)
    return getattr(backend.functions, name)(*given, **named)


def axis(backend: Backend, i: int) -> dict[str, int]:
    """The argument for the axis of the categories."""
    return {"dim" if backend.framework == "pyro" else "axis": i}


def refuses(text: str, make: Callable[[], object]) -> None:
    """The call raises a ValueError with a text, which also says what was expected."""
    with pytest.raises(ValueError, match=f"(?s){text}") as caught:
        make()
    assert "expected" in str(caught.value)


def test_the_signature_is_torchs(backend: Backend) -> None:
    """Names, defaults, order and kinds are those of F.gumbel_softmax; JAX says axis for dim."""
    torch = pytest.importorskip("torch")
    theirs = list(inspect.signature(torch.nn.functional.gumbel_softmax).parameters.values())
    *ours, key = inspect.signature(backend.functions.gumbel_softmax).parameters.values()
    assert (key.name, key.kind) == ("key", inspect.Parameter.KEYWORD_ONLY)
    if backend.framework == "numpyro":
        theirs = [
            p.replace(name="axis") if p.name == "dim" else p for p in theirs if p.name != "eps"
        ]
    assert [(p.name, p.default, p.kind) for p in ours] == [
        (p.name, p.default, p.kind) for p in theirs
    ]


def test_eps_warns_as_in_torch() -> None:
    """A value of eps other than the default has torch's own warning, and no effect."""
    torch = pytest.importorskip("torch")
    ours = pytest.importorskip("relaxed_dists.torch").gumbel_softmax
    texts, values = [], []
    for function in (torch.nn.functional.gumbel_softmax, ours):  # ours last
        torch.manual_seed(0)
        with pytest.warns(UserWarning, match="eps") as caught:
            values.append(function(torch.zeros(3), 1, False, 1e-5))
        texts.append(str(caught[0].message))
    assert caught[0].filename == __file__
    assert texts[0] == texts[1]
    torch.manual_seed(0)
    assert torch.equal(values[1], ours(torch.zeros(3)))


@pytest.mark.parametrize("i", [-1, 0, 1, -2, 2])
@pytest.mark.parametrize("hard", [False, True])
def test_gumbel_softmax_is_its_formula(backend: Backend, i: int, hard: bool) -> None:
    """softmax((logits + G) / tau) over any axis, for the noise of the seed; hard, its argmax."""
    tau, moved = 0.7, np.moveaxis(ROWS, i, -1)
    noise = backend.numpy(backend.noise(True, 3, moved.shape))
    expected = softmax((moved + noise) / tau, -1)
    if hard:
        expected = np.eye(moved.shape[-1])[expected.argmax(-1)]
    logits = backend.array(ROWS)
    value = call(backend, "gumbel_softmax", logits, tau, hard, seed=3, **axis(backend, i))
    found = backend.numpy(value)
    np.testing.assert_allclose(found, np.moveaxis(expected, -1, i), rtol=1e-12)
    assert found.shape == ROWS.shape


def test_gumbel_softmax_has_one_tau_a_row(backend: Backend) -> None:
    """An array of temperatures has the logits' shape without the axis of the categories."""
    tau = np.random.default_rng(1).uniform(0.2, 2, (2, 3))
    moved = np.moveaxis(ROWS, 1, -1)
    noise = backend.numpy(backend.noise(True, 0, moved.shape))
    expected = np.moveaxis(softmax((moved + noise) / tau[..., None], -1), -1, 1)
    found = call(
        backend, "gumbel_softmax", backend.array(ROWS), backend.array(tau), **axis(backend, 1)
    )
    np.testing.assert_allclose(backend.numpy(found), expected, rtol=1e-12)


def test_gradients_of_gumbel_softmax(backend: Backend) -> None:
    """By the logits J(x) g / tau, soft or hard; by tau that of the soft value, and 0 if hard."""
    tau, g = 0.7, np.random.default_rng(2).normal(size=ROWS.shape)
    noise = backend.numpy(backend.noise(True, 0, ROWS.shape))
    x = softmax((ROWS + noise) / tau, -1)
    by_logits = x * (g - (x * g).sum(-1, keepdims=True)) / tau
    by_tau = -((ROWS + noise) * by_logits).sum() / tau
    for hard in (False, True):

        def f(logits: Any, t: Any, hard: bool = hard) -> Any:
            value = call(backend, "gumbel_softmax", logits, t, hard)
            return (value * backend.array(g)).sum() + 0.0 * t

        found = backend.grad(f, backend.array(ROWS), backend.array(tau))
        np.testing.assert_allclose(found[0], by_logits, rtol=1e-9, atol=1e-12)
        assert found[1] == pytest.approx(0.0 if hard else by_tau, rel=1e-9, abs=0)


def test_it_agrees_with_torchs_function() -> None:
    """Soft values have torch's distribution; false alarms have a probability of 1e-6 a category."""
    torch = pytest.importorskip("torch")
    ours = pytest.importorskip("relaxed_dists.torch").gumbel_softmax
    logits = torch.tensor([1.0, 0.0, -1.0]).repeat(20_000, 1)
    values = [
        function(logits, tau=0.7).numpy() for function in (torch.nn.functional.gumbel_softmax, ours)
    ]
    for k in range(3):
        assert stats.ks_2samp(values[0][:, k], values[1][:, k]).pvalue > 1e-6
    wrong = ours(logits, tau=0.8).numpy()
    assert stats.ks_2samp(values[0][:, 0], wrong[:, 0]).pvalue < 1e-6


@pytest.mark.parametrize("hard", [False, True])
def test_masks_are_exact(backend: Backend, hard: bool) -> None:
    """A masked category has the value 0 and the gradient 0, on any axis."""
    rows = ROWS.copy()
    rows[:, 1] = -INF

    def f(logits: Any) -> Any:
        value = call(backend, "gumbel_softmax", logits, 0.5, hard, **axis(backend, 1))
        return (value * backend.array(np.exp(ROWS))).sum()

    value = backend.numpy(
        call(backend, "gumbel_softmax", backend.array(rows), 0.5, hard, **axis(backend, 1))
    )
    assert (value[:, 1] == 0).all()
    np.testing.assert_allclose(value.sum(1), 1, rtol=1e-12)
    (gradient,) = backend.grad(f, backend.array(rows))
    assert (gradient[:, 1] == 0).all()
    assert np.isfinite(gradient).all()
    assert abs(gradient).sum() > 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtypes(backend: Backend, dtype: str) -> None:
    """Values have the logits' dtype; densities have it too, in float32 or better."""
    logits = backend.array(ROWS, dtype)
    for name, given in (
        ("gumbel_softmax", (0.5,)),
        ("sample_one_hot", (backend.functions.GumbelRao(0.5),)),
        ("sample_concrete", (0.5,)),
        ("sample_logit_concrete", (0.5,)),
    ):
        assert str(call(backend, name, logits, *given).dtype).endswith(dtype), name
    value = call(backend, "sample_concrete", logits, 0.5)
    density = backend.functions.concrete_log_prob(value, logits, 0.5)
    assert str(density.dtype).endswith("float64" if dtype == "float64" else "float32")


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("one_hot", [True, False])
def test_estimators_are_the_distributions(backend: Backend, name: str, one_hot: bool) -> None:
    """Value and gradient are those of the discrete distribution with the same seed."""
    estimator = getattr(backend.functions, name)(*ESTIMATORS[name])
    weights = backend.array(np.random.default_rng(3).normal(size=(5, *ROWS.shape)))
    cls = backend.names.OneHotCategorical if one_hot else backend.names.Bernoulli

    def function(logits: Any) -> Any:
        call_name = "sample_one_hot" if one_hot else "sample_bernoulli"
        return (call(backend, call_name, logits, estimator, (5,)) * weights).sum()

    def distribution(logits: Any) -> Any:
        return (backend.draw(cls(logits=logits, estimator=estimator), 0, (5,)) * weights).sum()

    logits = backend.array(ROWS)
    ours, theirs = (backend.numpy(f(logits)) for f in (function, distribution))
    np.testing.assert_array_equal(ours, theirs)
    ours, theirs = (backend.grad(f, logits)[0] for f in (function, distribution))
    np.testing.assert_array_equal(ours, theirs)
    assert abs(ours).sum() > 0


@pytest.mark.parametrize("one_hot", [True, False])
def test_estimators_may_be_functions_or_none(backend: Backend, one_hot: bool) -> None:
    """A function of logits, draw and noise; None is the hard draw of any estimator."""
    name, logits = "sample_one_hot" if one_hot else "sample_bernoulli", backend.array(ROWS)

    def half(logits: Any, hard: Any, gumbel: Any) -> Any:
        return backend.functions.straight_through(hard, logits / 2 + 0.0 * gumbel)

    hard = backend.numpy(call(backend, name, logits, None))
    np.testing.assert_array_equal(hard, backend.numpy(call(backend, name, logits, half)))
    through = backend.functions.StraightThrough()
    np.testing.assert_array_equal(hard, backend.numpy(call(backend, name, logits, through)))
    assert set(np.unique(hard)) == {0.0, 1.0}
    (gradient,) = backend.grad(lambda x: call(backend, name, x, half).sum(), logits)
    assert abs(gradient).sum() > 0


@pytest.mark.parametrize("name", DENSITIES)
def test_samples_and_densities_are_the_distributions(backend: Backend, name: str) -> None:
    """Samples, densities and gradients are those of the class, also for a copy of a sample."""
    cls, _ = DENSITIES[name]
    log_prob = getattr(backend.functions, f"{name}_log_prob")
    temperature = np.random.default_rng(4).uniform(0.5, 2, ROWS.shape[: 2 + (not _)])

    def function(logits: Any, t: Any) -> Any:
        value = call(backend, f"sample_{name}", logits, t, (5,), seed=1)
        return (log_prob(value, logits, t) + value.reshape(5, -1).sum(-1).sum()).sum()

    def distribution(logits: Any, t: Any) -> Any:
        law = getattr(backend.names, cls)(t, logits=logits)
        value = backend.draw(law, 1, (5,))
        return (law.log_prob(value) + value.reshape(5, -1).sum(-1).sum()).sum()

    given = backend.array(ROWS), backend.array(temperature)
    ours, theirs = (backend.numpy(f(*given)) for f in (function, distribution))
    np.testing.assert_allclose(ours, theirs, rtol=1e-13)
    for ours, theirs in zip(
        backend.grad(function, *given), backend.grad(distribution, *given), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
    value = call(backend, f"sample_{name}", *given)
    copy = backend.array(backend.numpy(value))
    np.testing.assert_allclose(
        backend.numpy(log_prob(copy, *given)), backend.numpy(log_prob(value, *given)), rtol=1e-9
    )


@pytest.mark.parametrize("name", ["concrete", "binary_concrete"])
@pytest.mark.parametrize("hard", [False, True])
def test_densities_of_own_samples_are_exact(backend: Backend, name: str, hard: bool) -> None:
    """At a low temperature, in float32, by the closed form of the log or logit of the sample."""
    logits, t = backend.array(ROWS, "float32"), 0.005
    value = call(backend, f"sample_{name}", logits, t, hard=hard)
    numbers = backend.numpy(value)
    assert ((numbers == 0) | (numbers == 1)).any()
    density = getattr(backend.functions, f"{name}_log_prob")(value, logits, t)
    space = "exp_concrete" if name == "concrete" else "logit_concrete"
    y = backend.numpy(call(backend, f"sample_{space}", logits, t))
    if name == "concrete":
        scores = ROWS - t * y
        scores -= np.log(np.exp(scores).sum(-1, keepdims=True))
        expected = np.log(2) + 2 * np.log(t) + scores.sum(-1) - y.sum(-1)
    else:
        d = ROWS - t * y
        expected = np.log(t) + d - 2 * np.logaddexp(0, d) + 2 * np.logaddexp(0, y) - y
    np.testing.assert_allclose(backend.numpy(density), expected, rtol=1e-4, atol=1e-3)


def test_soft_values_are_scored_by_the_discrete_distribution(backend: Backend) -> None:
    """A soft value is marked, so that OneHotCategorical scores it by its linear extension."""
    logits = backend.array(ROWS)
    plain = backend.names.OneHotCategorical(logits=logits)
    for value in (
        call(backend, "gumbel_softmax", logits, 0.5),
        call(backend, "sample_one_hot", logits, backend.functions.GumbelSoftmax(0.5, hard=False)),
    ):
        expected = (backend.numpy(value) * np.log(softmax(ROWS, -1))).sum(-1)
        np.testing.assert_allclose(backend.numpy(plain.log_prob(value)), expected, rtol=1e-12)
        with pytest.raises(ValueError, match="expected one-hot vectors"):
            plain.log_prob(backend.array(backend.numpy(value)))


def every(functions: Any, key: Callable[[int], dict[str, Any]]) -> Callable[[Any, Any], Any]:
    """A function of logits and a temperature that calls all functions of the functional layer."""

    def total(logits: Any, t: Any) -> Any:
        z = functions.sample_one_hot(logits, functions.GumbelRao(0.5, 3), **key(0))
        b = functions.sample_bernoulli(logits, functions.ReinMax(), **key(1))
        g = functions.gumbel_softmax(logits, t, **key(2))
        h = functions.straight_through(functions.gumbel_softmax(logits, t, True, **key(3)), g)
        result = (z * b + g * h).sum(-1)
        for i, (name, (_, one_hot)) in enumerate(DENSITIES.items()):
            value = getattr(functions, f"sample_{name}")(logits, t, **key(4 + i))
            density = getattr(functions, f"{name}_log_prob")(value, logits, t)
            result = result + (density if one_hot else density.sum(-1))
        return result

    return total


def test_jit_and_vmap_in_jax() -> None:
    """Compiled and mapped code has the numbers and gradients of one call at a time."""
    jax = pytest.importorskip("jax")
    functions = pytest.importorskip("relaxed_dists.jax")
    total = every(functions, lambda i: {"key": jax.random.key(i)})
    logits = jax.numpy.asarray(ROWS[0], "float32")
    eager = total(logits, 0.5)
    np.testing.assert_allclose(jax.jit(total)(logits, 0.5), eager, rtol=1e-4)
    rows = jax.jit(jax.vmap(total, (0, None)))(logits, 0.5)
    one = np.stack([jax.jit(total)(row, 0.5) for row in logits])
    np.testing.assert_allclose(rows, one, rtol=1e-4)
    gradients = [jax.grad(lambda x, f=f: f(x, 0.5).sum())(logits) for f in (total, jax.jit(total))]
    np.testing.assert_allclose(*gradients, rtol=1e-3, atol=1e-4)


def test_estimators_pass_through_jit() -> None:
    """Estimators are pytrees, so that a temperature may be traced, without NumPyro."""
    jax = pytest.importorskip("jax")
    functions = pytest.importorskip("relaxed_dists.jax")

    @jax.jit
    def draw(logits: Any, estimator: Any) -> Any:
        return functions.sample_one_hot(logits, estimator, key=jax.random.key(0))

    estimator = functions.GumbelSoftmax(0.5, hard=False)
    logits = jax.numpy.asarray(ROWS, "float32")
    expected = functions.sample_one_hot(logits, estimator, key=jax.random.key(0))
    np.testing.assert_allclose(draw(logits, estimator), expected, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
def test_compile_and_vmap_in_torch() -> None:
    """torch.compile makes one graph of all functions; vmap draws for each row."""
    torch = pytest.importorskip("torch")
    functions = pytest.importorskip("relaxed_dists.torch")
    total = every(functions, lambda i: {})
    logits = torch.tensor(ROWS[0], dtype=torch.float32, requires_grad=True)
    t = torch.tensor(0.5)
    rows = torch.vmap(lambda x: total(x, t), randomness="different")(logits.detach())
    assert rows.shape == (4,)
    assert rows.isfinite().all()
    value = one_graph(total, backend="aot_eager")(logits, t)
    value.sum().backward()
    assert value.shape == (4,)
    assert value.isfinite().all()
    assert logits.grad.isfinite().all()


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
def test_an_annealed_temperature_does_not_compile_anew() -> None:
    """A temperature that is a Python number compiles as often as in torch's own function."""
    torch = pytest.importorskip("torch")
    functions = pytest.importorskip("relaxed_dists.torch")
    logits = torch.tensor(ROWS[0], dtype=torch.float32)

    def number(draw: Callable[[Any, float], Any]) -> int:
        """How many programs are compiled for five temperatures."""
        programs = []

        def backend(graph: Any, example: Any) -> Any:
            programs.append(graph)
            return graph.forward

        step = one_graph(draw, backend=backend)
        for i in range(5):
            assert step(logits, 1.0 - 0.1 * i).isfinite().all()
        return len(programs)

    most = number(torch.nn.functional.gumbel_softmax)
    assert number(functions.gumbel_softmax) == most
    assert number(lambda x, t: functions.sample_one_hot(x, functions.GumbelRao(t))) == most
    assert number(lambda x, t: functions.sample_binary_concrete(x, t)) == most


def test_a_key_is_a_generator_in_torch() -> None:
    """The same generator state draws the same, and the global one is left alone."""
    torch = pytest.importorskip("torch")
    functions = pytest.importorskip("relaxed_dists.torch")
    state, logits = torch.get_rng_state(), torch.zeros(5, 3)
    for name, given in (
        ("gumbel_softmax", ()),
        ("sample_one_hot", (functions.GumbelRao(0.5),)),
        ("sample_bernoulli", (functions.GumbelRao(0.5),)),
        ("sample_concrete", (0.5,)),
        ("sample_logit_concrete", (0.5,)),
    ):
        draw = getattr(functions, name)
        keys = [torch.Generator().manual_seed(seed) for seed in (0, 0, 1)]
        first, again, other = (draw(logits, *given, key=key) for key in keys)
        assert torch.equal(first, again), name
        assert not torch.equal(first, other), name
        with pytest.raises(
            ValueError, match=r"^A draw got the key 0; expected a torch\.Generator, "
        ):
            draw(logits, *given, key=0)
    assert torch.equal(state, torch.get_rng_state())


def test_bad_arguments(backend: Backend) -> None:
    """Each error names the function, what it got, and what is expected."""
    f, zeros = backend.functions, backend.array(np.zeros((2, 3)))
    one, wide = f.StraightThrough(), backend.array(np.ones(3))
    refuses(
        "gumbel_softmax got tau=0.*; expected positive numbers from",
        lambda: call(backend, "gumbel_softmax", zeros, 0),
    )
    refuses(
        "gumbel_softmax got tau=.*; expected positive",
        lambda: call(backend, "gumbel_softmax", zeros, backend.array([1.0, np.nan])),
    )
    refuses(
        r"gumbel_softmax got a temperature of shape \(3,\) for the batch shape \(2,\)",
        lambda: call(backend, "gumbel_softmax", zeros, wide),
    )
    refuses("gumbel_softmax got tau of type", lambda: call(backend, "gumbel_softmax", zeros, "1"))
    refuses(
        "gumbel_softmax got logits of shape", lambda: call(backend, "gumbel_softmax", zeros[0, 0])
    )
    bad = backend.array([[0.0, np.nan], [INF, 0.0]])
    for name, given in (
        ("gumbel_softmax", ()),
        ("sample_one_hot", (one,)),
        ("sample_bernoulli", (one,)),
        ("sample_concrete", (0.5,)),
        ("sample_logit_concrete", (0.5,)),
    ):
        refuses(
            f"{name} got logits with NaN",
            lambda name=name, given=given: call(backend, name, bad, *given),
        )
    refuses(
        "sample_one_hot got 3 as its estimator; expected a value such as",
        lambda: call(backend, "sample_one_hot", zeros, 3),
    )
    refuses(
        "sample_bernoulli got the class ReinMax as its estimator",
        lambda: call(backend, "sample_bernoulli", zeros, f.ReinMax),
    )
    refuses(
        r"sample_one_hot got a temperature of shape \(3,\)",
        lambda: call(backend, "sample_one_hot", zeros, f.GumbelSoftmax(wide)),
    )
    refuses(
        "sample_concrete got temperature=-1",
        lambda: call(backend, "sample_concrete", zeros, -1),
    )
    refuses(
        "sample_concrete got temperature=None",
        lambda: call(backend, "sample_concrete", zeros, None),
    )
    refuses(
        r"concrete_log_prob got a value of shape \(2, 4\); .* \(2, 3\)",
        lambda: f.concrete_log_prob(backend.array(np.full((2, 4), 0.25)), zeros, 0.5),
    )
    refuses(
        "exp_concrete_log_prob got .*; expected logs of points of the simplex. Apply log_softmax",
        lambda: f.exp_concrete_log_prob(zeros, zeros, 0.5),
    )
    refuses(
        "binary_concrete_log_prob got .*; expected numbers from 0 to 1",
        lambda: f.binary_concrete_log_prob(zeros - 1, zeros, 0.5),
    )


@pytest.mark.parametrize("name", ["concrete", "binary_concrete"])
def test_rounded_copies_are_refused(backend: Backend, name: str) -> None:
    """A copy of a hard sample has no known density; the error names the function to use."""
    logits = backend.array(ROWS)
    value = call(backend, f"sample_{name}", logits, 0.5, hard=True)
    space = "exp_concrete" if name == "concrete" else "logit_concrete"
    copy = backend.array(backend.numpy(value))
    refuses(
        f"^{name}_log_prob got a value that has lost .*rounded to 0.*Use a draw of sample_{space}",
        lambda: getattr(backend.functions, f"{name}_log_prob")(copy, logits, 0.5),
    )


def test_torchs_setting_switches_checks_off() -> None:
    """Without validation a bad temperature is moved into the range, as in the distributions."""
    torch = pytest.importorskip("torch")
    functions = pytest.importorskip("relaxed_dists.torch")
    torch.distributions.Distribution.set_default_validate_args(False)
    assert functions.gumbel_softmax(torch.zeros(3), 0.0).sum() == 1
    assert functions.sample_concrete(torch.zeros(3), -1.0).sum() == 1


ALONE = """
import sys
sys.modules |= dict.fromkeys(["pyro", "numpyro", "scipy", "funsor", {other!r}])
from test_functional import every
import {array} as xp
import relaxed_dists.{room} as functions
key = {key}
value = every(functions, key)(xp.zeros((4, 3)), 0.5)
print(tuple(value.shape), bool(xp.isfinite(value).all()))
"""


def test_torch_or_jax_is_enough(backend: Backend) -> None:
    """All functions work in a process where Pyro, NumPyro and the other framework are blocked."""
    torch = backend.framework == "pyro"
    code = ALONE.format(
        other="jax" if torch else "torch",
        array=backend.array_module,
        room=backend.room,
        key="lambda i: {}" if torch else "lambda i: {'key': __import__('jax').random.key(i)}",
    )
    path = f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}\n"
    # This file imports SciPy for its expected values, so the function is taken from its text.
    code = code.replace(
        "from test_functional import every\n",
        f"DENSITIES = {DENSITIES!r}\nfrom typing import *\n" + inspect.getsource(every),
    )
    found = subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True)
    assert found.stdout.strip() == "(4,) True", found.stderr
