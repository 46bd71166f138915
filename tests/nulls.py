"""How often a judge says what is not so, in made-up worlds where it is not so."""

from collections.abc import Callable, Collection

import numpy as np
import pandas as pd

WORLDS = 150
# 5 %, and two standard errors of a share of so many worlds.
MOST = 0.05 + 2 * (0.05 * 0.95 / WORLDS) ** 0.5


def false_rate(
  judge: Callable, world: Callable[[np.random.Generator], pd.DataFrame], wrong: Collection[str]
) -> float:
  """Share of worlds in which the judge gives one of the outcomes that are wrong there."""
  verdicts = (judge(world(np.random.default_rng(seed))).outcome for seed in range(WORLDS))
  return sum(outcome in wrong for outcome in verdicts) / WORLDS
