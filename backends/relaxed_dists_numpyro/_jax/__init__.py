"""The code that depends on JAX: operations, kernels, noise, arguments, quadrature, carrier."""
