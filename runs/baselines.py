"""Classical compressors on the data of a config, or of a finished run and beside it."""

from collections.abc import Callable, Sequence
from typing import Any

from codes import baselines, tabled
from runs import configs, experiment, finished, recorded


def measure(
  config: str | None,
  workdir: str | None,
  overrides: Sequence[str],
  split: str,
  data_dir: str,
  say: Callable[[str], None],
) -> dict[str, Any]:
  """Every compressor on a split, as `codes.tabled.as_json`.

  Args:
    config: 'FILE:OBJECTIVE', whose data are compressed; or None.
    workdir: a finished run, whose own row stands among the others; or None.
    overrides: `--config.a.b=c` of either.
    split: what is compressed; of a run 'test', of which alone its record has bits.
    data_dir: prepared data sets.
    say: told what is being compressed, '' at the end.
  """
  record = None
  if workdir is not None:
    chosen, record = finished.read(workdir, overrides)
  else:
    chosen = configs.load_named(config, overrides)
  dataset, _ = experiment.load_datasets(chosen, data_dir, workdir)
  every = baselines.every_packing(dataset, split, say)
  say('')
  if record is not None:
    nats_N = recorded.read_arrays(workdir).get('nats')
    every.append(tabled.run_row(record, len(dataset.test), nats_N))
  return tabled.as_json(dataset, split, baselines.smallest(every), every)
