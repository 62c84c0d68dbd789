"""A training step that is timed: a VAE of 784-200-(20x10)-200-784, batches of 100."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from relaxed_dists import pyro as ours

PIXELS, HIDDEN, LATENTS, CLASSES, BATCH, T = 784, 200, 20, 10, 100, 0.5
Step = Callable[[], object]


class Free(dist.TorchDistribution):
    """A distribution that costs nothing: its draw is its logits, and its density is one."""

    has_rsample = True
    arg_constraints = {}  # noqa: RUF012

    def __init__(self, temperature: Tensor, logits: Tensor) -> None:
        self.logits, self.one = logits, logits.new_zeros(logits.shape[:-1])
        super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """The logits, so that the guide's network has its way back."""
        return self.logits

    def log_prob(self, value: Tensor) -> Tensor:
        """Zeros."""
        return self.one

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Free":
        """The distribution of a larger shape."""
        return Free(self.logits, self.logits.expand(*batch_shape, CLASSES))


def steps() -> dict[str, Step]:
    """SVI steps with our class, with one that costs nothing, and with Pyro's own."""
    x = (torch.rand(BATCH, PIXELS) < 0.5).float()  # only the time of a step is measured

    def made(who: str, cls: Any) -> Step:
        torch.manual_seed(0)
        encode, decode = (
            nn.Sequential(nn.Linear(a, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, b))
            for a, b in ((PIXELS, LATENTS * CLASSES), (LATENTS * CLASSES, PIXELS))
        )
        t = torch.tensor(T)

        def model(x: Tensor) -> None:
            pyro.module(f"decode {who}", decode)
            with pyro.plate("data", BATCH):
                prior = cls(t, logits=torch.zeros(LATENTS, CLASSES)).to_event(1)
                z = pyro.sample("z", prior)
                pixels = dist.Bernoulli(logits=decode(z.flatten(-2)), validate_args=False)
                pyro.sample("x", pixels.to_event(1), obs=x)

        def guide(x: Tensor) -> None:
            pyro.module(f"encode {who}", encode)
            with pyro.plate("data", BATCH):
                logits = encode(x).unflatten(-1, (LATENTS, CLASSES))
                pyro.sample("z", cls(t, logits=logits).to_event(1))

        optim = pyro.optim.Adam({"lr": 1e-4})
        svi = pyro.infer.SVI(model, guide, optim, pyro.infer.Trace_ELBO())
        return lambda: svi.step(x)

    return {
        "ours": made("ours", ours.RelaxedOneHotCategorical),
        "free": made("free", Free),
        "Pyro": made("Pyro", dist.RelaxedOneHotCategorical),
    }
