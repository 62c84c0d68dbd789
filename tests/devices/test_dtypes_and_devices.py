"""Parameters and defaults that change dtype or device between construction and use."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from cases import DISCRETE, MIXED, RELAXED
from harness import Backend, Torch, enable_x64

NAMES = RELAXED + DISCRETE + MIXED
K = 4


def made(backend: Backend, name: str, logits: Any) -> Any:
    """The distribution of a name, with two temperatures if it has one."""
    cls = getattr(backend.names, name)
    if name in DISCRETE:
        return cls(logits=logits)
    return cls(backend.array([0.5, 2.0], str(logits.dtype).split(".")[-1]), logits=logits)


def parameters(backend: Backend, name: str, dtype: str) -> Any:
    """Logits of two events."""
    logits = np.random.default_rng(0).normal(size=(2, K))
    return backend.array(logits if "OneHot" in name else logits[:, 0], dtype)


def quantities(backend: Backend, d: Any) -> list[Any]:
    """A draw, its density, and the moments and the entropy where the distribution has them."""
    value = backend.draw(d, 0)
    found = [value, d.log_prob(value)]
    for ask in (lambda: d.mean, lambda: d.variance, lambda: d.entropy()):
        try:
            found.append(ask())
        except NotImplementedError:
            continue
    return found


def check_same(backend: Backend, mine: list[Any], expected: list[Any]) -> None:
    """Check that dtypes, devices and numbers are the same."""
    assert len(mine) == len(expected) >= 2
    for a, b in zip(mine, expected, strict=True):
        assert (a.dtype, a.device) == (b.dtype, b.device)
        np.testing.assert_array_equal(backend.numpy(a), backend.numpy(b))


@contextmanager
def defaults(dtype: str | None, device: str | None) -> Iterator[None]:
    """torch's default dtype or device, changed inside."""
    import torch

    before = torch.get_default_dtype()
    try:
        if dtype:
            torch.set_default_dtype(getattr(torch, dtype))
        if device:
            torch.set_default_device(device)
        yield
    finally:
        torch.set_default_dtype(before)
        torch.set_default_device(None)


@pytest.fixture
def torch_backend(backend: Backend) -> Torch:
    """The backend of torch; for JAX, which has no such setting, the test is skipped."""
    if not isinstance(backend, Torch):
        pytest.skip("JAX has no default dtype, nor modules with a device")
    return backend


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("dtype", "device"), [("float64", None), ("float16", None), (None, "meta")]
)
def test_a_default_that_changes_changes_nothing(
    torch_backend: Torch, name: str, dtype: str | None, device: str | None
) -> None:
    """A distribution keeps the dtype and device of its parameters, and its numbers."""
    for own in ("float32", "float64"):
        logits = parameters(torch_backend, name, own)
        expected = quantities(torch_backend, made(torch_backend, name, logits))
        d = made(torch_backend, name, logits)
        with defaults(dtype, device):
            found = quantities(torch_backend, d)
        check_same(torch_backend, found, expected)


@pytest.mark.parametrize("name", ["RelaxedSubset", "RelaxedPermutation"])
@pytest.mark.parametrize("hard", [False, True])
def test_a_default_device_changes_no_draw_without_a_density(
    torch_backend: Torch, name: str, hard: bool
) -> None:
    """Draws of subsets and permutations, and their gradients, are those of the logits' device."""
    import torch

    more = {"k": 2} if name == "RelaxedSubset" else {}
    logits = torch_backend.array(np.random.default_rng(0).normal(size=(5, K, K)), "float32")
    cls, weights = getattr(torch_backend.names, name), torch.arange(float(K))

    def draw(leaf: Any) -> list[Any]:
        value = torch_backend.draw(cls(0.5, logits=leaf, hard=hard, **more), 0)
        return [value.detach(), *torch.autograd.grad((value * weights).sum(), leaf)]

    expected = draw(logits.requires_grad_())
    with defaults(None, "meta"):
        found = draw(logits)
    check_same(torch_backend, found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_module_moves(torch_backend: Torch, name: str) -> None:
    """A module that holds parameters computes in the dtype and on the device it is moved to."""
    import torch

    class Head(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = torch.nn.Parameter(parameters(torch_backend, name, "float32"))

        def forward(self) -> Any:
            temperature = () if name in DISCRETE else (0.5,)
            return getattr(torch_backend.names, name)(*temperature, logits=self.logits)

    head = Head()
    before = quantities(torch_backend, head())
    for dtype in (torch.float64, torch.bfloat16):
        value, *others = quantities(torch_backend, head.to(dtype)())
        assert value.dtype == dtype
        # The log density of bfloat16 is computed, and stays, in float32.
        assert {x.dtype for x in others} <= {dtype, torch.promote_types(dtype, torch.float32)}
    assert {x.device.type for x in quantities(torch_backend, head.to("meta")())} == {"meta"}
    again = Head()
    again.load_state_dict(Head().state_dict())
    check_same(torch_backend, quantities(torch_backend, again.double().float()()), before)


@pytest.mark.parametrize("name", DISCRETE)
def test_values_of_a_wider_dtype(backend: Backend, name: str) -> None:
    """Logits in float32 get the same gradient from values in float64 as from values in float32."""
    with backend.double():
        logits = parameters(backend, name, "float32")
        value = backend.draw(made(backend, name, logits), 0)
        wide = backend.array(backend.numpy(value))

        def gradient(value: Any) -> np.ndarray:
            return backend.grad(lambda x: made(backend, name, x).log_prob(value).sum(), logits)[0]

        np.testing.assert_allclose(gradient(wide), gradient(value), rtol=1e-6, atol=1e-6)


def accelerator(kind: str) -> Any:
    """torch's device of a kind; without one the test is skipped."""
    import torch

    there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if not there[kind]():
        pytest.skip(f"torch finds no device of the kind {kind!r} on this machine")
    return torch.device(kind)


@pytest.mark.parametrize("kind", ["cuda", "mps"])
@pytest.mark.parametrize("name", NAMES)
def test_a_module_moves_to_an_accelerator(torch_backend: Torch, name: str, kind: str) -> None:
    """On a GPU moments and densities of the same values are those of the CPU, to 1e-5."""
    device = accelerator(kind)
    logits = parameters(torch_backend, name, "float32")
    here = made(torch_backend, name, logits)
    temperature = () if name in DISCRETE else (here.temperature.to(device),)
    there = getattr(torch_backend.names, name)(*temperature, logits=logits.to(device))
    found, expected = (quantities(torch_backend, d)[2:] for d in (there, here))
    for mine, other in zip(found, expected, strict=True):
        assert mine.device.type == kind
        np.testing.assert_allclose(
            torch_backend.numpy(mine.cpu()), torch_backend.numpy(other), 1e-5, 1e-5
        )
    value = torch_backend.draw(there, 0)
    assert value.device.type == kind
    assert np.isfinite(torch_backend.numpy(there.log_prob(value).cpu())).all()


@pytest.fixture
def jax_backend(backend: Backend) -> Backend:
    """The backend of JAX; torch, which always has float64, is skipped."""
    if backend.framework != "numpyro":
        pytest.skip("torch has no switch for float64")
    return backend


@pytest.mark.share
@pytest.mark.parametrize("name", NAMES)
def test_float64_switched_on_and_off(jax_backend: Backend, name: str) -> None:
    """Numbers in float32 are the same before, inside and after the context; float64 is precise.

    So each cache of compiled programs gets an entry for each dtype.
    """
    import jax

    single = made(jax_backend, name, parameters(jax_backend, name, "float32"))
    asked = jax.jit(lambda d: quantities(jax_backend, d))
    before = asked(single)
    with enable_x64():
        inside = asked(single)
        double = made(jax_backend, name, parameters(jax_backend, name, "float64"))
        precise = asked(double)
    check_same(jax_backend, asked(single), before)
    check_same(jax_backend, inside, before)
    assert {x.dtype for x in precise} == {np.dtype("float64")}
    for mine, expected in zip(before[2:], precise[2:], strict=True):
        np.testing.assert_allclose(jax_backend.numpy(mine), jax_backend.numpy(expected), 1e-5, 1e-6)
    after = asked(double)  # float64 arrays outlive the context
    for mine, expected in zip(after[2:], precise[2:], strict=True):
        np.testing.assert_allclose(jax_backend.numpy(mine), jax_backend.numpy(expected), 1e-5, 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_jax_on_an_accelerator(jax_backend: Backend, name: str) -> None:
    """Results are on the device of the parameters, with the CPU's numbers."""
    import jax

    if jax.default_backend() == "cpu":
        pytest.skip("JAX finds no GPU or TPU on this machine")
    logits = parameters(jax_backend, name, "float32")
    found = quantities(jax_backend, made(jax_backend, name, logits))
    with jax.default_device(jax.devices("cpu")[0]):
        expected = quantities(
            jax_backend, made(jax_backend, name, parameters(jax_backend, name, "float32"))
        )
    for mine, other in zip(found[2:], expected[2:], strict=True):
        assert mine.devices() == logits.devices()
        np.testing.assert_allclose(jax_backend.numpy(mine), jax_backend.numpy(other), 1e-5, 1e-5)
