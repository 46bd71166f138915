"""What a compiled program sends between chips, read from its HLO text.

A collective counts as often as it runs: times the trip count of every loop around it. Bytes are
those that a chip must send, with B the whole buffer and N the chips of its group: all-gather and
reduce-scatter (N-1)/N B, all-reduce twice that, all-to-all (N-1)/N B, collective-permute B.
"""

from collections.abc import Iterator
import dataclasses
import math
import re

KINDS = ('all-gather', 'reduce-scatter', 'all-reduce', 'collective-permute', 'all-to-all')
_BITS = {'pred': 8, 's4': 4, 'u4': 4, 's8': 8, 'u8': 8, 's16': 16, 'u16': 16, 'bf16': 16, 'f16': 16}
_BITS |= {'s32': 32, 'u32': 32, 'f32': 32, 's64': 64, 'u64': 64, 'f64': 64, 'c64': 64}
_HEADER = re.compile(r'^(ENTRY )?%?([\w.\-]+) (\(.*)?\{\s*$')
_SHAPE = re.compile(r'\b([a-z]+\d*)\[([\d,]*)\]')
_COLLECTIVE = re.compile(rf'= (.*?) ({"|".join(KINDS)})(-start)?\((.*)$')
_CALLED = re.compile(r'(?:calls|to_apply|body|called_computations)=\{?%?([\w.\-]+)')
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')


class UnreadableProgram(ValueError):
  """The HLO text has something that can't be counted; the message says what."""


@dataclasses.dataclass(frozen=True)
class Collective:
  """One collective of a program.

  Attributes:
    kind: one of KINDS.
    bytes: what a chip sends each time it runs.
    times: how often it runs in one call of the program.
    where: the operation that it comes from, for people.
  """

  kind: str
  bytes: float
  times: int
  where: str


def shape_bytes(text: str) -> list[int]:
  """Bytes of every array in a shape such as '(bf16[2,3]{1,0}, f32[])'; unknown types are 0."""
  sizes = []
  for kind, axes in _SHAPE.findall(text):
    count = math.prod(int(axis) for axis in axes.split(',') if axis)
    sizes.append(count * _BITS.get(kind, 0) // 8)
  return sizes


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
  """Name -> lines of every computation, and the entry's name."""
  found, entry, lines = {}, '', None
  for line in text.splitlines():
    header = _HEADER.match(line)
    if header and not line.startswith(' '):
      lines = found.setdefault(header[2], [])
      entry = header[2] if header[1] else entry
    elif line.startswith('}'):
      lines = None
    elif lines is not None:
      lines.append(line.strip())
  if not entry:
    raise UnreadableProgram('the HLO text has no entry computation')
  return found, entry


def _group_size(line: str, devices: int) -> int:
  """Chips in one group of a collective, in any of the three notations."""
  listed = re.search(r'replica_groups=\{\{([\d,]*)\}', line)
  if listed:
    return len(listed[1].split(','))
  iota = re.search(r'replica_groups=\[(\d+),(\d+)\]<=', line)
  if iota:
    return int(iota[2])
  mesh = re.search(r'replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}', line)
  if mesh:
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
    return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", mesh[2]))
  return devices


def trip_count(line: str, computations: dict[str, list[str]]) -> int:
  """How often a while loop runs: the compiler's own word, or the bound of a counter from 0.

  The counter's step is read from the body, and is 1 where it is not to be found there.

  Raises:
    UnreadableProgram: neither is there.
  """
  known = re.search(r'known_trip_count\W+n\W+(\d+)', line)
  if known:
    return int(known[1])
  condition = re.search(r'condition=%?([\w.\-]+)', line)[1]
  lines = list(computations[condition])
  for inner in computations[condition]:
    # The comparison may be fused.
    for called in _CALLED.findall(inner):
      lines += computations.get(called, [])
  bounds = {int(n) for one in lines for n in re.findall(r'[su]32\[\]\S* constant\((\d+)\)', one)}
  if len(bounds) != 1 or not any('direction=LT' in one for one in lines):
    raise UnreadableProgram(f'how often the loop with condition {condition} runs is not to be read')
  read = [re.search(r'get-tuple-element\(.*index=(\d+)', one) for one in computations[condition]]
  counters = [int(found[1]) for found in read if found]
  body = computations[re.search(r'body=%?([\w.\-]+)', line)[1]]
  step = _increment(body, counters[0]) if len(counters) == 1 else 1
  return -(-bounds.pop() // step)


def _increment(body: list[str], index: int) -> int:
  """What a loop's body adds to element `index` of its state; 1 if that can't be followed."""
  made = {m[1]: m[2] for one in body if (m := re.match(r'(?:ROOT )?%?([\w.\-]+) = (.*)', one))}
  root = next(one for one in body if one.startswith('ROOT'))
  values = re.search(r' tuple\((.*?)\)(?:,|$)', root)
  if not values:
    return 1
  name, total = re.findall(r'%([\w.\-]+)', values[1])[index], 0
  while True:
    definition = made.get(name, '')
    if ' get-tuple-element(' in definition:
      return total if total > 0 and re.search(rf'index={index}\b', definition) else 1
    added = re.search(r' add\(.*?%([\w.\-]+), .*?%([\w.\-]+)\)', definition)
    amount = added and re.search(r' constant\((\d+)\)', made.get(added[2], ''))
    if not amount:
      return 1
    name, total = added[1], total + int(amount[1])


def _sent(kind: str, shape: str, started: bool, line: str, devices: int, scatters: bool) -> float:
  sizes = shape_bytes(shape)
  group = _group_size(line, devices)
  share = (group - 1) / group
  if kind == 'collective-permute':
    return sizes[0]
  if started and kind == 'all-gather':
    # (operands..., results...): the results are the larger half.
    return share * sum(sizes[len(sizes) // 2 :])
  if kind == 'reduce-scatter':
    return share * sum(sizes) * group
  return share * sum(sizes) * (2 if kind == 'all-reduce' and not scatters else 1)


def collectives(text: str, devices: int) -> list[Collective]:
  """Every collective that runs in a compiled program, most bytes first.

  A fused pair of all-reduce and dynamic-slice, which is how TPU programs write it, counts as
  reduce-scatter. Asynchronous ones count where they start; the fusions that carry a running
  collective along repeat it under the same chain or channel, and count once.

  Raises:
    UnreadableProgram: a loop around a collective has no readable trip count.
  """
  computations, entry = _computations(text)
  fused = {
    name
    for lines in computations.values()
    for line in lines
    if ' fusion(' in line
    for name in _CALLED.findall(line)
  }
  seen: set[tuple[str, str]] = set()

  def walk(name: str, times: int) -> Iterator[Collective]:
    for line in computations.get(name, ()):
      found = _COLLECTIVE.search(line)
      if found:
        shape, kind, started = found[1], found[2], bool(found[3])
        # Collectives over groups of chips all have channel 1, so the chain goes first.
        running = re.search(r'chain_id="\d+"', line) or re.search(r'channel_id=\d+', line)
        if name in fused and running:
          if (kind, running[0]) in seen:
            continue
          seen.add((kind, running[0]))
        scatters = kind == 'all-reduce' and name.startswith('all-reduce-scatter')
        sent = _sent(kind, shape, started, line, devices, scatters)
        where = re.search(r'op_name="([^"]*)"', line)
        yield Collective(
          'reduce-scatter' if scatters else kind, sent, times, where[1] if where else ''
        )
        continue
      inside = list(walk_called(line))
      if inside:
        loop = ' while(' in line
        # Only a loop that sends something must be counted.
        parts = [one for called in inside for one in walk(called, 1)]
        trips = trip_count(line, computations) if loop and parts else 1
        yield from (dataclasses.replace(one, times=one.times * trips * times) for one in parts)

  def walk_called(line: str) -> Iterator[str]:
    yield from _CALLED.findall(line)
    for branches in _BRANCHES.findall(line):
      yield from re.findall(r'%?([\w.\-]+)', branches)

  return sorted(walk(entry, 1), key=lambda one: -one.bytes * one.times)


def by_kind(found: list[Collective]) -> dict[str, float]:
  """Bytes that a chip sends in one call of the program, by kind; kinds without any left out."""
  totals = {kind: sum(c.bytes * c.times for c in found if c.kind == kind) for kind in KINDS}
  return {kind: total for kind, total in totals.items() if total}
