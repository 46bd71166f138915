"""Keys of randomness, of one implementation whatever the environment says."""

import jax

# What the stored numbers are of; JAX's default can be set by a variable of the environment.
IMPLEMENTATION = 'threefry2x32'


def key(seed: int) -> jax.Array:
  """`jax.random.key`, of IMPLEMENTATION."""
  return jax.random.key(seed, impl=IMPLEMENTATION)
