"""The memory that a computation holds at most, as each framework tells it."""

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

from harness import Backend


def peak_bytes(backend: Backend, f: Callable[..., Any], *arrays: Any) -> int:
    """The most bytes that f holds at once, with its results and without its arguments."""
    if backend.framework == "numpyro":
        import jax

        found = jax.jit(f).lower(*arrays).compile().memory_analysis()
        return int(found.temp_size_in_bytes + found.output_size_in_bytes)

    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Live(TorchDispatchMode):
        """Counts the bytes of all storages that operations made and that a tensor still holds."""

        def __init__(self) -> None:
            super().__init__()
            self.held: Counter[int] = Counter()
            self.now = self.peak = 0

        def drop(self, key: int, size: int) -> None:
            self.held[key] -= 1
            if not self.held[key]:
                self.now -= size

        def __torch_dispatch__(self, op: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = op(*args, **kwargs or {})
            given = {x.untyped_storage()._cdata for x in arrays}
            for x in tree_leaves(found):
                if isinstance(x, torch.Tensor) and x.untyped_storage()._cdata not in given:
                    key, size = x.untyped_storage()._cdata, x.untyped_storage().nbytes()
                    self.now += 0 if self.held[key] else size
                    self.held[key] += 1
                    weakref.finalize(x, self.drop, key, size)
            self.peak = max(self.peak, self.now)
            return found

    with Live() as live:
        f(*arrays)
    return live.peak
