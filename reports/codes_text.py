"""What the codes of data and labels came to, as text for the terminal."""

from collections.abc import Mapping
import math

from reports.statistics import SEEDS
from reports.terminal import aligned

_SHARED = ('C(Y)-C(Y|X)', 'C(X)-C(X|Y)', 'C(X)+C(Y)-C(XY)', 'C(X)+C(Y)-C(YX)')


def baselines(made: Mapping, markdown: bool = False) -> str:
  """Compressors on a split; `made` is what `codes.tabled.as_json` returns."""
  caption = (
    f'{made["dataset"]}, {made["split"]}: {made["examples"]:,} examples of {made["dims"]} tokens '
    f'of {made["alphabet"]} values ({made["note"]}).\n'
    "Sizes are whole files, headers included, unless a row says otherwise; each code's best "
    'packing; not ranked. ±: standard error over examples, of codes that are sums over them.'
  )
  head = ('compressor', 'bits/dim', '±', 'bytes', 'packing', 'note')
  rows = [head, *map(_cells, made['table'])]
  if markdown:
    rows.insert(1, ('---', '---:', '---:', '---:', '---', '---'))
    lines = [f'| {" | ".join(row)} |' for row in rows]
  else:
    lines = aligned(rows, left=(0, 4, 5))
  found = made['description']
  last = (
    f'K(X) ≤ {found["bits"]:,} bits, the least of {len(found["all"])} programs: {found["by"]}, '
    f'{found["file_bits"]:,} of its file and {found["program_bits"]:,} of the program, on the '
    f'machine of {found["machine"]}.'
  )
  if less := made.get('against_counting'):
    sign = '≤ ' if less['code'] == 'upper_bound' else ''
    last = (
      f'{less["run"]} less {less["counting"]}: {sign}{less["mean"]:+.3f} ± {less["stderr"]:.3f} '
      f'bits/dim, example by example; weights and training images are free.\n{last}'
    )
  return '\n'.join([caption, '', *lines, '', last])


def _cells(row: Mapping) -> tuple[str, ...]:
  """Name, bits per dimension, their error, bytes, packing and note of a compressor."""
  bits, error = row['bits'], row['stderr']
  if bits is None:
    return row['name'], 'n/a', '', '', row['packing'], row['note']
  sign = '≤ ' if row['code'] == 'upper_bound' else ''
  size = f'{sign}{math.ceil(bits / 8):,}'
  rate, error = f'{sign}{row["bits_per_dim"]:.3f}', '' if error is None else f'{error:.3f}'
  return row['name'], rate, error, size, row['packing'], row['note']


def neighbours(made: Mapping) -> str:
  """Classifiers by compression; `made` is what `runs.neighbours.classify` returns."""
  train, validation, test = made['used_rows']
  caption = (
    f'{made["dataset"]}: {train} labelled training rows, balanced; {validation} '
    f'validation rows choose; {test} test rows. Chance: {100 / made["classes"]:.1f} %.\n'
    '± binomial standard error over test rows. Tied classes share the credit: no tie is counted as '
    'right.\nThe network was trained on the training split without labels; the others were not.'
  )
  sizes, class_sizes = (
    ', '.join(f'{size:g}' for size in made[name]) for name in ('step_sizes', 'class_step_sizes')
  )
  tried = f'Step sizes tried: kNN {sizes}; by class {class_sizes}.'
  head = ('classifier', 'test accuracy, %', 'validation, %', 'tied, %', 'chosen on validation')
  rows = [
    (
      name,
      f'{100 * a["accuracy"]:.1f} ± {100 * a["stderr"]:.1f}',
      f'{100 * a["validation"]:.1f}',
      f'{100 * a["tied"]:.0f}',
      ', '.join(f'{key} {value:g}' for key, value in a['chosen'].items()) or '–',
    )
    for name, a in made['classifiers'].items()
  ]
  return '\n'.join([caption, tried, '', *aligned([head, *rows], left=(0, 4))])


def joint(made: Mapping) -> str:
  """Four codes of the same labels; `made` is what `runs.joint.compare` returns."""
  runs, first = made['runs'], made['runs'][0]
  found = [
    f'{first["labels"]:,} labels, uniform {first["uniform"]:,.0f} bits, by their classes alone '
    f'{first["majority"]:,.0f}; {len(runs)} {"runs" if len(runs) > 1 else "run"}'
  ]
  for name, way in made['ways'].items():
    found.append(f'{name:60} {way["mean"]:9,.0f} bits{_spread(way)}')
  for name, way in made['differences'].items():
    sign = f'(d) less {name}'
    found.append(f'{sign:60} {way["mean"]:+9,.0f} bits{_spread(way)}')
  if len(runs) < SEEDS:
    found.append(f'below {SEEDS} seeds there is no interval: nothing here tells two ways apart')
  for run in runs:
    alone = ', '.join(
      f'{bits:,.0f} at weight {weight:g}'
      for weight, bits in zip(run['weights'], run['expert_bits'], strict=True)
    )
    found.append(f'of (d), seed {run["seed"]}, each network by itself, not paid for: {alone}')
  ways = {
    '(a)': '--others=DIR names an untrained run of each seed, fine-tuned',
    '(c)': 'launch.finetune --workdir=RUN makes it',
  }
  found += [
    f'{way} is not there: {how}'
    for way, how in ways.items()
    if not any(name.startswith(way) for name in made['ways'])
  ]
  return '\n'.join(found)


def _spread(way: Mapping) -> str:
  """The interval over seeds, or the range; nothing of one run."""
  if way['low'] is not None:
    return f', 95 % interval {way["low"]:,.0f} to {way["high"]:,.0f} over seeds'
  return f', {way["minimum"]:,.0f} to {way["maximum"]:,.0f}' if way['seeds'] > 1 else ''


def shared(found: Mapping) -> str:
  """Bits of one pair of data, as from `codes.mutual_information.result`.

  Shares are of what these rows share, where that is known, else of C(Y), to the precision that
  their standard error over rows leaves; without one, to whole percents.
  """
  truth = '' if found['truth'] is None else f'; known to share {found["truth"]:,.0f} bits'
  if found.get('realised') is not None:
    truth += f' on average, these rows {found["realised"]:,.0f}'
  rows = [f'\n{found["pair"]}: {found["note"]}{truth}']
  known = found.get('realised') or found['truth']
  head = f'{"code":14}' + ''.join(f'{name:>12}' for name in ('C(X)', 'C(Y)', 'C(Y|X)', 'C(XY)'))
  head += ' |' + ''.join(f'{name:>17}' for name in _SHARED)
  rows.append(head + f'{"of known" if known else "of C(Y)":>15}')
  for code in found['codes']:
    label = f'{code["name"]} {code["layout"]}'.strip()
    row = f'{label:14}'
    row += ''.join(f'{code[name]:12,.0f}' for name in ('x', 'y', 'y_given_x', 'xy')) + ' |'
    row += ''.join(f'{code["shared"][name]:17,.0f}' for name in _SHARED)
    of = known or code['y']
    row += f'{share_text(code["shared"][_SHARED[0]], of, code.get("stderr")):>15}' if of else ''
    rows.append(row)
  return '\n'.join(rows)


def share_text(bits: float, of: float, stderr: float | None) -> str:
  """'98.9 ± 0.3 %': as many decimals as the error has zeros, at most two; '99 %' without one."""
  share, error = 100 * bits / of, 100 * (stderr or 0) / abs(of)
  decimals = 0
  if stderr is not None:
    decimals = min(2, max(0, -math.floor(math.log10(error)))) if error > 0 else 2
  text = f'{round(share, decimals) + 0.0:.{decimals}f}'  # Not '-0'.
  return f'{text} %' if stderr is None else f'{text} ± {error:.{decimals}f} %'


def compressed(made: Mapping) -> str:
  """What was coded of a file and what it took; `made` is what `runs.compressing.encode` returns."""
  count, unit = made['symbols'], 'bits/byte' if made['windows'] else 'bits/dim'
  vocabulary = made['vocabulary']

  def row(name: str, bits: float, words: str) -> str:
    rate = f'{bits / count:8.4f} {unit}' if count else 'n/a'
    return f'{name:13} {bits / 8:12,.0f} bytes  {rate}  {words}'

  rows = [
    f'{made["path"]}: {count:,} symbols of {vocabulary} values; '
    f'the file has {made["raw_bytes"]:,} bytes',
    row('stream', 8 * made['file_bytes'], 'all that is written'),
    row('code', made['payload_bits'], 'without header and frames'),
    row('ideal', made['ideal_bits'], '-Σ log2 p'),
    row('uniform', count * math.log2(vocabulary), f'log2 {vocabulary} a symbol'),
  ]
  if alone := made.get('alone'):
    each = ', '.join(f'{name} {bits / count:.4f}' for name, bits in alone.items())
    rows.append(f'alone         {each}: none of them a file')
  if price := made.get('price'):
    lost = (price['bits_per_dim'] - price['one_by_one']) * price['of']
    error = '' if price['stderr'] is None else f' ± {price["stderr"] * price["of"]:.2f}'
    rows.append(
      f'steps         {price["passes"]} passes an example: {price["bits_per_dim"]:.4f} bits/dim '
      f'expected, in {price["of"]} passes {price["one_by_one"]:.4f} (of {price["examples"]} '
      f'validation examples): {lost:.2f}{error} bits an example are the price'
    )
  if made['program'] is None:
    rows.append(f'not counted   the weights: {made["parameters"]:,} parameters of 32 bits')
  else:
    bits, raw = made['program']['bits'], made['raw']
    whole, packages, by = 8 * made['file_bytes'] + bits, made['program']['packages'], ''
    least = raw['file_bits'] + raw['program_bits']
    if least < whole:
      packages, by = raw['packages'], ', by raw digits, which are shorter,'
    machine = ', '.join(['Python', *packages])
    rows.append(
      f'program       {bits / 8:12,.0f} bytes: {made["program"]["modules"]} modules and a driver '
      f'without comments, xz -9e\n'
      f'with it       {whole / 8:12,.0f} bytes: K(X) ≤ {min(least, whole):,} bits{by} '
      f'on the machine of {machine}'
    )
  return '\n'.join(rows)
