"""What torch itself is asked for: operations, noise, input, integrals, carriers."""
