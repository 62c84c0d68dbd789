"""An ELBO of Pyro as the loss of a LightningModule, trained by Lightning in two processes.

python docs/examples/distributed_lightning.py

It needs the package lightning, of which version 2.6.6 was tried.
"""

import argparse
from typing import Any

import lightning
import pyro
import torch
from pyro.distributions import Normal
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from relaxed_dists.pyro import GumbelSoftmax, OneHotCategorical
from relaxed_dists.schedules import exponential

ROWS = 1200


class Mixture(lightning.LightningModule):
    """A mixture of three normal distributions, and an encoder for the guide's logits."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.tensor([-1.0, 0.0, 1.0]))
        self.encoder = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 3))
        self.elbo, self.schedule = TraceMeanField_ELBO(), exponential(1.0, 2e-3, floor=0.3)

    def model(self, x: Tensor, temperature: float) -> None:
        """The model of a batch, scaled to all rows."""
        with pyro.plate("rows", ROWS, subsample=x):
            z = pyro.sample("z", OneHotCategorical(probs=torch.ones(3)))
            pyro.sample("x", Normal(z @ self.means, 0.5), obs=x)

    def guide(self, x: Tensor, temperature: float) -> None:
        """The guide of a batch."""
        with pyro.plate("rows", ROWS, subsample=x):
            estimator = GumbelSoftmax(temperature, hard=False)
            logits = self.encoder(x[:, None])
            pyro.sample("z", OneHotCategorical(logits=logits, estimator=estimator))

    def on_train_start(self) -> None:
        """Give each process other noise: Lightning seeds all of them alike."""
        torch.manual_seed(1 + self.global_rank)

    def training_step(self, batch: list[Tensor], index: int) -> Any:
        """The loss of a batch, at the temperature of this step."""
        temperature = self.schedule(self.global_step)
        return self.elbo.differentiable_loss(self.model, self.guide, batch[0], temperature)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, for all parameters."""
        return torch.optim.Adam(self.parameters(), lr=0.01)


def main() -> None:
    """Train, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    args = parser.parse_args()

    torch.set_num_threads(1)
    lightning.seed_everything(0)
    rows = torch.tensor([-3.0, 0.0, 3.0]).repeat(ROWS // 3) + 0.5 * torch.randn(ROWS)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_steps=args.steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    net = Mixture()
    trainer.fit(net, DataLoader(TensorDataset(rows), batch_size=60, shuffle=True))
    everyone = trainer.strategy.all_gather(net.means.detach())
    noise = trainer.strategy.all_gather(torch.rand(()))
    if trainer.is_global_zero:
        print("means", [round(mean, 2) for mean in net.means.tolist()])
        print("parameters equal", bool((everyone == everyone[0]).all()))
        print("noise differs", bool(noise[0] != noise[1]))


if __name__ == "__main__":
    main()
