"""Data sets as clean integer tokens. Nothing here needs TensorFlow."""
