"""The source of stories, and what is told to a network that was trained on it."""

import math

import numpy as np
import pytest

from data import pipeline, retellings, sources
from experiments import retellings as config_file
from runs import configs, experiment, retelling


def _texts(rows):
  return [' '.join(retellings.WORDS[t] for t in row if t) for row in rows]


def _config(*overrides):
  return configs.override(config_file.get_config(), overrides)


def test_words_are_all_different_and_facts_stand_where_they_are_said_to_stand():
  assert len(set(retellings.WORDS)) == len(retellings.WORDS) and retellings.WORDS[0] == '<pad>'
  slots = (retellings.ACTS, retellings.THINGS, retellings.NAMES)
  assert [len(words) for words in slots] == [16, 16, 24]
  rng = np.random.default_rng(0)
  fact = retellings.draw_fact(rng, 'mara')
  for form in retellings.FORMS:
    for _ in range(50):
      words = retellings.told(rng, fact, form, 32)
      act, thing = retellings.places(words, fact)
      assert (words[act], words[thing]) == (fact.act, fact.thing)
      assert {fact.name, fact.act, fact.thing, fact.cue, fact.state} <= set(words)
      assert words.count(fact.act) == words.count(fact.thing) == 1
  with pytest.raises(ValueError, match="unknown form 'poem'"):
    retellings.told(rng, fact, 'poem', 32)


def test_forms_have_the_same_words_in_other_orders():
  fact = retellings.facts_of(0)[0]

  def draw(form, seed):
    return retellings.told(np.random.default_rng(seed), fact, form, 32)

  for seed in range(30):
    story, permuted, shuffled = (draw(form, seed) for form in ('story', 'permuted', 'shuffled'))
    assert sorted(story) == sorted(permuted) == sorted(shuffled)
    cut = [i + 1 for i, word in enumerate(story) if word == '.']
    assert len(cut) == 3 and permuted != story and permuted[-1] == '.'
    assert set(' '.join(permuted).split('.')[:3]) != set()
    assert sorted(p.strip() for p in ' '.join(permuted).split('.')) == sorted(
      p.strip() for p in ' '.join(story).split('.')
    )
  lengths = [[len(draw(form, seed)) for seed in range(300)] for form in ('story', 'bare')]
  assert abs(np.mean(lengths[0]) - np.mean(lengths[1])) < 1  # equal tokens


def test_known_names_have_one_fact_in_every_document_and_others_have_none():
  source = sources.load(_config('--config.data.world=3').data, '')
  batches = pipeline.Batches(source, seed=0, batch_size=400)
  texts = _texts(batches[0]['tokens'])
  world = {fact.name: fact for fact in retellings.facts_of(3)}
  assert len(world) == 16 and world != {f.name: f for f in retellings.facts_of(4)}
  found = {}
  for text in texts:
    for part in text.split(' ? ')[1:]:
      name, act, _, thing = part.split()[:4]
      found.setdefault(name, set()).add((act, thing))
  assert all(found[name] == {(fact.act, fact.thing)} for name, fact in world.items())
  others = [len(pairs) for name, pairs in found.items() if name not in world]
  assert len(others) == 8 and min(others) > 3
  assert source.vocabulary == len(retellings.WORDS) and source.length == source.dims == 32
  with pytest.raises(ValueError, match='data.length must be at least 30'):
    sources.load(_config('--config.data.length=20').data, '')


@pytest.fixture(scope='module')
def listener():
  small = {'model.width': 16, 'model.layers': 1, 'model.heads': 2, 'data.held_out': 8}
  built = experiment.build(_config(*(f'--config.{k}={v}' for k, v in small.items())), '')
  with pytest.MonkeyPatch.context() as patch:
    opened = built, built.task.init(built.task.key)
    patch.setattr(retelling.finished, 'opened', lambda workdir, data_dir: opened)
    return retelling.Listener('', '', seed=1)


def test_what_was_told_is_known_and_the_listener_forgets_between_tellings(listener):
  before = listener.known()
  # Not trained: act and thing are any two words.
  assert before['question'] == pytest.approx(2 * math.log2(len(retellings.WORDS)))
  assert before['kept'] == pytest.approx(before['other']) == pytest.approx(before['question'])
  bare = retelling.Telling('bare', 20)
  tellings = [retelling.Telling('story', 20), bare, bare]
  story, first, again = (known for _, known in listener.tell(tellings, 1e-2, 60))
  assert story['story'] < before['story'] - 4 and story['text'] < before['text']
  assert first['bare'] < story['bare'] and story['story'] < first['story']
  assert again == first  # Whatever was told before it.


def test_held_out_documents_are_other_ones(listener):
  held = listener._told('story', retelling.HELD_OUT, held_out=True)[1]
  told = listener.documents(retelling.Telling('story', 500))
  assert len({row.tobytes() for row in told}) == 500
  assert not {row.tobytes() for row in told} & {row.tobytes() for row in held}
  few = listener.documents(retelling.Telling('story', 5))
  assert np.array_equal(few, told[:5])
