"""An autoencoder with discrete codes in several processes, by DistributedDataParallel.

python -m torch.distributed.run --standalone --nproc-per-node 2 docs/examples/distributed_torch.py

A batch has four parts, each with a random generator of its own. One, two or four processes share
them, so that all of these end in the same numbers, but for rounding. It ends in a row of the table
of `make distributed`.
"""

import argparse
import time

import torch
import torch.distributed as dist
from torch import Generator, Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.parallel import DistributedDataParallel

from distributed_table import peak, row, sent_in_torch
from relaxed_dists.schedules import exponential
from relaxed_dists.torch import gumbel_softmax

ROWS, PIXELS, CODES, CLASSES = 1024, 32, 4, 6
BATCH, PARTS = 128, 4


class Autoencoder(nn.Module):
    """An encoder to discrete codes, and a decoder from them."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Linear(PIXELS, 64), nn.Tanh(), nn.Linear(64, CODES * CLASSES)
        )
        self.decode = nn.Sequential(
            nn.Linear(CODES * CLASSES, 64), nn.Tanh(), nn.Linear(64, PIXELS)
        )

    def forward(self, x: Tensor, temperature: float, keys: list[Generator]) -> Tensor:
        """The logits of the pixels, after the rows went through codes with each part's noise."""
        logits = self.encode(x).unflatten(-1, (CODES, CLASSES))
        parts = zip(logits.chunk(len(keys)), keys, strict=True)
        z = torch.cat([gumbel_softmax(part, temperature, key=key) for part, key in parts])
        return self.decode(z.flatten(-2))


def train(steps: int, count: bool = False) -> None:
    """Train in the processes of a group, and print a row of a table; count messages if asked."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    patterns = torch.rand(20, PIXELS).round()
    rows = patterns[torch.randint(20, (ROWS,))]
    flips = torch.rand(ROWS, PIXELS) < 0.05
    rows = torch.where(flips, 1 - rows, rows)

    net = DistributedDataParallel(Autoencoder())  # all processes get the first one's parameters
    optim = torch.optim.Adam(net.parameters(), lr=3e-3)
    schedule = exponential(1.0, 1e-3, floor=0.3)
    order = Generator().manual_seed(0)  # the same minibatches in all processes
    mine = range(rank, PARTS, ranks)
    keys = [Generator().manual_seed(1 + part) for part in mine]  # other noise in each part

    def step(number: int) -> Tensor:
        batch = rows[torch.randperm(ROWS, generator=order)[:BATCH]].chunk(PARTS)
        x = torch.cat([batch[part] for part in mine])
        loss = binary_cross_entropy_with_logits(net(x, schedule(number), keys), x)
        optim.zero_grad()
        loss.backward()  # averages the gradients of all processes
        optim.step()
        return loss.detach()

    start = time.perf_counter()
    for number in range(steps):
        loss = step(number)
    rate = steps / (time.perf_counter() - start)

    flat = torch.cat([p.detach().flatten() for p in net.parameters()])
    everyone = [torch.empty_like(flat) for _ in range(ranks)]
    dist.all_gather(everyone, flat)
    apart = max(float((other - flat).abs().max()) for other in everyone)
    dist.all_reduce(loss)
    sent = sent_in_torch(lambda: step(steps)) if count else "-"
    if rank == 0:
        row("distributed_torch", ranks, ranks, float(loss) / ranks, apart, sent, peak(), rate)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)  # in float32, rounding grows to 2 % in 1,000 steps
    dist.init_process_group("gloo")
    train(**vars(parser.parse_args()), count=True)
    dist.destroy_process_group()
