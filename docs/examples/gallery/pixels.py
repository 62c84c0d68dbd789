"""
Twelve pixels that tell digits apart
====================================

A subset of twelve pixels out of 64 is learned together with the classifier that reads it.

``RelaxedSubset`` draws twelve pixels, with ``hard=True`` exactly twelve, and a linear classifier
sees those alone. The gradient through the relaxed draw trains the logits of the pixels. The density
of a relaxed subset is unknown, so that the site is masked: the objective is the expected log
likelihood. In NumPyro.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
from numpyro import distributions as dist
from numpyro.infer import Trace_ELBO
from sklearn.datasets import load_digits
from sklearn.feature_selection import f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from relaxed_dists.numpyro import AnnealedSVI, RelaxedSubset, Subset
from relaxed_dists.schedules import linear

K, STEPS = 12, 2000
digits = load_digits()
split = {"train_size": 1300, "stratify": digits.target, "random_state": 0}
x, test, y, answers = train_test_split(digits.data / 16, digits.target, **split)


def chosen(logits, temperature):
    d = RelaxedSubset(temperature, K, logits=logits, hard=True)
    return numpyro.sample("chosen", d.mask(False))


def model(x, y, temperature):
    weights = numpyro.param("weights", jnp.zeros((64, 10)))
    bias = numpyro.param("bias", jnp.zeros(10))
    logits = (x * chosen(jnp.zeros(64), temperature)) @ weights + bias
    with numpyro.plate("digits", len(x)):
        numpyro.sample("y", dist.Categorical(logits=logits), obs=y)


def guide(x, y, temperature):
    chosen(numpyro.param("pixel_logits", jnp.zeros(64)), temperature)


adam, loss = numpyro.optim.Adam(0.02), Trace_ELBO()
svi = AnnealedSVI(model, guide, adam, loss, linear(1.0, 0.3, STEPS))
result = svi.run(jax.random.key(0), STEPS, jnp.asarray(x), jnp.asarray(y), progress_bar=False)
learned = np.asarray(Subset(K, logits=result.params["pixel_logits"]).mode) > 0.5

# %%
# Other ways to choose
# --------------------
# A logistic regression is trained anew on each choice, and tested on 497 digits that were not seen.
# The choice one by one takes the twelve pixels that each differ most between the digits by
# themselves, by an F test. On this task it is as good as the learned choice: the accuracies differ
# by less than their standard errors of 0.015. A subset inside a model is for a case without such a
# test.


def accuracy(pixels):
    fit = LogisticRegression(max_iter=300).fit(x[:, pixels], y)
    return fit.score(test[:, pixels], answers)


rng = np.random.default_rng(0)
by_chance = [accuracy(rng.choice(64, K, replace=False)) for _ in range(20)]
varies = np.flatnonzero(x.std(0) > 0)
one_by_one = varies[np.argsort(f_classif(x[:, varies], y)[0])[-K:]]
print(f"accuracy, learned pixels: {accuracy(learned):.3f}")
print(f"accuracy, chosen one by one: {accuracy(one_by_one):.3f}")
print(f"accuracy, by chance, mean of 20: {np.mean(by_chance):.3f}, best {np.max(by_chance):.3f}")
print(f"accuracy, all 64 pixels: {accuracy(np.full(64, True)):.3f}")

# %%
figure, axes = plt.subplots(2, 5, figsize=(7, 3.2))
for digit, axis in enumerate(axes.flat):
    axis.imshow(x[y == digit].mean(0).reshape(8, 8), cmap="gray_r")
    rows, columns = np.nonzero(learned.reshape(8, 8))
    axis.plot(columns, rows, "s", color="#c8553d", ms=9, mfc="none", mew=1.6)
    axis.axis("off")
plt.show()

# %%
# Each mean digit, and the learned pixels. Next: :doc:`subsets and permutations </subsets>`.
