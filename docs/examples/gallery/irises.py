"""
A mixture of flowers
====================

Three normal distributions are fitted to the petals of irises, without their species.

Each of scikit-learn's 150 irises has a one-hot component ``z``, which chooses a row of the means
and of the scales. ``AutoRelaxed`` makes the guide, with probabilities for each flower, and
``AnnealedSVI`` fits them together with the parameters. In NumPyro.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
from numpyro import distributions as dist
from numpyro.distributions.constraints import positive, simplex
from numpyro.infer import TraceMeanField_ELBO
from scipy.special import logsumexp, softmax
from scipy.stats import norm
from sklearn.datasets import load_iris
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from relaxed_dists.numpyro import (
    AnnealedSVI,
    AutoRelaxed,
    GumbelSoftmax,
    OneHotCategorical,
    evidence_bounds,
)
from relaxed_dists.schedules import exponential

K, STEPS = 3, 4000
irises = load_iris()
x = jnp.asarray(irises.data[:, 2:])  # length and width of the petals in cm


def model(x):
    start = jnp.quantile(x, jnp.array([0.2, 0.5, 0.8]), axis=0)
    weights = numpyro.param("weights", jnp.full(K, 1 / K), constraint=simplex)
    means = numpyro.param("means", start)
    scales = numpyro.param("scales", jnp.ones((K, 2)), constraint=positive)
    with numpyro.plate("flowers", len(x)):
        z = numpyro.sample("z", OneHotCategorical(probs=weights))
        numpyro.sample("x", dist.Normal(z @ means, z @ scales).to_event(1), obs=x)


# %%
# Fit
# ---
# The samples are soft. With ``hard=True`` this training ends with nearly all flowers in a single
# component.
guide = AutoRelaxed(model, lambda temperature: GumbelSoftmax(temperature, hard=False))
temperature = exponential(1.0, rate=3 / STEPS, floor=0.2)
adam = numpyro.optim.Adam(0.05)
svi = AnnealedSVI(model, guide, adam, TraceMeanField_ELBO(), temperature)
key = jax.random.key(0)
params = svi.run(key, STEPS, x, progress_bar=False).params

# %%
# The discrete mixture
# --------------------
# This model is small enough for exact results, which the bounds are compared with: the evidence,
# and the posterior of a component, are sums over three components for each flower. EM maximises
# the evidence itself; the training maximises an objective of soft values, and ends lower. How much
# lower depends on the seed. The bounds are estimates, so that one may lie above the evidence by
# chance.
how = {"num_samples": 1000, "progress_bar": False}
bounds = evidence_bounds(key, params, model, guide, x, **how)
names = "weights", "means", "scales"
weights, means, scales = (np.asarray(params[name]) for name in names)
joint = np.log(weights) + norm(means, scales).logpdf(np.asarray(x)[:, None]).sum(-1)
probs = np.asarray(guide.discrete_posterior(params)["z"].probs)
rand = adjusted_rand_score(irises.target, probs.argmax(-1))
em = GaussianMixture(K, covariance_type="diag", random_state=0).fit(x)
print(f"log evidence at the fitted parameters: {logsumexp(joint, -1).sum():.2f}")
print(f"log evidence at the parameters of EM: {em.score(x) * len(x):.2f}")
print(f"importance-weighted bound: {bounds.importance_weighted:.2f}", end=" ")
print(f"(standard error {bounds.importance_weighted_error:.2f})")
print(f"evidence lower bound: {bounds.elbo:.2f} (standard error {bounds.elbo_error:.2f})")
print(f"largest |q(z) - posterior|: {abs(probs - softmax(joint, -1)).max():.3f}")
print(f"agreement with the species (adjusted Rand index): {rand:.2f}")

# %%
# The flowers in the colours of q(z), which are mixed where two components overlap, and an
# ellipse of two deviations for each component:
figure, axis = plt.subplots()
colours = np.array([[0.23, 0.53, 0.72], [0.78, 0.33, 0.24], [0.29, 0.6, 0.36]])
axis.scatter(*x.T, c=probs @ colours, s=24)
angle = np.linspace(0, 2 * np.pi, 100)
for mean, scale, colour in zip(means, scales, colours, strict=True):
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    axis.plot(*(mean + 2 * scale * circle).T, color=colour)
axis.set(xlabel="petal length, cm", ylabel="petal width, cm")
plt.show()

# %%
# Next: :doc:`evaluate, predict and impute </how-to/evaluate>`. A mixture as small as this one is
# :doc:`better fitted by EM or by enumeration </when-not>`.
