"""What is said of codes of labels, the same on the page and in the terminal."""

from collections.abc import Mapping

from reports.numbers import length_text

LOWER_BOUND = (
  'Regret is a lower bound: the mean length of a code minus the least mean of all learners tried '
  'on the same labels; a learner that nobody tried may do better.'
)


def labels_text(found: Mapping) -> str:
  """Which labels the codes of one set are of."""
  return (
    f'{found["dataset"] or "features"}: {found["labels"]:,} labels in the order of seed '
    f'{found["seed"]}, the first {found["first"]} uniformly; uniform '
    f'{length_text(found["uniform_bits"])} bits'
  )


def labels_lines(found: Mapping) -> list[str]:
  """What the numbers of one set of labels are measured against."""
  best, own = found['best'], found['scratch']
  lines = [
    f'Best of the {best["tried"]} learners tried, by mean length: {length_text(best["bits"])} bits '
    f'({best["name"]}).'
  ]
  raw = any(row['kind'] == 'input' for row in found['rows'])
  unprobed = '' if raw else '; no code of these labels from the raw input'
  for size, scratch in own.items():
    where = f' ({size})' if len(own) > 1 else ''
    if scratch is None:
      lines.append(f'From scratch{where}: n/a, no untrained backbone and no raw input.')
      continue
    lines.append(
      f'From scratch{where}: {length_text(scratch["bits"])} bits ({scratch["name"]})'
      + ('' if scratch['fine_tuned'] else ', for no untrained backbone was fine-tuned')
      + f'{unprobed}.'
    )
  if found['without_pretraining']:
    without = found['without_pretraining']
    said = f'{length_text(without["bits"])} bits ({without["name"]}){unprobed}'
    lines.append(f'Best without pretraining: {said}.')
  if found['truth_bits'] is not None:
    lines.append(
      f'Under the true law the labels cost {length_text(found["truth_bits"])} bits given the whole '
      'input: true regret is measured against that.'
    )
  return lines


def true_regret(found: Mapping, row: Mapping) -> float | None:
  """Bits above what a perfect learner pays; None where that is not known."""
  return None if found['truth_bits'] is None else row['bits'] - found['truth_bits']


def learned_from(row: Mapping) -> str:
  """'autoregressive (nano)'."""
  return row['of'] + (f' ({row["size"]})' if row['size'] else '')
