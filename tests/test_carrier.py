"""The relaxed sample behind a value: kept by the object drawn, missed by every copy, never wrong.

Expected densities are the papers' formulas, in NumPy, at the log value that the log-space or
logit-space law draws with the same seed.
"""

import copy
import gc
import importlib.util
import io
import pickle
import re
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, gammaln, log_softmax

from cases import STRAIGHT_THROUGH
from harness import Backend, Jax, Torch

VIEWS = ["RelaxedOneHotCategorical", "RelaxedBernoulli"]
SPACE = {"O": "ExpRelaxedOneHotCategorical", "B": "LogitRelaxedBernoulli"}
LOGITS = np.random.default_rng(1).normal(0, 1.5, (3, 4))  # a batch of three rows, or of (3, 4)
TEMPERATURE = 0.5

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("pyro") is None, reason="framework not installed"
)
needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("numpyro") is None, reason="framework not installed"
)


def letter(name: str) -> str:
    """O for the one-hot family, B for the binary one."""
    return "O" if "OneHot" in name else "B"


def make(backend: Backend, name: str, t: float = TEMPERATURE, dtype: str = "float64") -> Any:
    """The named law at the logits above."""
    logits = backend.array(LOGITS, dtype)
    return getattr(backend.names, name)(backend.array(t, dtype), logits=logits)


def density(name: str, y: np.ndarray, t: float, logits: np.ndarray = LOGITS) -> np.ndarray:
    """The relaxed log density on the simplex, or on (0, 1), at a log value or a logit y."""
    d = logits - t * y
    if letter(name) == "B":
        jacobian = np.logaddexp(0, y) + np.logaddexp(0, -y)
        return np.log(t) + d - 2 * np.logaddexp(0, d) + jacobian
    k = y.shape[-1]
    return gammaln(k) + (k - 1) * np.log(t) + log_softmax(d, -1).sum(-1) - y.sum(-1)


def hard(name: str, y: np.ndarray) -> np.ndarray:
    """The one-hot, or the bit, of a log value or a logit."""
    return np.eye(y.shape[-1])[y.argmax(-1)] if letter(name) == "O" else (y > 0) * 1.0


def pair(
    backend: Backend, name: str, seed: int, t: float = TEMPERATURE, shape: tuple[int, ...] = ()
) -> tuple[Any, Any, np.ndarray]:
    """A law, a draw of it, and the log value of the same seed in NumPy."""
    law = make(backend, name, t)
    value = backend.draw(law, seed, shape)
    y = backend.numpy(backend.draw(make(backend, SPACE[letter(name)], t), seed, shape))
    return law, value, y


def lost(name: str) -> str:
    """The whole error of a value that has lost its relaxed sample, as a pattern."""
    log_space, discrete = SPACE[letter(name)], name.replace("Relaxed", "")
    discrete = discrete.replace("StraightThrough", "")
    text = (
        f"{name}.log_prob got a value that has lost the relaxed sample behind it; expected the "
        "very object that the distribution drew: a copy, an index, a reshape, an in-place write "
        "or a transformation's boundary loses it. Three ways need no carried sample: a site of "
        f"{log_space} with straight_through after it; {discrete} with an estimator; or "
        ".discrete.log_prob(value) for the mass of the hard value."
    )
    return f"^{re.escape(text)}$"


def score(backend: Backend, law: Any, value: Any, error: str) -> np.ndarray | None:
    """The density of a value, or None for the error that the sample is lost (no other error)."""
    try:
        return backend.numpy(law.log_prob(value))
    except ValueError as raised:
        if re.match(error, str(raised)):
            return None
        raise


# Both frameworks: the object drawn.


@pytest.mark.parametrize("shape", [(), (2, 5)])
@pytest.mark.parametrize("t", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("name", [*STRAIGHT_THROUGH, *VIEWS])
def test_a_value_is_scored_by_the_relaxed_sample_behind_it(
    backend: Backend, name: str, t: float, shape: tuple[int, ...], seed: int
) -> None:
    """log_prob is the relaxed density of the log value of the same seed; rtol 1e-9."""
    law, value, y = pair(backend, name, seed, t, shape)
    for _ in range(2):  # a second look finds it as well
        np.testing.assert_allclose(backend.numpy(law.log_prob(value)), density(name, y, t), 1e-9)


@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_the_forward_value_is_exactly_hard(backend: Backend, name: str, seed: int) -> None:
    """The very numbers 0 and 1, at the largest category or by the sign of the logit."""
    _, value, y = pair(backend, name, seed, shape=(1000,))
    np.testing.assert_array_equal(backend.numpy(value), hard(name, y))


@pytest.mark.parametrize("name", [*STRAIGHT_THROUGH, *VIEWS])
def test_own_densities_are_finite_where_the_value_underflows(
    backend: Backend, name: str, seed: int
) -> None:
    """float32 at temperature 0.01: most values round to a corner, and all densities are right.

    rtol 1e-4 of the density of the same log value; its float32 rounding is in both.
    """
    law = make(backend, name, 0.01, "float32")
    value = backend.draw(law, seed, (500,))
    log_law = make(backend, SPACE[letter(name)], 0.01, "float32")
    y = backend.numpy(backend.draw(log_law, seed, (500,)))
    logits = LOGITS.astype("float32").astype("float64")
    numbers = backend.numpy(value)
    assert ((numbers == 0) | (numbers == 1)).mean() > 0.4
    expected = density(name, y, float(np.float32(0.01)), logits)
    np.testing.assert_allclose(backend.numpy(law.log_prob(value)), expected, 1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", [*STRAIGHT_THROUGH, *VIEWS])
def test_in_half_precision_the_sample_behind_is_in_single(
    backend: Backend, name: str, dtype: str, seed: int
) -> None:
    """The density is that of the float32 log value, in float32: 1e-5, where a half has 4e-4."""
    law = make(backend, name, TEMPERATURE, dtype)
    value = backend.draw(law, seed, (200,))
    logits = backend.numpy(backend.array(LOGITS, dtype))
    exact = getattr(backend.names, SPACE[letter(name)])(
        backend.array(TEMPERATURE, "float32"), logits=backend.array(logits, "float32")
    )
    y = backend.numpy(backend.draw(exact, seed, (200,)))
    assert str(value.dtype).endswith(dtype)
    actual = backend.numpy(law.log_prob(value))
    np.testing.assert_allclose(actual, density(name, y, TEMPERATURE, logits), 1e-5, 1e-5)


@pytest.mark.parametrize("name", VIEWS)
def test_a_copy_of_a_relaxed_value_is_scored_by_its_numbers(
    backend: Backend, name: str, seed: int
) -> None:
    """At temperature 0.5 they say it all (rtol 1e-6); at 0.01 in float32 the density is finite."""
    law, value, y = pair(backend, name, seed, shape=(50,))
    actual = backend.numpy(law.log_prob(backend.array(backend.numpy(value))))
    np.testing.assert_allclose(actual, density(name, y, TEMPERATURE), 1e-6, 1e-6)
    cold = make(backend, name, 0.01, "float32")
    again = backend.array(backend.numpy(backend.draw(cold, seed, (500,))), "float32")
    assert np.isfinite(backend.numpy(cold.log_prob(again))).all()


@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_a_value_made_elsewhere_is_refused(backend: Backend, name: str) -> None:
    """A one-hot or a bit that no draw made has no relaxed sample."""
    law = make(backend, name)
    value = backend.array(hard(name, LOGITS))
    with pytest.raises(ValueError, match=lost(name)):
        law.log_prob(value)


@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_a_value_of_another_family_is_not_taken_for_ones_own(
    backend: Backend, name: str, seed: int
) -> None:
    """A logit is not read as a log value, nor the other way round."""
    other = STRAIGHT_THROUGH[1 - STRAIGHT_THROUGH.index(name)]
    value = backend.draw(make(backend, other), seed)
    with pytest.raises(ValueError, match=lost(name)):
        make(backend, name).log_prob(value)


@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_another_law_scores_the_same_relaxed_sample(backend: Backend, name: str, seed: int) -> None:
    """What the model's side of an ELBO asks: its own density, at the guide's relaxed sample."""
    _, value, y = pair(backend, name, seed, shape=(6,))
    for law in (name, name.replace("StraightThrough", "")):
        actual = backend.numpy(make(backend, law, 0.9).log_prob(value))
        np.testing.assert_allclose(actual, density(name, y, 0.9), 1e-9)


@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_the_discrete_twin_scores_every_copy(backend: Backend, name: str, seed: int) -> None:
    """The third way that the error names: the mass of the hard value, from any copy."""
    law, value, y = pair(backend, name, seed, shape=(6,))
    actual = backend.numpy(law.discrete.log_prob(backend.array(backend.numpy(value))))
    rows = log_softmax(LOGITS, -1)
    binary = np.where(y > 0, np.log(expit(LOGITS)), np.log(expit(-LOGITS)))
    expected = (hard(name, y) * rows).sum(-1) if letter(name) == "O" else binary
    np.testing.assert_allclose(actual, expected, 1e-9)


@pytest.mark.parametrize("name", ["RelaxedOneHotCategoricalStraightThrough", VIEWS[0]])
def test_the_gradient_of_an_own_density_is_that_of_the_whole_path(
    backend: Backend, name: str, seed: int
) -> None:
    """d log p(x) / d logits = -(1 - K x) / t, through the draw and through the density."""
    _, _, y = pair(backend, name, seed)

    def total(logits: Any) -> Any:
        law = getattr(backend.names, name)(backend.array(TEMPERATURE), logits=logits)
        return law.log_prob(backend.draw(law, seed)).sum()

    (grad,) = backend.grad(total, backend.array(LOGITS))
    np.testing.assert_allclose(grad, -(1 - 4 * np.exp(y)) / TEMPERATURE, 1e-8, 1e-8)


# What loses it.

TORCH_COPIES: dict[str, Callable[[Any], Any]] = {
    "clone": lambda z: z.clone(),
    "index": lambda z: z[:1],
    "new axis": lambda z: z[None],
    "reshape": lambda z: z.reshape(1, *z.shape),
    "expand": lambda z: z.expand(2, *z.shape),
    "stack": lambda z: _torch().stack([z, z]),
    "cat": lambda z: _torch().cat([z, z]),
    "detach": lambda z: z.detach(),
    "data": lambda z: z.data,
    "add": lambda z: z + 0,
    "to float32": lambda z: z.float(),
    "in-place zero_": lambda z: z.zero_(),
    "in-place mul_": lambda z: z.mul_(1),
    "in-place item": lambda z: _write(z),
    "in-place view": lambda z: _write_view(z),
    "where": lambda z: _torch().where(z > 0, z, z),
}


def _torch() -> Any:
    import torch

    return torch


def _write(z: Any) -> Any:
    z[0] = 1.0
    return z


def _write_view(z: Any) -> Any:
    z[0].fill_(1.0)
    return z


def _jnp() -> Any:
    import jax.numpy as jnp

    return jnp


def _jax() -> Any:
    import jax

    return jax


JAX_COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": lambda z: _jnp().array(z),
    "index": lambda z: z[:1],
    "new axis": lambda z: z[None],
    "reshape": lambda z: z.reshape(1, *z.shape),
    "stack": lambda z: _jnp().stack([z, z]),
    "stop_gradient": lambda z: _jax().lax.stop_gradient(z) + 0,
    "add": lambda z: z + 0,
    "astype": lambda z: z.astype("float32"),
    "at": lambda z: z.at[0].set(1.0),
    "numpy": lambda z: np.asarray(z),
    "jit": lambda z: _jax().jit(lambda x: x + 0)(z),
    "scan": lambda z: _jax().lax.scan(lambda c, _: (c + 0, None), z, None, length=2)[0],
}


@needs_torch
@pytest.mark.parametrize("how", TORCH_COPIES)
@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_in_torch_copies_and_writes_lose_it(name: str, how: str, seed: int) -> None:
    """The error, whole; the untouched original of a copy is still right."""
    backend = Torch()
    law, value, y = pair(backend, name, seed, shape=(2,))
    copied = TORCH_COPIES[how](value)
    with pytest.raises(ValueError, match=lost(name)):
        law.log_prob(copied)
    kept = score(backend, law, value, lost(name))
    assert (kept is None) == ("in-place" in how)
    assert kept is None or np.allclose(kept, density(name, y, TEMPERATURE), 1e-9)


@needs_jax
@pytest.mark.parametrize("how", JAX_COPIES)
@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_in_jax_copies_lose_it(name: str, how: str, seed: int) -> None:
    """The error, whole; the original is still right."""
    backend = Jax()
    with backend.double():
        law, value, y = pair(backend, name, seed, shape=(2,))
        copied = JAX_COPIES[how](value)
        with pytest.raises(ValueError, match=lost(name)):
            law.log_prob(copied)
        kept = backend.numpy(law.log_prob(value))
    np.testing.assert_allclose(kept, density(name, y, TEMPERATURE), 1e-9)


@needs_jax
@pytest.mark.parametrize("transform", ["jit", "vmap", "grad", "scan"])
@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_in_jax_a_transformations_boundary_loses_it_at_trace_time(
    name: str, transform: str, seed: int
) -> None:
    """A value drawn outside and scored inside: the error comes before anything runs."""
    import jax

    backend = Jax()
    with backend.double():
        law, value, _ = pair(backend, name, seed, shape=(2,))
        inside: dict[str, Callable[[], Any]] = {
            "jit": lambda: jax.jit(law.log_prob)(value),
            "vmap": lambda: jax.vmap(law.log_prob)(value),
            "grad": lambda: jax.grad(lambda z: law.log_prob(z).sum())(value),
            "scan": lambda: jax.lax.scan(lambda c, z: (c, law.log_prob(z)), 0, value),
        }
        # Without the pattern's end: JAX adds a note on filtered tracebacks.
        with pytest.raises(ValueError, match=lost(name)[:-1]):
            inside[transform]()


@needs_torch
@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_in_torch_a_compilers_boundary_loses_it(name: str, seed: int) -> None:
    """A value drawn outside a compiled function and scored inside it."""
    import torch

    law, value, _ = pair(Torch(), name, seed)
    with pytest.raises(ValueError, match=lost(name)):
        torch.compile(lambda z: law.log_prob(z), backend="eager")(value)


def _through_file(z: Any) -> Any:
    import torch

    file = io.BytesIO()
    torch.save(z, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("how", ["copy", "deepcopy", "pickle", "torch.save"])
@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
@needs_torch
def test_in_torch_a_serialised_value_is_right_or_refused(
    name: str, how: str, written: bool, seed: int
) -> None:
    """Whatever travels with it: the right density or the error, never another number.

    After an in-place write (to other categories) only the error is right.
    """
    import torch

    backend = Torch()
    law = make(backend, name)
    torch.manual_seed(seed)
    value = law.sample()  # without a graph, which deepcopy refuses
    y = backend.numpy(backend.draw(make(backend, SPACE[letter(name)]), seed))
    value = {False: lambda z: z, True: lambda z: z.zero_()}[written](value)
    travel = {
        "copy": copy.copy,
        "deepcopy": copy.deepcopy,
        "pickle": lambda z: pickle.loads(pickle.dumps(z)),
        "torch.save": _through_file,
    }[how]
    kept = score(backend, law, travel(value), lost(name))
    assert kept is None or (not written and np.allclose(kept, density(name, y, TEMPERATURE)))


@needs_jax
@pytest.mark.parametrize("how", ["copy", "deepcopy", "pickle"])
@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_in_jax_a_serialised_value_is_right_or_refused(name: str, how: str, seed: int) -> None:
    """The right density or the error, never another number."""
    backend = Jax()
    with backend.double():
        law, value, y = pair(backend, name, seed)
        travel = {
            "copy": copy.copy,
            "deepcopy": copy.deepcopy,
            "pickle": lambda z: pickle.loads(pickle.dumps(z)),
        }[how]
        kept = score(backend, law, travel(value), lost(name))
    assert kept is None or np.allclose(kept, density(name, y, TEMPERATURE))


# Inside transformations.


def torch_inside(name: str) -> Callable[[Any], Any]:
    """A function that draws, and returns the value, the relaxed sample behind it and its score."""
    from relaxed_dists_pyro._carrier import behind

    space = "log_simplex" if letter(name) == "O" else "logit"
    law_of = getattr(Torch().names, name)

    def inside(logits: Any) -> Any:
        law = law_of(TEMPERATURE, logits=logits)
        value = law.rsample()
        return value, behind(value, space), law.log_prob(value)

    return inside


def check_inside(backend: Backend, name: str, outcome: Any) -> None:
    """The score is the density at the relaxed sample, and the value is its rounding."""
    value, y, log_prob = map(backend.numpy, outcome)
    np.testing.assert_allclose(log_prob, density(name, y, TEMPERATURE), 1e-9)
    np.testing.assert_array_equal(value, hard(name, y))
    assert np.unique(y).size == y.size  # every entry has noise of its own


INDUCTOR = pytest.param(
    "inductor",
    marks=[
        pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler"),
        # Inductor's first import defines a torch.jit.script_method, which torch deprecates itself.
        pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning"),
    ],
)


@needs_torch
@pytest.mark.parametrize("compiler", ["aot_eager", INDUCTOR])
@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_inside_torch_compile_it_is_right(name: str, compiler: str, seed: int) -> None:
    """In one graph, without a break."""
    import torch

    torch.manual_seed(seed)
    compiled = torch.compile(torch_inside(name), fullgraph=True, backend=compiler)
    check_inside(Torch(), name, compiled(Torch().array(LOGITS)))


@needs_torch
@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_inside_torch_vmap_it_is_right(name: str, seed: int) -> None:
    """Over the rows of the logits, noise of its own for each."""
    import torch

    torch.manual_seed(seed)
    inside = torch.func.vmap(torch_inside(name), randomness="different")
    check_inside(Torch(), name, inside(Torch().array(LOGITS)))


@needs_torch
@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_inside_torch_func_grad_it_is_right(name: str, seed: int) -> None:
    """functorch's gradient is autograd's."""
    import torch

    def total(logits: Any) -> Any:
        torch.manual_seed(seed)
        value, _, log_prob = torch_inside(name)(logits)
        return log_prob.sum() + value.square().sum()

    actual = Torch().numpy(torch.func.grad(total)(Torch().array(LOGITS)))
    np.testing.assert_allclose(actual, Torch().grad(total, Torch().array(LOGITS))[0], 1e-9)


@needs_jax
@pytest.mark.parametrize("transform", ["jit", "vmap", "scan", "map", "remat", "jit of vmap"])
@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_inside_jax_transformations_it_is_right(name: str, transform: str, seed: int) -> None:
    """Drawn and scored inside: the density at the log value of the same key, outside."""
    import jax

    backend = Jax()
    with backend.double():
        law, log_law = make(backend, name), make(backend, SPACE[letter(name)])
        keys = jax.random.split(jax.random.key(seed), 5)

        def inside(key: Any) -> Any:
            value = law(rng_key=key)
            return value, law.log_prob(value)

        run: dict[str, Callable[[], Any]] = {
            "jit": lambda: jax.tree.map(lambda *x: np.stack(x), *map(jax.jit(inside), keys)),
            "vmap": lambda: jax.vmap(inside)(keys),
            "scan": lambda: jax.lax.scan(lambda c, key: (c, inside(key)), 0, keys)[1],
            "map": lambda: jax.lax.map(inside, keys),
            "remat": lambda: jax.vmap(jax.checkpoint(inside))(keys),
            "jit of vmap": lambda: jax.jit(jax.vmap(inside))(keys),
        }
        value, log_prob = map(backend.numpy, run[transform]())
        y = np.stack([backend.numpy(log_law(rng_key=key)) for key in keys])
    np.testing.assert_allclose(log_prob, density(name, y, TEMPERATURE), 1e-9)
    np.testing.assert_array_equal(value, hard(name, y))


@needs_jax
def test_nothing_is_left_in_the_map_when_the_values_are_gone(seed: int) -> None:
    """Arrays and tracers of jit, grad, vmap and scan: the map has no entry after them."""
    import jax

    from relaxed_dists_numpyro import _carrier

    gc.collect()
    before = set(_carrier._behind)
    law = make(Jax(), STRAIGHT_THROUGH[0], dtype="float32")

    def total(logits: Any, key: Any) -> Any:
        inner = type(law)(TEMPERATURE, logits=logits)
        value = inner(rng_key=key)
        return inner.log_prob(value).sum() + value.sum()

    keys = jax.random.split(jax.random.key(seed), 3)
    value = law(rng_key=keys[0])
    assert id(value) in set(_carrier._behind) - before
    gradient = jax.grad(total)
    gradient(law.logits, keys[0])
    jax.jit(jax.vmap(gradient, (None, 0)))(law.logits, keys)
    jax.lax.scan(lambda c, key: (c, total(law.logits, key)), 0, keys)
    with jax.checking_leaks():
        jax.jit(lambda key: total(law.logits, key))(keys[1])
    del value
    gc.collect()
    assert set(_carrier._behind) <= before


@needs_jax
def test_a_new_array_at_an_old_ones_address_has_no_relaxed_sample(seed: int) -> None:
    """Identities are used again: values die, and none of the arrays after is taken for theirs."""
    import jax
    import jax.numpy as jnp

    backend, name = Jax(), STRAIGHT_THROUGH[0]
    law, corner = make(backend, name, dtype="float32"), hard(name, LOGITS)
    addresses, others = set(), []
    for i in range(300):
        addresses.add(id(law(rng_key=jax.random.key(seed + i))))
        others.append(jnp.asarray(corner, "float32"))
    assert addresses & set(map(id, others))
    assert [score(backend, law, other, lost(name)) for other in others] == [None] * 300


# Handlers.


@needs_torch
@pytest.mark.parametrize("handler", ["trace", "replay", "condition", "mask", "replay in a plate"])
@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_pyros_handlers_keep_the_value(name: str, handler: str, seed: int) -> None:
    """The same object reaches the site, and its log_prob is right; masked rows count zero."""
    import pyro
    import torch
    from pyro import poutine

    backend = Torch()
    law, value, y = pair(backend, name, seed)
    dims = 0 if letter(name) == "O" else 1
    mask = torch.tensor([True, False, True])

    def model(masked: bool = False) -> Any:
        site = law.to_event(dims)
        return pyro.sample("z", site.mask(mask) if masked else site)

    def in_plate() -> Any:
        with pyro.plate("rows", 3):
            return model()

    given = poutine.trace(poutine.condition(model, data={"z": value})).get_trace()
    pyro.set_rng_seed(seed)
    own = poutine.trace(model).get_trace()
    traces: dict[str, Callable[[], Any]] = {
        "trace": lambda: own,
        "replay": lambda: poutine.trace(poutine.replay(model, trace=own)).get_trace(),
        "condition": lambda: given,
        "mask": lambda: poutine.trace(poutine.replay(model, trace=own)).get_trace(True),
        "replay in a plate": lambda: poutine.trace(poutine.replay(in_plate, trace=own)).get_trace(),
    }
    trace = traces[handler]()
    trace.compute_log_prob()
    expected = density(name, y, TEMPERATURE)
    expected = expected.sum(-1) if dims else expected
    expected = expected * (np.array([1, 0, 1]) if handler == "mask" else 1)
    np.testing.assert_allclose(backend.numpy(trace.nodes["z"]["log_prob"]), expected, 1e-9)


@needs_jax
@pytest.mark.parametrize(
    "handler", ["trace", "replay", "substitute", "condition", "mask", "replay in a plate"]
)
@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_numpyros_handlers_keep_the_value(name: str, handler: str, seed: int) -> None:
    """The same object reaches the site, and its log_prob is right; masked rows count zero."""
    import jax
    import jax.numpy as jnp
    import numpyro
    from numpyro import handlers
    from numpyro.infer.util import compute_log_probs

    backend = Jax()
    with backend.double():
        law, value, y = pair(backend, name, seed)
        dims = 0 if letter(name) == "O" else 1
        mask = jnp.array([True, False, True])

        def model(masked: bool = False) -> Any:
            site = law.to_event(dims)
            return numpyro.sample("z", site.mask(mask) if masked else site)

        def in_plate() -> Any:
            with numpyro.plate("rows", 3):
                return model()

        def own() -> Any:
            return numpyro.sample("z", law.to_event(dims), rng_key=jax.random.key(seed))

        drawn = handlers.trace(own).get_trace()
        wrapped: dict[str, Any] = {
            "trace": own,
            "replay": handlers.replay(model, drawn),
            "substitute": handlers.substitute(model, {"z": value}),
            "condition": handlers.condition(model, {"z": value}),
            "mask": handlers.replay(lambda: model(True), drawn),
            "replay in a plate": handlers.replay(in_plate, drawn),
        }
        log_probs, _ = compute_log_probs(wrapped[handler], (), {}, {}, sum_log_prob=False)
        actual = backend.numpy(log_probs["z"])
    expected = density(name, y, TEMPERATURE)
    expected = expected.sum(-1) if dims else expected
    expected = expected * (np.array([1, 0, 1]) if handler == "mask" else 1)
    np.testing.assert_allclose(actual, expected, 1e-9)


@needs_torch
@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_pyros_handlers_with_a_copy_are_refused(name: str, seed: int) -> None:
    """Conditioned on a copy, a site has no relaxed sample to score."""
    import pyro
    from pyro import poutine

    law, value, _ = pair(Torch(), name, seed)
    conditioned = poutine.condition(lambda: pyro.sample("z", law), data={"z": value.clone()})
    trace = poutine.trace(conditioned).get_trace()
    with pytest.raises(ValueError, match=lost(name)[1:-1]):
        trace.compute_log_prob()


@needs_jax
@pytest.mark.parametrize("handler", ["substitute", "condition"])
@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_numpyros_handlers_with_a_copy_are_refused(name: str, handler: str, seed: int) -> None:
    """Substituted or conditioned by a copy, a site has no relaxed sample to score."""
    import jax.numpy as jnp
    import numpyro
    from numpyro import handlers
    from numpyro.infer.util import log_density

    backend = Jax()
    with backend.double():
        law, value, _ = pair(backend, name, seed)
        wrap = getattr(handlers, handler)
        wrapped = wrap(lambda: numpyro.sample("z", law), {"z": jnp.array(value)})
        with pytest.raises(ValueError, match=lost(name)):
            log_density(wrapped, (), {}, {})
