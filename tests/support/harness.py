"""Both backends behind one small interface, so that each law is written once."""

import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

SUPPORT = Path(__file__).parent  # on the path of processes that tests start


class Backend:
    """What the tests need of a framework."""

    framework: str
    facade: str
    room: str

    @property
    def names(self) -> ModuleType:
        """The public names."""
        return importlib.import_module(self.facade)

    @property
    def private(self) -> ModuleType:
        """The module of the operations."""
        return importlib.import_module(f"relaxed_dists_{self.framework}.{self.room}.ops")

    @property
    def noises(self) -> ModuleType:
        """The module of the noise."""
        return importlib.import_module(f"relaxed_dists_{self.framework}.{self.room}.noise")

    def double(self) -> AbstractContextManager[Any]:
        """A context in which float64 arrays exist."""
        return nullcontext()

    def array(self, x: Any, dtype: str = "float64") -> Any:
        """x as the framework's array."""
        raise NotImplementedError

    def numpy(self, x: Any) -> np.ndarray:
        """The framework's array as NumPy's."""
        raise NotImplementedError

    def draw(self, law: Any, seed: int, shape: Sequence[int] = ()) -> Any:
        """A draw of the law, with its gradient where it has one."""
        raise NotImplementedError

    def noise(self, rows: bool, seed: int, shape: Sequence[int], dtype: str = "float64") -> Any:
        """The Gumbel (rows) or logistic noise that a draw with this seed is made of."""
        raise NotImplementedError

    def grad(self, f: Callable[..., Any], *arrays: Any) -> list[np.ndarray]:
        """The gradients of a scalar function, in NumPy."""
        raise NotImplementedError

    def with_gradient(self, f: Callable[[Any], Any], x: Any) -> tuple[np.ndarray, np.ndarray]:
        """A scalar function and its gradient, in JAX compiled together."""
        return self.numpy(f(x)), self.grad(f, x)[0]

    def vmap(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """The framework's vmap, over the first axis of all arguments."""
        raise NotImplementedError

    def compiled(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """f, compiled as a whole where every operation would be compiled by itself otherwise."""
        return f

    def divergence(self, p: Any, q: Any) -> Any:
        """The framework's own kl_divergence."""
        raise NotImplementedError

    def kl(self, p: Any, q: Any) -> np.ndarray:
        """The same, in NumPy."""
        return self.numpy(self.divergence(p, q))


class Torch(Backend):
    """torch and Pyro."""

    framework = "pyro"
    facade = "relaxed_dists.pyro"
    room = "_torch"

    def double(self) -> AbstractContextManager[Any]:
        """Nothing to switch on but validation: torch.compile leaves it off in the whole process."""
        import torch

        torch.distributions.Distribution.set_default_validate_args(True)
        return nullcontext()

    def array(self, x: Any, dtype: str = "float64") -> Any:
        """x as a tensor."""
        import torch

        return torch.as_tensor(np.asarray(x)).to(getattr(torch, dtype))

    def numpy(self, x: Any) -> np.ndarray:
        """The tensor's numbers."""
        return x.detach().double().numpy()

    def draw(self, law: Any, seed: int, shape: Sequence[int] = ()) -> Any:
        """A draw, as Pyro's sample statement makes it."""
        import torch

        torch.manual_seed(seed)
        return law(torch.Size(shape))

    def noise(self, rows: bool, seed: int, shape: Sequence[int], dtype: str = "float64") -> Any:
        """The global generator's."""
        import torch

        torch.manual_seed(seed)
        draw = self.noises.gumbel if rows else self.noises.logistic
        return draw(torch.Size(shape), self.array(0.0, dtype))

    def grad(self, f: Callable[..., Any], *arrays: Any) -> list[np.ndarray]:
        """Gradients by autograd."""
        import torch

        leaves = [a.detach().clone().requires_grad_() for a in arrays]
        return [self.numpy(g) for g in torch.autograd.grad(f(*leaves), leaves)]

    def vmap(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """torch.vmap."""
        import torch

        return torch.vmap(f)

    def divergence(self, p: Any, q: Any) -> Any:
        """torch's kl_divergence."""
        import torch

        return torch.distributions.kl_divergence(p, q)


class Jax(Backend):
    """JAX and NumPyro."""

    framework = "numpyro"
    facade = "relaxed_dists.numpyro"
    room = "_jax"

    def double(self) -> AbstractContextManager[Any]:
        """JAX makes float32 of float64 otherwise."""
        import jax

        return jax.enable_x64(True)

    def array(self, x: Any, dtype: str = "float64") -> Any:
        """x as a JAX array."""
        import jax.numpy as jnp

        return jnp.asarray(np.asarray(x), dtype)

    def numpy(self, x: Any) -> np.ndarray:
        """The array's numbers."""
        return np.asarray(x, np.float64)

    def draw(self, law: Any, seed: int, shape: Sequence[int] = ()) -> Any:
        """A draw, as NumPyro's sample statement makes it."""
        import jax

        return law(rng_key=jax.random.key(seed), sample_shape=tuple(shape))

    def noise(self, rows: bool, seed: int, shape: Sequence[int], dtype: str = "float64") -> Any:
        """That of the key."""
        import jax

        draw = self.noises.gumbel if rows else self.noises.logistic
        return draw(jax.random.key(seed), tuple(shape), jax.numpy.dtype(dtype))

    def grad(self, f: Callable[..., Any], *arrays: Any) -> list[np.ndarray]:
        """Gradients by jax.grad."""
        import jax

        return [self.numpy(g) for g in jax.grad(f, tuple(range(len(arrays))))(*arrays)]

    def with_gradient(self, f: Callable[[Any], Any], x: Any) -> tuple[np.ndarray, np.ndarray]:
        """By jax.value_and_grad."""
        import jax

        value, slope = jax.jit(jax.value_and_grad(f))(x)
        return self.numpy(value), self.numpy(slope)

    def vmap(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """jax.vmap."""
        import jax

        return jax.vmap(f)

    def compiled(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """jax.jit."""
        import jax

        return jax.jit(f)

    def divergence(self, p: Any, q: Any) -> Any:
        """NumPyro's kl_divergence."""
        import numpyro.distributions as dist

        return dist.kl_divergence(p, q)


BACKENDS: dict[str, type[Backend]] = {"pyro": Torch, "numpyro": Jax}
