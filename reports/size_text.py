"""A compressor's own size as text."""

from collections.abc import Mapping

from reports.terminal import aligned, wrapped


def lines(made: Mapping) -> list[str]:
  """Everything that `launch.own_size` found, for the terminal, at most 100 columns wide."""
  run, found = made['run'], made['two_part']
  title = f'{run["objective"]} ({run["size"]}), seed {run["seed"]}, {run["dataset"]}'
  if found is None:
    return [f'{title}: two-part code n/a, training-time code n/a: the objective has no likelihood']
  bound = found['code'] == 'upper_bound'
  word = 'upper bound (≤) on the code' if bound else 'exact code'
  sign = '≤ ' if bound else ''
  printed = [f'{title}: two-part code, {word}', '', *_formats(found, sign), '']
  printed += [*_baselines(found), '', *_totals(found, sign), '', *_training_time(made, sign)]
  return printed + _requential(made.get('requential'), made['two_part'])


def _formats(found: Mapping, sign: str) -> list[str]:
  head = ['weights', 'bits', 'a weight', 'bits/dim val.', 'test']
  head += [f'beats {found["best"] or "best"}', 'histogram', 'uniform']
  rows = []
  for row in found['rows']:
    cells = [row['name'] + (' (chosen)' if row['chosen'] else ''), f'{row["weight_bits"]:,}']
    cells += [f'{row["weight_bits"] / found["parameters"]:.2f}', f'{sign}{row["validation"]:.3f}']
    cells.append('not read' if row['test'] is None else f'{sign}{row["test"]:.3f}')
    never = 'not shown' if sign else 'never'  # The code may be shorter than its bound.
    for name in ('best', 'histogram', 'uniform'):
      images = row['break_even'].get(name, 0)  # No code breaks even at no images.
      cells.append('n/a' if images == 0 else never if images is None else f'{sign}{images:,}')
    rows.append(cells)
  note = (
    'Bits chosen on validation. Beats: from so many images on; on test where it was read, else on '
    f'validation. The test split has {found["images"]:,}, more than that is an extrapolation.'
  )
  return [*aligned([head, *rows]), wrapped(note)]


def _baselines(found: Mapping) -> list[str]:
  by_split = found['baselines']
  cells = [f'{name} {value:.3f}' for name, value in by_split['test'].items()]
  text = (
    f'Baselines, bits/dim on test: {", ".join(cells)}. They pay for nothing of their own; '
    'compressors are measured on the whole test split at once, and on more images may do better.'
  )
  return [wrapped(text)]


def _totals(found: Mapping, sign: str) -> list[str]:
  names = [name for name in found['totals'][0] if name != 'images']
  coded = {row['name'] for row in found['rows']}
  head = ['images', *names]
  rows = [
    [f'{row["images"]:,}' + (' (test)' if row['images'] == found['images'] else '')]
    + [(sign if name in coded else '') + f'{row[name]:,.0f}' for name in names]
    for row in found['totals']
  ]
  return ['Bits an image, weights included:', *aligned([head, *rows])]


def _requential(found: Mapping | None, two_part: Mapping) -> list[str]:
  if found is None:
    return []
  chosen = next(row for row in two_part['rows'] if row['chosen'])
  return [
    '',
    wrapped(
      f'Requential code: a student of {found["draws"]:,} draws in {found["steps"]} steps is '
      f'described by {found["kl_bits"]:,.0f} bits of cumulated KL, at most '
      f'{found["code_bits"]:,.0f} as messages; {found["student"]:.3f} bits/dim on validation, its '
      f'teacher {found["teacher"]:.3f} (moving averages over {found["average"]} updates). The '
      f'weights as {chosen["name"]} are {chosen["weight_bits"]:,}.'
    ),
  ]


def _training_time(made: Mapping, sign: str) -> list[str]:
  found, validation = made['training_time'], made['run']['validation']
  if found['bits_per_dim'] is None:
    return [f'Training-time code of the first epoch: n/a, {found["reason"]}.']
  share = '' if found['share'] is None else f', {100 * found["share"]:.0f} % of the first epoch'
  end = 'n/a' if validation is None else f'{sign}{validation:.3f}'
  text = (
    f'Training-time code, no weights sent: {sign}{found["bits_per_dim"]:.3f} bits/dim over '
    f'{found["examples"]:,} images in {found["steps"]} steps{share}; validation at the end of '
    f'training: {end}.'
  )
  structure, noise = found['structure_bits'], found['noise_bits']
  text += (
    f' Above the {sign}{found["reached"]:.3f} that it reaches lie {structure:,.0f} bits, '
    f'{100 * structure / (structure + noise):.1f} %: structure; below it {noise:,.0f}: noise to '
    'this learner.'
  )
  return [wrapped(text)]
