"""What pairs of data share, one pair after another."""

from collections.abc import Iterator, Sequence
import os
import sys
from typing import Any

from codes import mutual_information, pairs
from runs import configs, experiment, whole
from training.metrics import write_atomically


def survey(
  names: Sequence[str],
  config: str,
  overrides: Sequence[str],
  data_dir: str,
  rows: int,
  asked: dict[str, float] | None,
  out: str | None,
) -> Iterator[dict[str, Any]]:
  """Each pair's `codes.mutual_information.result`, as soon as it is there.

  Args:
    names: of pairs, as in `codes.pairs`; of several, those of labels are left out where there are
      none.
    config: file whose data the pairs are of.
    overrides: `--config.a.b=c` of it.
    data_dir: prepared data sets.
    rows: as in `pairs.make`.
    asked: settings of the network, as in `mutual_information.network_measure`; None for classical
      compressors alone.
    out: directory of results.json, where pairs of earlier calls stay, and of lengths; or None.
  """
  dataset = other = None
  if set(names) & set(pairs.OF_DATA):
    loaded = configs.load_named(config, overrides, 'autoregressive')
    dataset, other = experiment.load_datasets(loaded, data_dir)
    other = None if other is dataset else other
  path = os.path.join(out or '', 'results.json')
  earlier, found = mutual_information.read(path) if out else [], []
  for name in names:
    if name in pairs.LABELLED and len(names) > 1 and dataset.classes is None:
      print(f"\n{name}: left out, '{dataset.name}' has no labels", file=sys.stderr)
      continue
    pair, measure = pairs.make(name, rows, dataset, other), None
    if asked is not None:
      measure = mutual_information.network_measure(name in pairs.MADE_UP, asked, out)
    found.append(mutual_information.result(pair, measure))
    if out:
      merged = mutual_information.merged(earlier, found)
      write_atomically(path, whole.dumps(merged))
    yield found[-1]
