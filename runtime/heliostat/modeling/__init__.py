"""Training on the workers of the runtime."""
