"""How often a judge says what, in made-up worlds of which the truth is known."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd

WORLDS = 100
# 5 %, and two standard errors of a share of so many worlds.
MOST = 0.05 + 2 * (0.05 * 0.95 / WORLDS) ** 0.5


def shares(
  judge: Callable, world: Callable[[np.random.Generator], pd.DataFrame]
) -> Counter[str, float]:
  """Outcome -> share of the worlds in which the judge gives it."""
  found = Counter()
  for seed in range(WORLDS):
    found[judge(world(np.random.default_rng(seed))).outcome] += 1 / WORLDS
  return found
