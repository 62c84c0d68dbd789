"""The code that depends on torch alone: operations, kernels, noise, arguments, quadrature, carrier."""
