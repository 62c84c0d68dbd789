"""
The graph behind measurements
=============================

Gates on the arrows of a graph say which measurements of diabetes patients depend on which.

Eight measurements stand in an order that no arrow goes against: age and sex come first, and the
progress of the disease after a year comes last. Each is a linear function of those before it, plus
normal noise, and each of the 28 possible arrows has a Bernoulli gate and a weight. The order is
assumed, and an arrow is a dependence in this model, not a cause. In NumPyro.
"""

from itertools import product

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
from numpyro import distributions as dist
from numpyro.infer import TraceMeanField_ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal
from scipy.special import softmax
from sklearn.datasets import load_diabetes

from relaxed_dists.numpyro import AnnealedSVI, AutoRelaxed, Bernoulli, evidence_bounds
from relaxed_dists.schedules import exponential

SLAB, OPEN, STEPS = 0.5, 0.2, 4000  # the deviation of a weight, P(arrow)
NAMES = ["age", "sex", "bmi", "bp", "hdl", "fat", "sugar", "progress"]
data = load_diabetes()
x = np.column_stack([data.data[:, [0, 1, 2, 3, 6, 8, 9]], data.target])
x = (x - x.mean(0)) / x.std(0)
N = len(NAMES)
later, earlier = np.tril_indices(N, -1)
# The noise of each measurement is fixed: it is what a regression on all those before it leaves.
rest = [x[:, i] - x[:, :i] @ np.linalg.lstsq(x[:, :i], x[:, i])[0] for i in range(N)]
noise = np.std(rest, axis=-1)


def model(x):
    with numpyro.plate("arrows", len(later)):
        gate = numpyro.sample("gate", Bernoulli(probs=jnp.full(len(later), OPEN)))
        weight = numpyro.sample("weight", dist.Normal(0.0, SLAB))
    matrix = jnp.zeros((N, N)).at[later, earlier].set(gate * weight)
    with numpyro.plate("patients", len(x)):
        numpyro.sample("x", dist.Normal(x @ matrix.T, noise).to_event(1), obs=x)


guide = AutoRelaxed(model, continuous=AutoMultivariateNormal)
adam, temperature = numpyro.optim.Adam(0.02), exponential(1.0, rate=3 / STEPS, floor=0.2)
svi = AnnealedSVI(model, guide, adam, TraceMeanField_ELBO(), temperature)
key = jax.random.key(0)
params = svi.run(key, STEPS, jnp.asarray(x), progress_bar=False).params
fitted = np.asarray(guide.discrete_posterior(params)["gate"].probs)
bounds = evidence_bounds(key, params, model, guide, jnp.asarray(x), progress_bar=False)

# %%
# The exact posterior
# -------------------
# In the posterior, the arrows into one measurement are independent of the arrows into the others.
# So there is a sum for each measurement, over the at most 128 sets of arrows into it. The weights
# are integrated out.
exact, evidence = np.zeros((N, N)), 0.0
for i in range(N):
    sets = np.array(list(product([0, 1], repeat=i)))
    masses = []
    for chosen in sets:
        f = SLAB * x[:, :i] * chosen / noise[i]
        y = x[:, i] / noise[i]
        inner = np.eye(i) + f.T @ f
        quadratic = y @ y - f.T @ y @ np.linalg.solve(inner, f.T @ y)
        scale = len(y) * np.log(2 * np.pi * noise[i] ** 2) + np.linalg.slogdet(inner)[1]
        prior = np.where(chosen, OPEN, 1 - OPEN)
        masses.append(np.log(prior).sum() - (quadratic + scale) / 2)
    exact[i, :i] = softmax(masses) @ sets
    evidence += np.logaddexp.reduce(masses)
exact = exact[later, earlier]
decided = abs(exact - 0.5) > 0.4
print(f"log evidence: {evidence:.1f}")
print(f"evidence lower bound: {bounds.elbo:.1f}")
print(f"arrows, exactly: {(exact > 0.5).sum()}, fitted: {(fitted > 0.5).sum()}")
print(f"decided arrows: {decided.sum()}, off by at most {abs(fitted - exact)[decided].max():.3f}")
print(f"other arrows: {(~decided).sum()}, off by at most {abs(fitted - exact)[~decided].max():.3f}")

# %%
# Arrows whose probability is above 0.1, the paler the less probable; blue above 0.9.
figure, axes = plt.subplots(1, 2, figsize=(10, 4.8))
angle = np.pi / 2 - 2 * np.pi * np.arange(N) / N
places = np.stack([np.cos(angle), np.sin(angle)], -1)
for axis, title, probs in zip(axes, ["exact", "annealed SVI"], [exact, fitted], strict=True):
    for p, to, start in zip(probs, later, earlier, strict=True):
        if p > 0.1:
            style = {"arrowstyle": "-|>", "shrinkA": 24, "shrinkB": 24, "lw": 1.6, "alpha": p}
            colour = "#3a86b7" if p > 0.9 else "#c8553d"
            axis.annotate("", places[to], places[start], arrowprops={**style, "color": colour})
    for name, place in zip(NAMES, places, strict=True):
        axis.text(*place, name, ha="center", va="center")
    axis.set(title=title, xlim=(-1.3, 1.3), ylim=(-1.2, 1.2), aspect="equal")
    axis.axis("off")
plt.show()

# %%
# Next: :doc:`gates that are exactly 0 </gates>`. An order that is not known is a latent
# :doc:`permutation </subsets>`.
