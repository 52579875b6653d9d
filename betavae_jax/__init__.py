"""β-VAE studies in JAX and Flax: any number of runs is one compiled program."""
