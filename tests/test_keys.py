"""Randomness of training, of initial parameters and of evaluations never comes from one key."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import tiny

from objectives import base, scoring
from runs import measured, ordering
from training import keys


def _words(key):
  """The two halves of a key as numbers that float32 holds, 24 bits each."""
  return (jax.random.key_data(key) % 2**24).astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class _Told(base.Objective):
  """Its nats and loss are the key that its view was given."""

  def view(self, example, space):
    return base.View(example.tokens_T, example.tokens_T, base.charged(space), extra=example.key)

  def run(self, apply, params, view, space, **arguments):
    return None

  def score(self, params, view, outputs, space):
    words_Bx2 = jax.vmap(_words)(view.extra)
    return base.Score(words_Bx2[:, 0], words_Bx2[:, 1], jnp.ones(len(words_Bx2)), {})


def test_no_evaluation_draws_what_training_drew(data_dir):
  """Also where both have the same seed, as by default."""
  built = tiny.build(data_dir)
  task, seen = built.task, set()
  assert built.config.training.seed == built.config.evaluation.seed == 0
  for step in range(30):
    key = jax.random.fold_in(jax.random.split(task.key)[1], step)  # As training/state.py.
    drawn = scoring.draw(key, 8, 0.0)['key']
    seen |= {tuple(words) for words in np.asarray(jax.vmap(_words)(drawn))}
  assert len(seen) == 30 * 8
  for stream in (measured.VALIDATION, measured.TEST, ordering._STREAM):
    values = built.per_example({}, built.dataset.validation, 1, stream, _Told())
    found = set(zip(values['nats'], values['loss'], strict=True))
    assert len(found) == len(built.dataset.validation) and not found & seen
    seen |= found


def test_no_stream_of_evaluations_begins_where_training_does():
  roots = {*map(tuple, np.asarray(jax.random.key_data(jax.random.split(keys.key(0)))))}
  streams = {measured.VALIDATION, measured.TEST, ordering._STREAM, 2, 3, 4, 5}
  streams.add(measured._NORMALISER_STREAM)
  assert len(streams) == 8  # Samples have 2, probes 3 to 5.
  for stream in streams:
    key = jax.random.key_data(jax.random.fold_in(keys.key(0), stream))
    assert tuple(np.asarray(key)) not in roots
