"""The codec: what goes in comes out, at the ideal length, and damage is always refused."""

import dataclasses
import io
import itertools

import jax
import numpy as np
import pytest

from codes import codec, container, network, ranges
from codes import trained as trained_lib
from models import transformer
from models.config import ModelConfig

V, T = 7, 6
CONFIG = ModelConfig(vocabulary=V, length=T, width=16, layers=2, heads=2)


def _reading(config=CONFIG, dims=T, order=None, window=None):
  return network.Reading(config, dims, tuple(order or range(dims)), window)


def _params(config=CONFIG, seed=0, scale=0.5):
  """A network that has opinions: a fresh one is uniform."""
  params = transformer.init(config, jax.random.key(seed))
  output = scale * jax.random.normal(jax.random.key(seed + 1), (config.width, config.vocabulary))
  return {**params, 'output_DxV': output}


@pytest.fixture(scope='module')
def trained():
  return trained_lib.Trained(_reading(), _params(), batch=8)


def _encode(predictor, symbols, kind=container.ARRAY):
  symbols = np.asarray(symbols)
  source = codec.Source(symbols.size, lambda a, b: symbols.reshape(-1)[a:b])
  total = symbols.size if kind == container.BYTES else len(symbols)
  shape = {} if kind == container.BYTES else {'dtype': '|u1', 'shape': (T,)}
  header = container.Header(kind=kind, total=total, **shape, **predictor.claims())
  out = io.BytesIO()
  sizes = codec.encode(predictor, source, header, out)
  assert sizes.file_bytes == len(out.getvalue())
  return out.getvalue(), sizes


def _decode(predictor, stream):
  reader = container.Reader(io.BytesIO(stream))
  predictor.check(reader.header)
  parts = list(codec.decode(predictor, reader.header.symbols(T), reader))
  return np.concatenate([np.zeros(0, np.int32), *parts])


def _random(rows, seed=0):
  return np.random.default_rng(seed).integers(0, V, (rows, T))


def _bits(params, tokens_NxT, window=None, config=CONFIG):
  """-log2 p of every example by the parallel forward pass, which the codec doesn't use."""
  apply = transformer.make_apply(config)
  logits = apply(params, tokens_NxT, pattern=('causal', window), shift=True).logits_BxTxV
  log_p = np.asarray(jax.nn.log_softmax(logits), np.float64)
  return -np.take_along_axis(log_p, tokens_NxT[..., None], -1)[..., 0].sum(1) / np.log(2)


@pytest.mark.bits
@pytest.mark.parametrize(
  'tokens', [_random(50), np.zeros((20, T), int), _random(1), _random(0), np.full((9, T), V - 1)]
)
def test_what_goes_in_comes_out_at_the_ideal_length(trained, tokens):
  stream, sizes = _encode(trained, tokens)
  np.testing.assert_array_equal(_decode(trained, stream).reshape(-1, T), tokens)
  if len(tokens):
    ideal = _bits(trained.params, tokens).sum()
    assert sizes.ideal_bits == pytest.approx(ideal, rel=1e-5)
    assert ideal - 1e-3 * ideal < sizes.payload_bits <= 1.001 * ideal + 64
  else:
    assert sizes.payload_bits == 0


@pytest.mark.bits
def test_the_end_of_a_file_may_fall_inside_an_example(trained):
  data = np.random.default_rng(1).integers(0, V, 8 * T + 2)
  stream, sizes = _encode(trained, data, container.BYTES)
  np.testing.assert_array_equal(_decode(trained, stream), data)
  assert sizes.symbols == len(data)
  # The symbols that are not there cost nothing: the last row is charged for two of them.
  padded = np.append(data, np.zeros(T - 2, int)).reshape(-1, T)
  whole = _bits(trained.params, padded)
  first_two = -np.log2(_prefix_probability(trained.params, padded[-1], 2))
  assert sizes.ideal_bits == pytest.approx(whole[:-1].sum() + first_two, rel=1e-5)


def _prefix_probability(params, tokens_T, length):
  """The probability of a prefix as a sum over all that may follow."""
  ends = np.array(list(itertools.product(range(V), repeat=T - length)))
  rows = np.concatenate([np.tile(tokens_T[:length], (len(ends), 1)), ends], 1)
  return np.sum(2.0 ** -_bits(params, rows))


@pytest.mark.bits
@pytest.mark.parametrize('window', [None, 2])
def test_orders_and_windows_are_the_objectives(window):
  order = (3, 0, 5, 1, 4, 2)
  predictor = trained_lib.Trained(_reading(order=order, window=window), _params(), batch=4)
  tokens = _random(10)
  stream, sizes = _encode(predictor, tokens)
  np.testing.assert_array_equal(_decode(predictor, stream).reshape(-1, T), tokens)
  ideal = _bits(predictor.params, tokens[:, list(order)], window).sum()
  assert sizes.ideal_bits == pytest.approx(ideal, rel=1e-5)


def test_an_end_token_is_not_coded():
  config = ModelConfig(vocabulary=V, length=T + 1, width=16, layers=1, heads=2)
  predictor = trained_lib.Trained(_reading(config), _params(config), batch=4)
  stream, sizes = _encode(predictor, _random(5))
  np.testing.assert_array_equal(_decode(predictor, stream).reshape(-1, T), _random(5))
  assert sizes.symbols == 5 * T


@pytest.mark.bits
@pytest.mark.parametrize(
  'changes',
  [{'mixer': 'recurrent', 'state': 8}, {'shared_layers': True, 'norm': 'post'}],
  ids=['recurrent', 'shared'],
)
def test_other_backbones_decode_what_they_encoded(changes):
  config = dataclasses.replace(CONFIG, **changes)
  params, tokens = _params(config), _random(10)
  predictor = trained_lib.Trained(_reading(config), params, batch=4)
  stream, sizes = _encode(predictor, tokens)
  np.testing.assert_array_equal(_decode(predictor, stream).reshape(-1, T), tokens)
  assert sizes.ideal_bits == pytest.approx(_bits(params, tokens, config=config).sum(), rel=1e-5)
  # The same weights used otherwise are another network.
  other = dataclasses.replace(config, residual=False)
  prints = {network.fingerprint(_reading(c), params) for c in (config, other)}
  assert len(prints) == 2


def test_noise_costs_at_least_its_entropy(trained):
  tokens = _random(2000, seed=5)
  _, sizes = _encode(trained, tokens)
  spread = _bits(trained.params, tokens).std(ddof=1) * np.sqrt(len(tokens))
  assert sizes.payload_bits >= tokens.size * np.log2(V) - 3 * spread
  assert sizes.payload_bits > 1.01 * tokens.size * np.log2(V)  # This network is wrong about it.


def test_frames_bound_memory_and_change_nothing(trained, monkeypatch):
  tokens = _random(100)
  whole, one = _encode(trained, tokens)
  monkeypatch.setattr(codec, 'FRAME_SYMBOLS', 16 * T)
  split, many = _encode(trained, tokens)
  np.testing.assert_array_equal(_decode(trained, split).reshape(-1, T), tokens)
  assert many.ideal_bits == pytest.approx(one.ideal_bits, rel=1e-12)
  assert one.payload_bits < many.payload_bits <= one.payload_bits + 7 * 64
  assert len(split) > len(whole)


def test_two_thousand_corruptions_are_refused_or_harmless(trained, monkeypatch):
  monkeypatch.setattr(codec, 'FRAME_SYMBOLS', 16 * T)
  tokens = _random(48, seed=2)
  stream, _ = _encode(trained, tokens)
  rng = np.random.default_rng(3)
  refused = 0
  for _ in range(2000):
    try:
      found = _decode(trained, _corrupt(stream, rng))
    except container.StreamError as error:
      refused += 1
      assert str(error) and '\n' not in str(error)
    else:
      np.testing.assert_array_equal(found.reshape(-1, T), tokens)
  assert refused > 1950


def _corrupt(stream, rng):
  data, kind, at = bytearray(stream), rng.integers(5), int(rng.integers(len(stream)))
  if kind == 0:
    data[at] ^= 1 << int(rng.integers(8))
  elif kind == 1:
    del data[at:]
  elif kind == 2:
    data[at : at + int(rng.integers(1, 9))] = rng.bytes(int(rng.integers(0, 9)))
  elif kind == 3:
    other = int(rng.integers(len(stream)))
    data[at : at + 16], data[other : other + 16] = data[other : other + 16], data[at : at + 16]
  else:
    data += rng.bytes(int(rng.integers(1, 40)))
  return bytes(data)


def _parts(stream):
  """The header, the frames as (examples, digest, words), the end."""
  file = io.BytesIO(stream)
  reader = container.Reader(file)
  frames = list(reader.frames(codec.count_examples(reader.header.symbols(T), T), T))
  return reader.header, frames


def _forged(header, frames):
  """A stream whose checks are all right, of any frames."""
  out = io.BytesIO()
  writer = container.Writer(out, header)
  for frame in frames:
    writer.frame(*frame)
  writer.end()
  return out.getvalue()


def test_what_no_checksum_sees_is_seen_in_the_symbols(trained):
  """Damage before the checks were made, a bug of the coder's, say: not one bit may be another."""
  header, [(count, digest, words)] = _parts(_encode(trained, _random(24, seed=4))[0])
  assert _forged(header, [(count, digest, words)]) == _encode(trained, _random(24, seed=4))[0]
  rng = np.random.default_rng(0)
  for at in [*range(8 * len(words) - 40, 8 * len(words)), *rng.integers(0, 8 * len(words), 40)]:
    wrong = bytearray(words)
    wrong[at // 8] ^= 1 << at % 8
    with pytest.raises(container.StreamError, match='other symbols|can not have|last bits'):
      _decode(trained, _forged(header, [(count, digest, bytes(wrong))]))
  with pytest.raises(container.StreamError, match='last bits'):
    _decode(trained, _forged(header, [(count, digest, words + bytes(4))]))


def test_frames_can_neither_move_nor_come_from_another_file(trained, monkeypatch):
  monkeypatch.setattr(codec, 'FRAME_SYMBOLS', 8 * T)
  one, other = (_encode(trained, _random(16, seed))[0] for seed in (0, 1))
  (header, ours), (other_header, theirs) = _parts(one), _parts(other)
  assert header == other_header and len(ours) == 2
  size = len(header.pack())
  end = len(one) - 24
  cut = size + 24 + len(ours[0][2])
  first, second, theirs_second = one[size:cut], one[cut:end], other[size + 24 + len(theirs[0][2]) :]
  for wrong in (second + first, first, first + second + second, first + theirs_second[:-24]):
    with pytest.raises(container.StreamError, match='of another file|end is damaged'):
      _decode(trained, one[:size] + wrong + one[end:])
  with pytest.raises(container.StreamError, match='of another file'):
    _decode(trained, one[:cut] + theirs_second)
  # With all checks made anew it is the symbols' digest, which runs on from frame to frame.
  with pytest.raises(container.StreamError, match='frame 1 decodes to other symbols'):
    _decode(trained, _forged(header, [ours[0], theirs[1]]))
  with pytest.raises(container.StreamError, match='holds 8 examples, its header claims 16'):
    _decode(trained, _forged(header, ours[:1]))
  with pytest.raises(container.StreamError, match='holds other examples than it should'):
    _decode(trained, _forged(header, [(9, *ours[0][1:]), (7, *ours[1][1:])]))


def test_another_network_machine_or_version_is_refused(trained, monkeypatch):
  stream, _ = _encode(trained, _random(5))
  with pytest.raises(container.StreamError, match='another network'):
    _decode(trained_lib.Trained(_reading(), _params(seed=9), 8), stream)
  with pytest.raises(container.StreamError, match='another network'):
    _decode(trained_lib.Trained(_reading(window=2), _params(), 8), stream)
  with pytest.raises(container.StreamError, match='version 1; this program reads version 2'):
    _decode(trained, stream[:4] + b'\1' + stream[5:])
  with pytest.raises(container.StreamError, match='not a file that launch.compress wrote'):
    _decode(trained, b'PK\3\4' + stream)
  monkeypatch.setattr(network, 'program', lambda: 'jax 0.1, jaxlib 0.1, abacus')
  other, _ = _encode(trained, _random(5))
  monkeypatch.undo()
  monkeypatch.setattr(network.Steps, 'canary', lambda self, params: b'elsewhere'[:8])
  with pytest.raises(container.StreamError, match='other last bits'):
    _decode(trained, stream)
  with pytest.raises(
    container.StreamError, match='encoded by jax 0.1, jaxlib 0.1, abacus; here is jax'
  ):
    _decode(trained, other)


def test_the_step_is_the_forward_pass(trained):
  """Probabilities slot by slot against the parallel pass, to rounding."""
  tokens = _random(8)
  found = np.zeros((8, T, V))

  def look(slot, p_BxV):
    found[:, slot] = p_BxV
    return tokens[:, slot]

  network.Steps(_reading(), 8).walk(trained.params, look)
  logits = transformer.make_apply(CONFIG)(trained.params, tokens, pattern=('causal',), shift=True)
  np.testing.assert_allclose(found, jax.nn.softmax(logits.logits_BxTxV), rtol=1e-4)


def test_a_value_outside_of_the_alphabet_is_named(trained):
  tokens = _random(3)
  tokens[1, 4] = V
  with pytest.raises(ValueError, match='example 1 has the value 7 at place 4; this network knows'):
    _encode(trained, tokens)


def test_the_range_coder_keeps_rare_symbols():
  p = np.array([[1 - 1e-12, 1e-12, 0.0]] * 4, np.float32)
  encoder = ranges.Encoder()
  encoder.code(p, np.array([1, 2, 0, 1]))
  # What has no probability at all counts as float32's smallest, 2^-149.
  assert encoder.ideal_bits == pytest.approx(149 + 2 * 12 * np.log2(10), abs=1e-3)
  np.testing.assert_array_equal(ranges.Decoder(encoder.words()).code(p), [1, 2, 0, 1])
  with pytest.raises(ValueError, match='not finite'):
    ranges.Encoder().code(p * np.nan, np.array([0, 0, 0, 0]))
