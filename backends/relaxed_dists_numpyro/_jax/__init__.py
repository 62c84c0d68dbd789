"""What JAX itself is asked for: operations, noise, input, integrals, carriers."""
