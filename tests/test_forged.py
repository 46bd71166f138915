"""Files that lie: two thousand of them, spliced, cut, flipped and forged with all checks right.

All of them are decoded by one process of their own that may take ten seconds and a gigabyte for
each: the system ends it where one takes more.
"""

import dataclasses
import io
import json
import os
import pathlib
import resource
import signal
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest

from codes import adaptive, codec, container, counting, files
from codes.errors import CodeError

V, T = 7, 6
LAYOUT = counting.Layout(V, T, (2, 3, 1), True)
NETWORK = {
  'model': {'vocabulary': V, 'length': T, 'width': 8, 'layers': 1, 'heads': 2},
  'objective': {'name': 'autoregressive'},
  'optimizer': {
    'learning_rate': 1e-2, 'warmup_steps': 2, 'end_fraction': 1.0, 'beta1': 0.9, 'beta2': 0.95,
    'weight_decay': 0.01, 'clip_norm': 1.0,
  },
  'schedule': {'chunk': 8, 'updates': 1, 'batch': 8, 'replay': True, 'seed': 3},
  'average': 4,
  'calibrated': True,
}  # fmt: skip


def _stream(tokens):
  predictor = adaptive.Adaptive(adaptive.Settings(LAYOUT, 8), tokens.size)
  fields = {'kind': container.ARRAY, 'total': len(tokens), 'dtype': '|u1', 'shape': (2, 3)}
  header = container.Header(**fields, **predictor.claims())
  out, flat = io.BytesIO(), tokens.reshape(-1)
  codec.encode(predictor, codec.Source(tokens.size, lambda a, b: flat[a:b]), header, out)
  return out.getvalue()


def _decode(stream):
  reader, out = container.Reader(io.BytesIO(stream)), io.BytesIO()
  files.decode(adaptive.from_header(reader.header), reader, out)
  out.seek(0)
  return np.load(out).reshape(-1, T)


def _pair():
  """Two data of one size, and their files of equal headers and three frames each."""
  rng = np.random.default_rng(0)
  tokens = [rng.integers(0, V, (20, T)) for _ in range(2)]
  codec.FRAME_SYMBOLS = 7 * T
  return tokens, [_stream(one) for one in tokens]


def _marks(stream):
  """Where the header, each frame and the end begin and end."""
  file = io.BytesIO(stream)
  reader = container.Reader(file)
  at = [len(reader.header.pack())]
  for _, _, words in reader.frames(20, T):
    at.append(at[-1] + 24 + len(words))
  assert at[-1] + 24 == len(stream)
  return [0, *at, len(stream)]


def _spliced(pair, rng):
  """Parts of both files in some order; now and then with parts missing."""
  parts = []
  for stream in pair:
    marks = _marks(stream)
    parts.append([stream[a:b] for a, b in zip(marks[:-1], marks[1:], strict=True)])
  picked = [parts[rng.integers(2)][i] for i in range(len(parts[0]))]
  kind = rng.integers(4)
  if kind == 0:
    del picked[rng.integers(1, len(picked))]
  elif kind == 1:
    i, j = rng.integers(1, len(picked), 2)
    picked[i], picked[j] = picked[j], picked[i]
  elif kind == 2:
    picked.insert(rng.integers(1, len(picked)), parts[0][rng.integers(len(parts[0]))])
  return b''.join(picked)


def _damaged(stream, rng):
  data, kind, at = bytearray(stream), rng.integers(4), int(rng.integers(len(stream)))
  if kind == 0:
    data[at] ^= 1 << int(rng.integers(8))
  elif kind == 1:
    del data[at:]
  elif kind == 2:
    data[at : at + int(rng.integers(1, 9))] = rng.bytes(int(rng.integers(0, 9)))
  else:
    data += rng.bytes(int(rng.integers(1, 60)))
  return bytes(data)


_HEAD = struct.Struct('<4sBBBBIQ8s8sBHII')
# Byte counts of the fields after magic and version, as struct has them.
_FIELDS = {'mode': 2, 'kind': 3, 'dtype': 4, 'batch': 5, 'total': 6, 'axes': 9, 'words': 10,
           'packed': 11, 'length': 12}  # fmt: skip


def _seal(body, frames):
  """A whole file with right checks of these header bytes and frames."""
  chain = container.Chain()
  out = body + chain.check(body)
  for count, digest, words in frames:
    head = struct.pack('<II8s', count, len(words) // 4, digest)
    out += head + chain.check(head + words) + words
  return out + struct.pack('<4sI16s', b'BPc.', len(frames), chain.end())


def _forged(stream, rng):
  """Another header, by bytes or by settings, with all checks made anew."""
  file = io.BytesIO(stream)
  reader = container.Reader(file)
  header, frames = reader.header, list(reader.frames(20, T))
  if rng.integers(2):
    body = bytearray(header.pack()[:-8])
    fields = list(_HEAD.unpack(body[: _HEAD.size]))
    name = rng.choice(list(_FIELDS))
    width = {'I': 32, 'Q': 64, 'B': 8, 'H': 16}['BBBIQBHII'[list(_FIELDS).index(name)]]
    fields[_FIELDS[name]] = int(rng.integers(0, 2 ** min(int(rng.integers(1, 65)), width - 1)))
    return _seal(_HEAD.pack(*fields) + bytes(body[_HEAD.size :]), frames)
  settings = json.loads(header.settings)
  target = settings if rng.integers(2) else settings['layout']
  name = rng.choice(list(target))
  target[str(name)] = [
    -1, 0, 1, 10**6, 10**30, 0.5, 'x', None, [], [1, 2, 3], {}, True, [10**6] * 3, 1e308,
  ][rng.integers(14)]  # fmt: skip
  changed = dataclasses.replace(header, settings=json.dumps(settings).encode())
  return _seal(changed.pack()[:-8], frames)


def _outcome(stream, wanted):
  """Whether a file was refused; any other than the right symbols, and any other error, fails."""
  try:
    found = _decode(stream)
  except container.StreamError as error:
    assert str(error).isprintable()
    # What ran into the limit was not refused before it was made.
    assert not isinstance(error.__cause__, MemoryError), error
    return True
  assert any(np.array_equal(found, tokens) for tokens in wanted)
  return False


CASES = {'spliced': 700, 'damaged': 900, 'forged': 400}
MOST_SECONDS, MOST_BYTES = 10, 2**30


def _bound(seconds, size):
  """This process may compute so many seconds more, and have so many bytes more than now."""
  used = resource.getrusage(resource.RUSAGE_SELF)
  spent = int(used.ru_utime + used.ru_stime) + 1
  resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds, resource.RLIM_INFINITY))
  if size is not None:
    now = int(pathlib.Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + size, resource.RLIM_INFINITY))


def _decode_all():
  """In the process with limits: all cases, one after the other; prints how many were refused."""
  tokens, streams = _pair()
  assert not any(_outcome(stream, tokens) for stream in streams)
  _bound(MOST_SECONDS, MOST_BYTES)
  rng, refused, slowest = np.random.default_rng(1), dict.fromkeys(CASES, 0), 0.0
  for how, count in CASES.items():
    for number in range(count):
      print(f'{how} {number}', file=sys.stderr)
      if how == 'spliced':
        stream = _spliced(streams, rng)
      elif how == 'damaged':
        stream = _damaged(streams[rng.integers(2)], rng)
      else:
        stream = _forged(streams[0], rng)
      if stream in streams:
        continue
      _bound(MOST_SECONDS, None)
      begun = time.process_time()
      same = how == 'forged' and _means_the_same(stream, streams[0])
      gone = _outcome(stream, tokens)
      assert same or how == 'forged' or gone
      refused[how] += gone or same
      slowest = max(slowest, time.process_time() - begun)
  print(json.dumps({'refused': refused, 'slowest': slowest}))


def _in_a_process(call):
  root = pathlib.Path(__file__).parent.parent
  environment = {**os.environ, 'PYTHONPATH': f'{root}:{root}/tests', 'OPENBLAS_NUM_THREADS': '1'}
  return subprocess.run(
    [sys.executable, '-c', f'import test_forged; test_forged.{call}'],
    cwd=root, env=environment, capture_output=True, text=True, timeout=600,
  )  # fmt: skip


def test_nothing_is_silently_wrong_or_takes_more_than_it_may():
  done = _in_a_process('_decode_all()')
  last = done.stderr.splitlines()[-20:]
  assert done.returncode == 0, (done.returncode, last)
  found = json.loads(done.stdout)
  for how, count in CASES.items():
    assert found['refused'][how] > 0.8 * count, how


@pytest.mark.parametrize(
  'call, ended',
  [
    ('_bound(1, None) or [None for _ in iter(int, 1)]', -signal.SIGXCPU),
    ('_bound(10, 2**30) or test_forged.np.ones(2**28)', 1),
  ],
)
def test_the_limits_end_what_is_beyond_them(call, ended):
  done = _in_a_process(call)
  assert done.returncode == ended
  assert ended != 1 or 'MemoryError' in done.stderr


def _means_the_same(stream, original):
  try:
    one, other = (container.Reader(io.BytesIO(s)).header for s in (stream, original))
  except container.StreamError:
    return False
  return one == other


def _refused(header, frames=()):
  with pytest.raises(container.StreamError) as caught:
    _decode(_seal(header.pack()[:-8], list(frames)))
  return str(caught.value)


def _asking(**changed):
  """A header whose settings are changed, its network's by double underscores."""
  settings = json.loads(adaptive.Settings(LAYOUT, 8, networks=(NETWORK,)).pack())
  for name, value in changed.items():
    *path, last = name.split('__')
    place = settings
    for key in path:
      place = place[int(key)] if key.isdigit() else place[key]
    place[last] = value
  packed = json.dumps(settings).encode()
  return container.Header(
    1, 1, 8, 20, bytes(8), bytes(8), 'here', '|u1', (2, 3), packed
  )  # fmt: skip


@pytest.mark.parametrize(
  'changed, message',
  [
    ({'networks__0__model__width': 2**20}, 'parameters'),
    ({'networks__0__model__layers': 10**6}, 'layers'),
    ({'networks__0__schedule__updates': 10**9}, 'updates a chunk'),
    ({'networks__0__schedule__batch': 10**9}, 'too large'),
    ({'networks__0__schedule__chunk': 10**9}, 'too large'),
    ({'networks__0__objective__name': 'masked'}, 'can not be used'),
    ({'networks__0__objective__name': '\x1b[31m'}, 'can not be used'),
    ({'networks__0__optimizer__learning_rate': -1.0}, 'learning_rate'),
    ({'networks__0__average': -5}, 'average'),
    ({'networks': [{}] * 1000}, 'at most 8 networks'),
    ({'layout__vocabulary': 10**9}, 'at most 1024 values and'),
    ({'layout__length': 10**9}, 'at most 1024 values and'),
    ({'layout__picture': [10**9, 10**9, 1]}, 'pixels'),
    ({'most': 2**11 + 1}, 'chunk must be at most 2048 for this data'),
    ({'most': 8.0}, 'most must be a whole number, not 8.0'),
    ({'part': 8.0}, 'part must be a whole number'),
    ({'networks__0__model__heads': 2.0}, 'heads must be a whole number'),
    ({'networks__0__schedule__updates': 1.0}, 'updates must be a whole number'),
    ({'share': float('nan')}, 'share'),
  ],
)
def test_what_settings_may_ask_for(changed, message):
  found = _refused(_asking(**changed))
  assert message in found and found.isprintable()


def test_bombs_and_words_in_headers():
  good = _asking()
  with pytest.raises(container.StreamError, match='more than the format allows'):
    container.Reader(io.BytesIO(dataclasses.replace(good, settings=bytes(2**17)).pack()))
  # Settings that unpack to more than they say.
  body = bytearray(good.pack()[:-8])
  fields = list(_HEAD.unpack(body[: _HEAD.size]))
  bomb = zlib.compress(bytes(2**25), 9)
  assert len(bomb) < 2**16
  words = bytes(body[_HEAD.size : _HEAD.size + 8 + fields[10]])
  fields[11] = len(bomb)
  with pytest.raises(container.StreamError, match='settings in the header are damaged'):
    container.Reader(io.BytesIO(_seal(_HEAD.pack(*fields) + words + bomb, [])))
  # Nested deeper than Python goes.
  deep = dataclasses.replace(good, settings=b'[' * 60_000)
  assert 'can not be used' in _refused(deep)
  packed = good.pack()[:-8].replace(b'here', b'\x1b[2J')
  with pytest.raises(container.StreamError, match='unprintable words'):
    container.Reader(io.BytesIO(_seal(packed, [])))
  assert 'claims more symbols' in _refused(dataclasses.replace(good, total=2**63))
  assert 'holds 0 examples, its header claims 20' in _refused(good)


@pytest.mark.parametrize('length', [2**12, 64])
def test_batches_are_bounded_by_what_they_take(length):
  """A few hundred bytes that ask for gigabytes: 65,536 rows of bits, by counts and by a network."""
  layout = {'vocabulary': 2, 'length': length, 'picture': None}
  one = {'chunk': 1, 'batch': 1}
  model = {'vocabulary': 2, 'length': length, 'width': 64, 'layers': 8, 'heads': 1}
  small = NETWORK | {'model': model, 'schedule': NETWORK['schedule'] | one}
  asked = {'layout__' + name: value for name, value in layout.items()}
  for rows, networks, message in (
    (2**16, [], 'chunk must be at most'),
    (min(2**11, 2**22 // length) + 1, [], 'chunk must be at most'),
    (min(2**11, 2**22 // length), [small], 'too large for this network'),
  ):
    header = dataclasses.replace(
      _asking(**asked, networks=networks, most=rows, part=0), batch=rows, shape=(length,)
    )
    assert message in _refused(header)


def test_symbols_that_their_dtype_does_not_know_are_no_file():
  """200 as a byte is 200, and no signed byte."""
  tokens = np.full((1, T), 200)
  outcomes = []
  for dtype in ('|u1', '|i1'):
    predictor = adaptive.Adaptive(adaptive.Settings(counting.Layout(256, T), 8), tokens.size)
    header = container.Header(
      kind=container.ARRAY, total=1, dtype=dtype, shape=(T,), **predictor.claims()
    )
    out = io.BytesIO()
    codec.encode(predictor, codec.Source(T, lambda a, b: tokens.reshape(-1)[a:b]), header, out)
    try:
      outcomes.append(_decode(out.getvalue()).max())
    except container.StreamError as error:
      outcomes.append(str(error))
  assert outcomes == [200, 'holds symbols that are no int8']


def test_what_no_decoder_takes_is_not_written():
  for wrong in ({'batch': 2**16 + 1}, {'settings': bytes(2**16 + 1)}, {'shape': (1,) * 9}):
    with pytest.raises(container.StreamError, match='batches of 65,537|more than the format'):
      container.Writer(io.BytesIO(), dataclasses.replace(_asking(), **wrong))


_LIES = (
  "{'descr': '<i4', 'fortran_order': False, 'shape': (1000000000000, 6)}",
  "{'descr': '<i4', 'fortran_order': False, 'shape': (0, 100000000000000000000)}",
  "{'descr': '<i4', 'fortran_order': False, 'shape': (True, 6)}",
  "{'descr': '<i4', 'fortran_order': False, 'shape': (-1, -6)}",
  "{'descr': (), 'fortran_order': False, 'shape': (1, 6)}",
  "{'descr': '\x1b[2J', 'fortran_order': False, 'shape': (1, 6)}",
  "{[]: 1, 'fortran_order': False, 'shape': (1, 6)}",
  "{'descr': '<i4', 1: False, 'shape': (1, 6)}",
  '-' * 9000 + '1',
  '(' * 9000,
)


@pytest.mark.parametrize('lie', _LIES)
def test_headers_of_arrays_that_lie(lie, tmp_path):
  path = tmp_path / 'in.npy'
  for version, size in (((1, 0), '<H'), ((2, 0), '<I')):
    head = np.lib.format.magic(*version) + struct.pack(size, len(lie) + 1) + lie.encode() + b'\n'
    path.write_bytes(head + bytes(24))
    with pytest.raises(CodeError, match='is not a NumPy file') as caught:
      files.open_array(str(path))
    assert str(caught.value).isprintable()
