"""The code that depends on JAX alone: operations, kernels, noise, arguments, quadrature, carrier."""
