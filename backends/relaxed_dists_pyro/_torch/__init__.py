"""The code that depends on torch: operations, kernels, noise, arguments, quadrature, carrier."""
