"""What the training benchmark makes of its measurements."""

from collections.abc import Sequence
import statistics
from typing import Any

from benchmarks.sizes import Size
from models.config import ModelConfig


def add_utilisation(rows: Sequence[dict[str, Any]], size: Size, peak_gflops: float) -> None:
  """Adds 'ratio' and 'mfu', and which peak that is a fraction of."""
  flops = 3 * size.batch * ModelConfig(**size.model()).forward_flops(('causal',)) / size.tokens
  fastest = max(rows, key=lambda row: row['matmul_flops'])
  peak = 1e9 * peak_gflops or fastest['matmul_flops']
  for row in rows:
    row['ratio'] = statistics.median(row['ratios'])
    row['flops_per_token'] = flops
    row['mfu'] = row['tokens_per_second'] * flops / peak
    row['peak_gflops'] = peak / 1e9
    row['peak_from'] = '--peak_gflops' if peak_gflops else f'product by {fastest["side"]}'


def table(rows: Sequence[dict[str, Any]]) -> str:
  """The rows for people; ratios are ours over PyTorch, the median round and its range."""
  lines = [
    f'{"size":6} {"case":6} {"side":16} {"tokens/s":>10} {"ratio":>6} {"range":>13} {"MFU":>6} '
    f'{"MB":>6} {"first step s":>13} {"others":>6}'
  ]
  for row in rows:
    low, high = min(row['ratios']), max(row['ratios'])
    lines.append(
      f'{row["size"]:6} {row["case"]:6} {row["side"]:16} {row["tokens_per_second"]:10,.0f} '
      f'{row["ratio"]:6.2f} {low:6.2f}-{high:<6.2f} {row["mfu"]:6.1%} '
      f'{row["peak_megabytes"]:6.0f} {row["first_step_seconds"]:13.2f} '
      f'{max(row["others_by_round"]):6.2f}'
    )
  return '\n'.join(lines)
