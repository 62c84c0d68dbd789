"""The code that depends on JAX alone: operations, kernels, noise, quadrature, and so on.

A kernel is what JAX computes in place of a shared formula. The carrier is how a value keeps the
relaxed sample that belongs to it.
"""
