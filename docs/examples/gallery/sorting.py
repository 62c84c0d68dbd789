"""
Learning to sort digits
=======================

A network learns from sorted sets of images to sort digits that it has not seen.

A set has images of five different digits. The training sees them in random order and in the order
of their numbers, and never the numbers themselves. A network gives each image a score, from which
the logits of a latent permutation are made. Its relaxed value moves the images to places, where
they are compared with the sorted images. The density of a relaxed permutation is unknown, so that
its site is masked. In Pyro.
"""

import matplotlib.pyplot as plt
import numpy as np
import pyro
import torch
from pyro import distributions as dist
from pyro.infer import Trace_ELBO
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from relaxed_dists.pyro import AnnealedSVI, Permutation, RelaxedPermutation
from relaxed_dists.schedules import linear

N, SETS, STEPS = 5, 50, 1000
pyro.set_rng_seed(0)
rng = np.random.default_rng(0)
digits = load_digits()
images, numbers = torch.tensor(digits.data / 16, dtype=torch.float32), digits.target
split = {"train_size": 1300, "stratify": numbers, "random_state": 0}
train, test = train_test_split(np.arange(len(numbers)), **split)


def sets(rows, count):
    """Sets of images of different numbers, and the same sets sorted."""
    shuffled = np.stack([rng.permutation(rows) for _ in range(count)])
    picked = []
    for row in shuffled:
        _, first = np.unique(numbers[row], return_index=True)
        picked.append(row[rng.permutation(first)[:N]])
    picked = np.array(picked)
    ordered = np.take_along_axis(picked, numbers[picked].argsort(-1), -1)
    return images[picked], images[ordered], numbers[picked]


score = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
places = torch.linspace(-1, 1, N)


def logits(x):
    """The larger its score, the later an image comes."""
    return 4 * score(x) * places


def model(x, y, temperature):
    with pyro.plate("sets", len(x)):
        order = RelaxedPermutation(temperature, logits=torch.zeros(len(x), N, N))
        p = pyro.sample("order", order.mask(False))
        pyro.sample("y", dist.Normal(p.mT @ x, 0.3).to_event(2), obs=y)


def guide(x, y, temperature):
    pyro.module("score", score)
    with pyro.plate("sets", len(x)):
        pyro.sample("order", RelaxedPermutation(temperature, logits=logits(x)).mask(False))


falling = linear(1.0, 0.3, STEPS)
svi = AnnealedSVI(model, guide, pyro.optim.Adam({"lr": 3e-3}), Trace_ELBO(), falling)
pool = sets(train, 2000)
for step in range(STEPS):
    batch = slice(step * SETS % 2000, step * SETS % 2000 + SETS)
    svi.step(pool[0][batch], pool[1][batch])

# %%
# The discrete model: the most probable permutation
# -------------------------------------------------
x, y, told = sets(test, 500)
with torch.no_grad():
    best = Permutation(logits(x)).mode
    sorted_numbers = (best.mT @ torch.tensor(told, dtype=torch.float32)[..., None])[..., 0]
right = sorted_numbers == sorted_numbers.sort(-1).values
print(f"images at their places: {right.float().mean():.3f}, by chance {1 / N:.3f}")
print(f"sets wholly sorted: {right.all(-1).float().mean():.3f}, by chance {1 / 120:.3f}")

# %%
# Sets of digits that were not seen, as they came and as they were sorted:
figure, axes = plt.subplots(6, 2 * N + 1, figsize=(7, 4))
for row, before, after in zip(axes, x, best.mT @ x, strict=False):
    for axis in row:
        axis.axis("off")
    for axis, image in zip(np.delete(row, N), torch.cat([before, after]), strict=True):
        axis.imshow(image.reshape(8, 8), cmap="gray_r")
plt.show()

# %%
# Next: :doc:`subsets and permutations </subsets>`.
