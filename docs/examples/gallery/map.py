"""
Where on the map?
=================

Fifty thousand places are one categorical variable: where did an aircraft start?

Six simulated aircraft fly the same course over the Jacksboro fault, whose heights come with
Matplotlib, and measure the height of the ground 24 times. Where each started is a one-hot
variable of 50,000 categories, points of the map. The offset of each aircraft's altimeter is
unknown, too. In NumPyro.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
from matplotlib.cbook import get_sample_data
from numpyro import distributions as dist
from numpyro.infer import TraceMeanField_ELBO
from numpyro.infer.autoguide import AutoNormal

from relaxed_dists.numpyro import AnnealedSVI, AutoRelaxed, OneHotCategorical, StraightThrough

NOISE, OFFSET, FLIGHTS, TIMES, STEPS = 15.0, 50.0, 6, 24, 300  # deviations in metres
heights = get_sample_data("jacksboro_fault_dem.npz")["elevation"].astype(np.float32)
rows, columns = (start.ravel() for start in np.mgrid[:250, :200])
down, right = (np.linspace(0, reach, TIMES).astype(int) for reach in (90, 190))
# The heights that are measured from each place, over the standard deviation of the noise.
table = (heights[rows[:, None] + down, columns[:, None] + right] - heights.mean()) / NOISE
K = len(table)
rng = np.random.default_rng(0)
truth = rng.integers(K, size=FLIGHTS)
offset = rng.normal(0, OFFSET / NOISE, (FLIGHTS, 1))
x = (table[truth] + offset + rng.normal(0, 1, (FLIGHTS, TIMES))).astype(np.float32)


# %%
# Likelihoods weighted by z
# -------------------------
# The log likelihoods of all places are one product of the table and the measurements. Weighted by z
# they are that of the place that was drawn. The model is linear in z: for such a model the gradient
# of ``StraightThrough`` is exact, needs no temperature, and does not vary with the draw of z.
def model(x, prior, table):
    with numpyro.plate("flights", len(x)):
        z = numpyro.sample("z", OneHotCategorical(logits=prior))
        bias = numpyro.sample("bias", dist.Normal(0.0, OFFSET / NOISE))
        seen = x - bias[:, None]
        each = seen @ table.T - (table**2).sum(-1) / 2 - (seen**2).sum(-1, keepdims=True) / 2
        numpyro.factor("x", (z * each).sum(-1))


guide = AutoRelaxed(model, StraightThrough(), continuous=AutoNormal)
svi = AnnealedSVI(model, guide, numpyro.optim.Adam(0.1), TraceMeanField_ELBO())
data = x, jnp.zeros(K), jnp.asarray(table)
params = svi.run(jax.random.key(0), STEPS, *data, progress_bar=False).params
probs = np.asarray(guide.discrete_posterior(params)["z"].probs)

# %%
# The exact posterior
# -------------------
# The offset is normal, and integrated out by a formula. The guide's offset and place are
# independent, so that where two places are likely, at different offsets, it settles on one of
# them.
rest = x[:, None] - table
share = OFFSET**2 / (NOISE**2 + TIMES * OFFSET**2)
exact = jax.nn.softmax(((share * rest.sum(-1) ** 2) - (rest**2).sum(-1)) / 2)
for name, p in {"fitted": probs, "exact": np.asarray(exact)}.items():
    right_ones = (p.argmax(-1) == truth).sum()
    print(f"{name}: {right_ones} of {FLIGHTS} right, probabilities of the true places", end=" ")
    print(*(f"{q:.2f}" for q in p[np.arange(FLIGHTS), truth]))

# %%
figure, axis = plt.subplots(figsize=(7, 5.5))
axis.imshow(heights, cmap="YlGnBu")
axis.plot([0, 199, 199, 0, 0], [0, 0, 249, 249, 0], "--", color="#c8553d", lw=1)
for place, p in zip(truth, probs, strict=True):
    axis.plot(columns[place] + right, rows[place] + down, "-", color="#c8553d", lw=1)
    found = p.argmax()
    axis.plot(columns[found], rows[found], "o", color="#c8553d", ms=9, mfc="none", mew=2)
    axis.plot(columns[place], rows[place], ".", color="#c8553d", ms=6)
axis.axis("off")
plt.show()

# %%
# The true courses, with a dot where they start in the dashed frame, and a ring at the most
# probable place. Next: :doc:`fifty thousand categories </how-to/large-vocabularies>`.
