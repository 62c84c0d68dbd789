"""Both backends behind one small interface, so that each test is written once."""

import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from languages import Language

SUPPORT = Path(__file__).parent  # the import path of processes that tests start


class Lazy:
    """A module that is imported when it is used, since one of the frameworks may be missing."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


torch, pyro, poutine = Lazy("torch"), Lazy("pyro"), Lazy("pyro.poutine")
jax, jnp, numpyro = Lazy("jax"), Lazy("jax.numpy"), Lazy("numpyro")
handlers = Lazy("numpyro.handlers")


def enable_x64() -> AbstractContextManager[Any]:
    """A context in which JAX has float64."""
    # The function left the module jax.experimental with JAX 0.8.
    module = jax if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental")
    return module.enable_x64(True)


def one_graph(f: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """f, compiled by torch in one graph. Before torch 2.13, this skips the test."""
    if torch.__version__ < "2.13":
        pytest.skip("before torch 2.13, draws and densities break the graph of torch.compile")
    torch._dynamo.reset()  # torch stops compiling a function that it has recompiled often
    return torch.compile(f, fullgraph=True, **options)


def scalar_code() -> AbstractContextManager[Any]:
    """A context in which torch's inductor makes code without vectors, which compiles faster.

    pytest's monkeypatch would leave these settings unreadable for later tests.
    """
    config = importlib.import_module("torch._inductor.config")
    return config.patch({"cpp.vec_isa_ok": False, "cpp_cache_precompile_headers": False})


class Room:
    """A module that is imported by a name with a backend's attributes in it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, backend: "Backend", owner: type) -> ModuleType:
        return importlib.import_module(self._name.format(backend))


class Backend:
    """All that the tests need of a framework."""

    framework: str
    room: str  # the package of this library with the framework's operations
    handlers_module: str
    array_module: str

    names = Room("relaxed_dists.{0.framework}")  # this library's public names
    functions = Room("relaxed_dists.{0.room}")  # the public names that need torch or JAX alone
    private = Room("relaxed_dists_{0.room}.ops")
    noises = Room("relaxed_dists_{0.room}.noise")
    xp = Room("{0.array_module}")
    ppl = Room("{0.framework}")
    dist = Room("{0.framework}.distributions")
    handlers = Room("{0.framework}.{0.handlers_module}")
    infer = Room("{0.framework}.infer")
    autoguide = Room("{0.framework}.infer.autoguide")
    optim = Room("{0.framework}.optim")

    @property
    def language(self) -> "Language":
        """The framework's statements and its inference."""
        from languages import LANGUAGES

        return LANGUAGES[self.framework](self)

    def double(self) -> AbstractContextManager[Any]:
        """A context in which float64 arrays exist."""
        raise NotImplementedError

    def array(self, x: Any, dtype: str = "float64") -> Any:
        """x as the framework's array."""
        raise NotImplementedError

    def numpy(self, x: Any) -> np.ndarray:
        """The framework's array as NumPy's."""
        raise NotImplementedError

    def draw(self, d: Any, seed: int, shape: Sequence[int] = ()) -> Any:
        """A draw, as the sample statement makes it, with its gradient where it has one."""
        raise NotImplementedError

    def noise(self, one_hot: bool, seed: int, shape: Sequence[int], dtype: str = "float64") -> Any:
        """The Gumbel (one_hot) or logistic noise that a draw with this seed is made of."""
        raise NotImplementedError

    def grad(self, f: Callable[..., Any], *arrays: Any) -> list[np.ndarray]:
        """The gradients of a scalar function, in NumPy."""
        raise NotImplementedError

    def with_gradient(self, f: Callable[[Any], Any], x: Any) -> tuple[np.ndarray, np.ndarray]:
        """A scalar function and its gradient, in JAX compiled together."""
        raise NotImplementedError

    def vmap(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """The framework's vmap, over the first axis of all arguments."""
        raise NotImplementedError

    def compiled(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """f under jax.jit, since eager JAX compiles each operation by itself; in torch f itself."""
        raise NotImplementedError

    def divergence(self, p: Any, q: Any) -> Any:
        """The framework's own kl_divergence."""
        raise NotImplementedError

    def kl(self, p: Any, q: Any) -> np.ndarray:
        """The framework's own kl_divergence, in NumPy."""
        return self.numpy(self.divergence(p, q))


class Torch(Backend):
    """The backend of torch and Pyro."""

    framework = "pyro"
    room = "torch"
    handlers_module = "poutine"
    array_module = "torch"

    def double(self) -> AbstractContextManager[Any]:
        """Only switch validation on, which torch.compile switches off in the whole process."""
        torch.distributions.Distribution.set_default_validate_args(True)
        return nullcontext()

    def array(self, x: Any, dtype: str = "float64") -> Any:
        return torch.as_tensor(np.asarray(x)).to(getattr(torch, dtype))

    def numpy(self, x: Any) -> np.ndarray:
        return x.detach().double().numpy()

    def draw(self, d: Any, seed: int, shape: Sequence[int] = ()) -> Any:
        torch.manual_seed(seed)
        return d(torch.Size(shape))

    def noise(self, one_hot: bool, seed: int, shape: Sequence[int], dtype: str = "float64") -> Any:
        torch.manual_seed(seed)
        draw = self.noises.gumbel if one_hot else self.noises.logistic
        return draw(torch.Size(shape), self.array(0.0, dtype))

    def grad(self, f: Callable[..., Any], *arrays: Any) -> list[np.ndarray]:
        leaves = [a.detach().clone().requires_grad_() for a in arrays]
        return [self.numpy(g) for g in torch.autograd.grad(f(*leaves), leaves)]

    def with_gradient(self, f: Callable[[Any], Any], x: Any) -> tuple[np.ndarray, np.ndarray]:
        return self.numpy(f(x)), self.grad(f, x)[0]

    def vmap(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return torch.vmap(f)

    def compiled(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return f

    def divergence(self, p: Any, q: Any) -> Any:
        return torch.distributions.kl_divergence(p, q)


class Jax(Backend):
    """The backend of JAX and NumPyro."""

    framework = "numpyro"
    room = "jax"
    handlers_module = "handlers"
    array_module = "jax.numpy"

    def double(self) -> AbstractContextManager[Any]:
        """Enable float64, which JAX turns into float32 otherwise."""
        return enable_x64()

    def array(self, x: Any, dtype: str = "float64") -> Any:
        return jnp.asarray(np.asarray(x), dtype)

    def numpy(self, x: Any) -> np.ndarray:
        return np.asarray(x, np.float64)

    def draw(self, d: Any, seed: int, shape: Sequence[int] = ()) -> Any:
        return d(rng_key=jax.random.key(seed), sample_shape=tuple(shape))

    def noise(self, one_hot: bool, seed: int, shape: Sequence[int], dtype: str = "float64") -> Any:
        draw = self.noises.gumbel if one_hot else self.noises.logistic
        return draw(jax.random.key(seed), tuple(shape), jnp.dtype(dtype))

    def grad(self, f: Callable[..., Any], *arrays: Any) -> list[np.ndarray]:
        return [self.numpy(g) for g in jax.grad(f, tuple(range(len(arrays))))(*arrays)]

    def with_gradient(self, f: Callable[[Any], Any], x: Any) -> tuple[np.ndarray, np.ndarray]:
        value, slope = jax.jit(jax.value_and_grad(f))(x)
        return self.numpy(value), self.numpy(slope)

    def vmap(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return jax.vmap(f)

    def compiled(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return jax.jit(f)

    def divergence(self, p: Any, q: Any) -> Any:
        return self.dist.kl_divergence(p, q)


BACKENDS: dict[str, type[Backend]] = {"pyro": Torch, "numpyro": Jax}
