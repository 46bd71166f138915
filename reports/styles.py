"""How each objective looks, the same in every picture and table; needs no plotting library."""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import itertools

# Okabe and Ito's palette without yellow and black, told apart by colour-blind readers and in grey
# by the markers; greys are for what was never trained.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00', '#8C6D31', '#7A5195')
# Whose the first of them are, in every report; variants and all others take what is free.
_OWNERS = ('autoregressive', 'masked', 'masked_diffusion', 'block_diffusion', 'gaussian_diffusion')
_OWNERS += ('supervised',)
_GREYS = ('#555555', '#999999', '#222222', '#BBBBBB')
_MARKERS = 'osD^vP*X'
INK, FAINT = '#333333', '#8A8A8A'
DPI = 144  # of the pictures
Kind = tuple[str, str | None]


@dataclasses.dataclass(frozen=True)
class Style:
  """How one objective (at one size) is drawn, the same in every picture."""

  label: str
  colour: str
  marker: str
  line: str
  saw_labels: bool = False

  @property
  def mark(self) -> str:
    """What stands behind the label in pictures of accuracies."""
    return ' (saw all labels)' if self.saw_labels else ''


def kind_of(run: Mapping) -> Kind:
  """What one line in a picture stands for."""
  return run['objective'], run.get('size')


def styles(results: Mapping) -> dict[Kind, Style]:
  """A fixed style for each objective and size.

  An objective keeps its colour over sizes, the usual ones over reports too; the smaller a size, the
  paler, and its own marker.
  """
  sizes = list(dict.fromkeys(entry['size'] for entry in results['summary']))
  trained = _places(_names(results, lambda entry: entry.get('trained', True)))
  controls = _names(results, lambda entry: not entry.get('trained', True))
  made = {}
  for entry in results['summary']:
    label, name = entry['objective'], entry['objective']
    if name in trained:
      again, place = divmod(trained[name], len(COLOURS))
      colour = COLOURS[place]
      line = '--' if entry['saw_labels'] else '-.' if again % 2 else '-'
      marker = _MARKERS[(place + again) % len(_MARKERS)]
    else:
      place = controls.index(name)
      colour, line, marker = _GREYS[place % len(_GREYS)], ':', 'ds'[place % 2]
    if len(sizes) > 1:
      label += f' {entry["size"]}'
      rank = sizes.index(entry['size'])
      colour = paler(colour, 0.6 * (len(sizes) - 1 - rank) / (len(sizes) - 1))
      marker = _MARKERS[rank % len(_MARKERS)]
    made[kind_of(entry)] = Style(label, colour, marker, line, bool(entry['saw_labels']))
  return made


def _names(results: Mapping, wanted: Callable[[Mapping], bool]) -> list[str]:
  return list(dict.fromkeys(entry['objective'] for entry in results['summary'] if wanted(entry)))


def _places(names: Iterable[str]) -> dict[str, int]:
  """Which colour each has; from their number on they come again."""
  made: dict[str, int] = {}
  for name in sorted(names, key=lambda name: (name.split()[0] not in _OWNERS, ' ' in name)):
    owner = name.split()[0]
    own = [_OWNERS.index(owner)] if owner in _OWNERS else []
    own += [*range(len(_OWNERS), len(COLOURS)), *range(len(_OWNERS))]
    free = itertools.chain(own, itertools.count(len(COLOURS)))
    made[name] = next(place for place in free if place not in made.values())
  return made


def paler(colour: str, share: float) -> str:
  """`colour` mixed with that share of white."""
  parts = [(1 - share) * (part / 255) + share for part in bytes.fromhex(colour[1:])]
  return '#' + ''.join(f'{round(part * 255):02X}' for part in parts)


def grouped(results: Mapping) -> dict[Kind, list[dict]]:
  """The selected runs of every line, in the order of the summary."""
  groups = {kind_of(entry): [] for entry in results['summary']}
  for run in results['runs']:
    if run['selected']:
      groups[kind_of(run)].append(run)
  return groups


def lines(results: Mapping) -> list[tuple[Style, list[dict]]]:
  """How every line in a picture looks, and the selected runs that it stands for."""
  looks = styles(results)
  return [(looks[kind], runs) for kind, runs in grouped(results).items()]


def scientific(value: float) -> str:
  """A large number as 1.2e13, without padding."""
  if not value:
    return '0'
  mantissa, exponent = f'{value:.2e}'.split('e')
  return f'{mantissa.rstrip("0").rstrip(".")}e{int(exponent)}'
