"""Classical compressors: every packing decodes, and sizes against what they must be."""

import bz2
import functools
import gzip
import io
import lzma
import math
import pathlib
import shutil
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from codes import (
  baselines,
  compressors,
  container,
  counting,
  description,
  experts,
  packing,
  pictures,
  tabled,
)
from codes.errors import CodeError
from data.dataset import Dataset, Examples
from reports import codes_text

_ROOT = pathlib.Path(__file__).parents[1]


def made(tokens, vocabulary, shape=(), pixels=None, train=None, ordinal=True):
  """A data set whose test split is `tokens`, and its training split too unless given."""
  splits = [tokens if train is None else train, tokens[:1], tokens]
  examples = [Examples(t.astype(np.int32), np.full(len(t), -1, np.int32)) for t in splits]
  dims = tokens.shape[1]
  return Dataset(
    'made', vocabulary, dims, dims, shape, None, ordinal, 'made up', True, *examples, pixels=pixels
  )


def uniform(vocabulary, count, dims, seed=0):
  return np.random.default_rng(seed).integers(0, vocabulary, (count, dims))


def read_png(data: bytes, vocabulary: int) -> np.ndarray:
  """The pixels (rows, columns, channels) of a file that `png` wrote, read by Pillow."""
  with Image.open(io.BytesIO(data)) as image:
    pixels = np.asarray(image).astype(np.int32)
  pixels = pixels[..., None] if pixels.ndim == 2 else pixels
  # Pillow stretches greys of 2 and 4 bits to 0..255, and leaves 1 bit as it is.
  bits = packing.depth(vocabulary)
  return pixels // (255 // (2**bits - 1)) if bits in (2, 4) else pixels


def read_webp(data: bytes, vocabulary: int, channels: int) -> np.ndarray:
  """The pixels (rows, columns, channels) of a file that `webp` wrote."""
  with Image.open(io.BytesIO(data)) as image:
    pixels = np.asarray(image.convert('RGB')).astype(np.int32)
  if channels == 3:
    return pixels
  return pixels[..., :1] * 256 + pixels[..., 1:2] if vocabulary > 256 else pixels[..., 1:2]


LAYOUTS = [
  packing.Layout(v, 12, picture, True) for v in (2, 3, 16, 17, 256) for picture in (None, (3, 4, 1))
] + [packing.Layout(512, 12, (3, 4, 1), False), packing.Layout(256, 36, (3, 4, 3), True)]


@pytest.mark.parametrize('of', LAYOUTS, ids=str)
@pytest.mark.parametrize('count', [1, 7, 12])
def test_every_packing_decodes_to_the_same_tokens(of, count):
  tokens = uniform(of.vocabulary, count, of.dims)
  found = packing.packings(of, count)
  assert len({packed.name for packed in found}) == len(found)
  for packed in found:
    data = packed.pack(tokens)
    for compressor in compressors.COMPRESSORS.values():
      again = packed.unpack(compressor.decompress(compressor.compress(data)))
      np.testing.assert_array_equal(again, tokens, err_msg=f'{packed.name} {compressor.name}')


@pytest.mark.parametrize('of', [of for of in LAYOUTS if of.picture], ids=str)
@pytest.mark.parametrize('count', [1, 7])
def test_every_picture_decodes_to_the_same_tokens(of, count):
  """Pillow reads the PNG files that are written here."""
  # Smooth and noisy rows, so that all of PNG's filters are chosen.
  tokens = uniform(of.vocabulary, count, of.dims)
  tokens[::2] = np.arange(of.dims) % of.vocabulary
  for sheet in pictures.sheets(of, count):
    pixels = sheet.draw(tokens)
    again = read_png(pictures.png(pixels, of.vocabulary), of.vocabulary)
    np.testing.assert_array_equal(sheet.read(again), tokens, err_msg=f'PNG {sheet.name}')
    data = pictures.webp(pixels, of.vocabulary)
    again = read_webp(data, of.vocabulary, of.picture[2])
    np.testing.assert_array_equal(sheet.read(again), tokens, err_msg=f'WebP {sheet.name}')


def test_each_png_filter_is_the_one_of_the_standard():
  """Files with one filter alone, read by Pillow, which follows the standard."""
  lines = uniform(256, 5, 9).astype(np.uint8)
  bodies = pictures._scanlines(lines, 3)
  header = np.array([3, 5], '>u4').tobytes() + bytes([8, 2, 0, 0, 0])
  for body in bodies:
    parts = ((b'IHDR', header), (b'IDAT', body), (b'IEND', b''))
    file = b'\x89PNG\r\n\x1a\n' + b''.join(pictures._chunk(*part) for part in parts)
    again = read_png(file, 256)
    np.testing.assert_array_equal(again.reshape(5, 9), lines)


def test_layouts_by_hand():
  """Two images of 2x2 pixels below 4: the bytes themselves."""
  tokens = np.array([[0, 1, 2, 3], [3, 3, 0, 1]])
  found = {
    p.name: p.pack(tokens) for p in packing.packings(packing.Layout(4, 4, (2, 2, 1), True), 2)
  }
  assert found['example by example, bytes'] == bytes([0, 1, 2, 3, 3, 3, 0, 1])
  assert found['example by example, 2 bits'] == bytes([0b00011011, 0b11110001])
  assert found['pixel-major, bytes'] == bytes([0, 3, 1, 3, 2, 0, 3, 1])
  assert found['column-major, bytes'] == bytes([0, 2, 1, 3, 3, 0, 3, 1])
  assert found['differences, bytes'] == bytes([0, 1, 2, 1, 3, 0, 0, 1])
  sheet = packing.packings(packing.Layout(4, 4, (2, 2, 1), True), 4)
  four = next(p for p in sheet if p.name == 'sheet 2 across, bytes').pack(
    np.arange(16).reshape(4, 4)
  )
  assert four == bytes([0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15])


def test_sizes_are_those_of_the_files():
  tokens = uniform(17, 30, 16) // 3
  rows = baselines.every_packing(made(tokens, 17), 'test')
  sizes = {row.name: row.bits for row in rows}
  data = tokens.astype(np.uint8).tobytes()
  assert sizes['gzip -9'] == 8 * len(gzip.compress(data, 9))
  assert sizes['bzip2 -9'] == 8 * len(bz2.compress(data, 9))
  # A window as large as the data costs nothing against xz's own of 64 MB.
  assert sizes['xz -9e'] == 8 * len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
  assert sizes['lzma, tuned lc/lp/pb'] < sizes['xz -9e']
  for name in ('PNG', 'WebP lossless', 'JPEG XL lossless'):
    row = next(row for row in rows if row.name == name)
    assert row.bits is None and 'left out' in row.note


@pytest.mark.parametrize('command, name', [('gzip -9nc', 'gzip'), ('xz -9ec', 'xz')])
def test_sizes_are_those_of_the_command_line(command, name):
  if shutil.which(name) is None:
    pytest.skip(f'no {name} here')
  data = (uniform(17, 1, 9000) // 4).astype(np.uint8).tobytes()
  theirs = subprocess.run(command.split(), input=data, capture_output=True, check=True).stdout
  ours = compressors.COMPRESSORS[name].compress(data)
  # The systems' own zlib and liblzma may be of other versions.
  assert abs(len(ours) - len(theirs)) <= 0.01 * len(theirs)


@pytest.mark.parametrize('vocabulary', [2, 256])
def test_noise_does_not_compress(vocabulary):
  """N tokens of noise: no code may save more than a few bits, whatever the packing."""
  shape = (8, 8)
  tokens = uniform(vocabulary, 16, 64, seed=vocabulary)
  rows = baselines.every_packing(made(tokens, vocabulary, shape), 'test')
  entropy = math.log2(vocabulary)
  alone = [row for row in rows if 'position' not in row.name and 'after' not in row.name]
  absent = {row.name for row in alone if row.bits is None}
  assert absent <= {*compressors.MISSING, 'JPEG XL lossless'}
  alone = [row for row in alone if row.bits is not None]
  assert {'PNG', 'WebP lossless', 'gzip -9', 'uniform'} <= {row.name for row in alone}
  for row in alone:
    # The chance that any code saves s bits is 2^-s: 40 of them never happen.
    assert row.bits >= entropy * tokens.size - 40, row
  if vocabulary == 256:
    best = {row.name: row for row in baselines.smallest(rows)}
    for name in compressors.COMPRESSORS.values():
      # bzip2 codes a block of noise with a table of its own, PPMd learns; the others store it, with
      # a header.
      most = 400 if name.name.startswith(('bzip2', 'PPMd')) else 80
      assert best[name.name].bits < entropy * tokens.size + 8 * most, name


def test_a_constant_costs_next_to_nothing():
  tokens = np.full((24, 64), 5)
  for row in baselines.table(made(tokens, 17, (8, 8)), 'test'):
    if row.name == 'uniform':
      assert row.bits == pytest.approx(1_536 * math.log2(17))
    elif row.bits is None:
      assert row.note.startswith('n/a: ') and 'is not installed' in row.note
    elif row.name == 'adaptive histogram':
      # After n of them n + 1/2 of n + 17/2; a batch shares what was known before it.
      known = np.concatenate([np.full(b - a, a) for a, b in experts.chunks(24, 64)])
      assert row.bits == pytest.approx(64 * np.log2((known + 8.5) / (known + 0.5)).sum())
    elif row.name.startswith(('adaptive', 'counting')):
      assert 0 <= row.bits <= 8 * 700, row  # Learning and a header of some 400 bytes.
    elif 'histogram' in row.name:
      # 24 of 24 seen once more, in 41 with the pseudocounts.
      assert row.bits == pytest.approx(1_536 * math.log2(41 / 25))
    else:
      assert 0 <= row.bits <= 8 * 140, row


def test_histogram_by_hand():
  """Two positions of 2 values, training counts (3, 1) and (0, 4), each with one more."""
  train = np.array([[0, 1], [0, 1], [0, 1], [1, 1]])
  test = np.array([[0, 0], [1, 1]])
  row = baselines.table(made(test, 2, train=train), 'test')[1]
  expected = -math.log2(4 / 6 * 1 / 6 * 2 / 6 * 5 / 6)
  assert row.name == 'per-position histogram'
  assert row.bits == pytest.approx(expected) and row.bits_per_dim == pytest.approx(expected / 4)


def test_after_train_knows_what_it_has_read(monkeypatch):
  """Noise that train holds already is a long match; other noise gains nothing."""
  # The mixtures take half a minute for so many: the test below has fewer.
  monkeypatch.setattr(baselines, '_MOST_COUNTED', 0)
  tokens, other = uniform(256, 100, 64), uniform(256, 100, 64, seed=1)
  for seen, least, most in ((tokens, 0, 0.02), (other, 0.98, 1.03)):
    rows = baselines.every_packing(made(tokens, 256, train=seen), 'test')
    after = {row.name: row for row in rows if row.name.endswith('after train')}
    names = {'xz -9e', 'zstd -22', 'brotli -q11', 'PPMd, tuned order'} - compressors.MISSING.keys()
    assert after.keys() == {f'{name} after train' for name in names}
    for row in after.values():
      assert least <= row.bits_per_dim / 8 <= most, row
      assert 'no file' in row.note


def test_the_mixture_after_train_is_one_number():
  """What `counted_after_train` gives is the row of the table, and noise costs what it is."""
  tokens, other = uniform(256, 10, 64), uniform(256, 10, 64, seed=1)
  for seen in (tokens, other):
    data = made(tokens, 256, train=seen)
    row = {row.name: row for row in baselines.every_packing(data, 'test')}
    mixture = row['counting, our mixture after train']
    assert mixture.bits_per_dim / 8 <= 1.1 and 'no file' in mixture.note
    assert baselines.counted_after_train(data, 'test') == mixture.bits_per_dim


def test_the_smallest_packing_is_shown():
  """gzip and bzip2 against four layouts written out."""
  tokens = np.sort(uniform(256, 50, 64), axis=0).astype(np.uint8)
  every = baselines.every_packing(made(tokens, 256, (8, 8), ordinal=False), 'test')
  best = {row.name: row for row in baselines.smallest(every)}
  tiles = tokens.reshape(10, 5, 8, 8).swapaxes(1, 2)
  by_hand = [tokens, tokens.T, tokens.reshape(50, 8, 8).swapaxes(1, 2), tiles]
  for name, compress in (('gzip -9', gzip.compress), ('bzip2 -9', bz2.compress)):
    sizes = [8 * len(compress(layout.tobytes())) for layout in by_hand]
    assert sorted(row.bits for row in every if row.name == name) == sorted(sizes)
    assert best[name].bits == min(sizes) and best[name].packing == 'pixel-major, bytes'


def test_a_run_is_a_row_among_others():
  record = {'objective': 'a', 'bits_per_dim': 2.0, 'parameters': 10, 'dims': 4, 'code': 'exact'}
  row = tabled.run_row(record, 8)
  assert row.bits == 64 and '10.0 bits/dim' in row.note  # 320 bits over 32 tokens.
  bound = tabled.run_row({**record, 'code': 'upper_bound'}, 8)
  none = tabled.run_row({**record, 'bits_per_dim': None}, 8)
  data = made(uniform(4, 3, 4), 4)
  content = tabled.as_json(data, 'test', [row, bound, none], [])
  text = codes_text.baselines(content, markdown=True)
  assert '| a (this run) | 2.000 |  | 8 |' in text and '| a (this run) | n/a |  |  |' in text
  assert '| a (this run) | ≤ 2.000 |  | ≤ 8 |' in text and len(text.splitlines()) == 3 + 5 + 2


def test_a_run_is_compared_with_counting_example_by_example():
  """Differences of 1, 2, 3 and 6 bits of four symbols: 0.75 a symbol, ± sqrt(14/3)/2/4."""
  record = {'objective': 'a', 'bits_per_dim': 2.0, 'parameters': 1, 'dims': 4, 'code': 'exact'}
  counted = np.array([5.0, 5, 4, 6])
  nats = (counted + [1, 2, 3, 6]) * np.log(2)
  rows = [tabled.run_row(record, 4, nats)]
  data = made(uniform(4, 4, 4), 4)
  assert tabled.as_json(data, 'test', rows, [])['against_counting'] is None
  rows.append(baselines.Row('counting, our mixture after train', 20.0, 1.25, bits_N=counted))
  content = tabled.as_json(data, 'test', rows, [])
  less = content['against_counting']
  assert less['mean'] == pytest.approx(0.75) and less['stderr'] == pytest.approx(0.2700309)
  own = content['table'][1]['stderr']  # Of 5, 5, 4 and 6: sqrt(2/3)/2/4.
  assert own == pytest.approx(0.1020621) and 'bits_N' not in content['table'][0]
  text = codes_text.baselines(content)
  assert 'a (this run) less counting, our mixture after train: +0.750 ± 0.270 bits/dim' in text


def test_the_error_of_a_code_is_that_of_its_examples():
  """Fair coins: every example of ten costs KT's ten bits or a little more, alike within noise."""
  data = made(uniform(2, 400, 10), 2, train=uniform(2, 400, 10, seed=1))
  rows = {row.name: row for row in baselines.every_packing(data, 'test')}
  after = rows['counting, our mixture after train']
  assert after.bits == pytest.approx(after.bits_N.sum()) and len(after.bits_N) == 400
  error = after.as_json(10)['stderr']
  assert error == pytest.approx(after.bits_N.std(ddof=1) / 20 / 10) and error < 0.01
  assert rows['gzip -9'].as_json(10)['stderr'] is None


def test_what_can_not_be_measured_is_said():
  endless = made(uniform(4, 3, 4), 4)
  object.__setattr__(endless, 'train', lambda seed, index: {})
  with pytest.raises(CodeError, match='there is no file'):
    baselines.table(endless, 'train')
  rows = {row.name: row for row in baselines.table(endless, 'test')}
  assert rows['xz -9e after train'].bits is None and rows['gzip -9'].bits > 0
  with pytest.raises(CodeError, match='do not fit'):
    baselines.table(made(uniform(2**17, 2, 4), 2**17), 'test')


def test_a_split_that_is_too_large_for_a_compressor_is_refused(monkeypatch):
  monkeypatch.setattr(compressors, 'LARGEST', 99)
  with pytest.raises(CodeError, match="test of 'made' has 100 tokens; compressors take at most 99"):
    baselines.every_packing(made(uniform(4, 10, 10), 4), 'test')
  rows = baselines.every_packing(made(uniform(4, 9, 10), 4), 'test')
  after = (row for row in rows if row.name.endswith('after train'))
  notes = {row.note for row in after if not row.name.startswith(baselines.COUNTING)}
  assert notes == {'left out: more than a window holds'}


@pytest.mark.skipif('brotli' not in compressors.COMPRESSORS, reason='brotli is not installed')
def test_brotli_finds_again_what_is_in_its_window_alone():
  """Noise twice, as far apart as the window says and some bytes further."""
  size, noise = compressors.WINDOWS['brotli -q11'], np.random.default_rng(0)
  once = noise.integers(0, 256, 2**14, np.uint8).tobytes()
  compress = functools.partial(__import__('brotli').compress, quality=5, lgwin=24)
  for apart, again in ((size, True), (size + 2**10, False)):
    between = bytes(apart - len(once))
    found = len(compress(once + between + once)) - len(compress(once + between))
    assert (found < len(once) / 8) == again


def test_programs_print_x_and_the_shortest_is_never_above_the_raw_one(tmp_path):
  """Every driver is run, on its own file."""
  tokens = (np.random.default_rng(0).integers(0, 9, (40, 16)) // 3).astype(np.int64)
  data = made(tokens, 3, (2, 8))
  every = baselines.every_packing(data, 'test')
  files = {'raw': description.raw_file(tokens, 3)}
  for packed in packing.packings(packing.layout(data), 40):
    for compressor in compressors.COMPRESSORS.values():
      files[f'{compressor.name}, {packed.name}'] = compressor.compress(packed.pack(tokens))
  for name, turned in (('example by example', False), ('column by column', True)):
    part = tokens.reshape(-1, 2, 8).swapaxes(1, 2) if turned else tokens
    fields = {'kind': container.ARRAY, 'dtype': '<i4', 'shape': (16,)}
    layout = counting.Layout(3, 16, (8, 2, 1) if turned else (2, 8, 1), data.ordinal)
    files[f'{baselines.COUNTING}, {name}'] = baselines.counted_file(
      layout, part.reshape(-1), fields
    )
  found = tabled.descriptions(data, 'test', every)
  run = [one for one in found if one.name in files]
  assert {one.name.split(',')[0] for one in run} >= {'raw', 'gzip -9', 'xz -9e', 'zstd -22'}
  assert len([one for one in run if one.name.startswith(baselines.COUNTING)]) == 2
  for one in run:
    assert one.file_bits == 8 * len(files[one.name])
    source, out = tmp_path / 'in', tmp_path / 'out'
    source.write_bytes(files[one.name])
    subprocess.run([sys.executable, '-c', one.driver, str(source), str(out)], check=True, cwd=_ROOT)
    assert out.read_bytes() == tokens.astype(np.uint8).tobytes(), one.name
  shortest = description.shortest(found, 'made')
  assert shortest.bits <= math.ceil(tokens.size * math.log2(3)) + 8 * 150
  # A machine that ships the data is none.
  ours = next(one for one in found if one.name.startswith('counting'))
  shipped = ours._replace(packages=('sklearn',), file_bits=0, program_bits=0)
  assert description.shortest([*found, shipped], 'digits') == shortest


def test_what_is_not_installed_says_so(monkeypatch):
  monkeypatch.setattr(compressors, 'MISSING', {'brotli -q11': "brotli is not installed: it isn't"})
  monkeypatch.setattr(pictures, 'NO_JXL', 'no plug-in')
  rows = {row.name: row for row in baselines.table(made(uniform(4, 3, 4), 4, (2, 2)), 'test')}
  assert rows['JPEG XL lossless'].bits is None and 'no plug-in' in rows['JPEG XL lossless'].note


@pytest.mark.skipif(pictures.NO_JXL is not None, reason=str(pictures.NO_JXL))
@pytest.mark.parametrize('of', [of for of in LAYOUTS if of.picture], ids=str)
def test_jpeg_xl_decodes_to_the_same_tokens(of):
  tokens = uniform(of.vocabulary, 7, of.dims)
  for sheet in pictures.sheets(of, 7):
    data = pictures.jxl(sheet.draw(tokens), of.vocabulary)
    if of.vocabulary > 256:
      assert data is None
      continue
    with Image.open(io.BytesIO(data)) as image:
      pixels = np.asarray(image).reshape(*sheet.draw(tokens).shape)
    np.testing.assert_array_equal(sheet.read(pixels.astype(np.int32)), tokens)
