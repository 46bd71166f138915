"""Features of Hugging Face checkpoints: tiny random ones, beside their own hidden states."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from models import imagegpt, transformer
from probes import exchange, huggingface
from runs import extracting
from runs.errors import UserError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
N = 14
SPLITS = np.array(['train'] * 8 + ['validation'] * 3 + ['test'] * 3)
KINDS = np.array(['cat', 'dog'] * 7)
TEXTS = [' '.join(['ab', 'cd', 'ef', 'gh'][i % 4 : 1 + i % 4 + i // 4] or ['ab']) for i in range(N)]


def images(size: int = 16) -> np.ndarray:
  return np.random.default_rng(0).integers(0, 256, (N, size, size, 3)).astype(np.uint8)


def npz(tmp_path, **arrays) -> str:
  path = str(tmp_path / 'data.npz')
  np.savez(path, **{'splits': SPLITS, 'labels': KINDS} | arrays)
  return path


# The data; no model is needed to read them.


def test_every_other_column_is_one_of_labels(tmp_path):
  shade = np.arange(N) % 3
  path = npz(tmp_path, images=images(), shade=shade, groups=np.arange(N), choices=np.array(2))
  table = extracting.read(path, 'vision')
  assert set(table.beside) == {'splits', 'labels', 'labels/shade', 'groups', 'choices', 'inputs'}
  np.testing.assert_array_equal(table.beside['labels/shade'], shade)
  np.testing.assert_array_equal(table.beside['inputs'], images().reshape(N, -1))
  assert table.dealt is None
  # Large images stay out of the file.
  large = npz(tmp_path, images=np.zeros((N, 65, 65, 3), np.uint8))
  assert 'inputs' not in extracting.read(large, 'vision').beside


@pytest.mark.parametrize('extension,quote', [('tsv', ''), ('csv', '"')])
def test_texts_of_a_table(tmp_path, extension, quote):
  separator = {'tsv': '\t', 'csv': ','}[extension]
  texts = [f'a "b" {i}' if extension == 'tsv' else f'a, b {i}' for i in range(N)]
  lines = [separator.join(('text', 'label', 'stars', 'split', 'group'))]
  lines += [
    separator.join((quote + text + quote, KINDS[i], str(9 + i % 2), SPLITS[i], f'g{i}'))
    for i, text in enumerate(texts)
  ]
  path = tmp_path / f'data.{extension}'
  path.write_text('\n'.join(lines) + '\n')
  table = extracting.read(str(path), 'text')
  assert table.inputs == texts
  assert table.beside['labels/stars'].dtype == np.int64  # So that 10 comes after 9.
  assert list(table.beside['labels']) == list(KINDS) and list(table.beside['splits']) == list(
    SPLITS
  )
  path.write_text('\n'.join(lines[:4]) + f'{separator}more\n')
  with pytest.raises(ValueError, match='line 4 has 6 of 5 columns'):
    extracting.read(str(path), 'text')
  path.write_text(lines[0])
  with pytest.raises(ValueError, match='header of different names and rows'):
    extracting.read(str(path), 'text')


def test_splits_are_dealt_by_row_or_by_group_where_there_are_none(tmp_path):
  groups = np.arange(N) // 2
  for more, said in (({}, 'rows'), ({'groups': groups}, 'whole groups')):
    path = str(tmp_path / 'data.npz')
    np.savez(path, images=images(), labels=KINDS, **more)
    table = extracting.read(path, 'vision', seed=1)
    assert table.dealt == said
    counts = [int(np.sum(table.beside['splits'] == s)) for s in ('train', 'validation', 'test')]
    assert sum(counts) == N and counts[0] in (9, 10) and min(counts) >= 2
  assert all(len(set(table.beside['splits'][groups == g])) == 1 for g in range(N // 2))


@pytest.mark.parametrize(
  'kind,changes,message',
  [
    ('vision', {'tokens': np.zeros((N, 2), int)}, "has no 'images'; it has splits, labels, tokens"),
    ('vision', {'images': np.zeros((N, 4, 4))}, 'must be N x H x W x 3 uint8, not float64'),
    ('image_gpt', {'tokens': np.zeros((N, 4))}, 'must be N x T integers, not float64'),
    ('text', {'text': np.array([TEXTS])}, 'text must be N strings'),
    ('vision', {'images': images(), 'labels': np.zeros((N, 2))}, 'labels'),
    ('vision', {'images': images(), 'odd': np.zeros(3)}, r"'odd' \(3,\) is no column of labels"),
    ('vision', {'images': images(), 'labels': np.full(N, 'a')}, "label: labels must have at least"),
    ('vision', {'images': images(), 'groups': np.zeros(N, int)}, "group '0' is in train and in"),
    (
      'vision', {'images': images(), 'labels': (np.arange(N) > 10).astype(int)},
      "label '1' has no row in split 'train'",
    ),
  ],
)  # fmt: skip
def test_data_that_can_not_be_used_are_refused_before_a_model_is_loaded(
  tmp_path, kind, changes, message
):
  with pytest.raises(UserError, match=message) as caught:
    extracting.extract('nowhere', kind, npz(tmp_path, **changes), str(tmp_path / 'out.npz'))
  assert '\n' not in str(caught.value) and 'data.npz' in str(caught.value)
  assert [path.name for path in tmp_path.iterdir()] == ['data.npz']


def test_files_of_other_kinds_are_refused(tmp_path):
  for kind, name, message in (
    ('vision', 'data.tsv', 'the data of --kind=vision are a .npz file'),
    ('text', 'data.txt', 'are a .npz, .tsv or .csv file'),
  ):
    with pytest.raises(ValueError, match=message):
      extracting.read(str(tmp_path / name), kind)
  np.savez(tmp_path / 'data.npz', images=images(), splits=SPLITS)
  with pytest.raises(ValueError, match='has no labels'):
    extracting.read(str(tmp_path / 'data.npz'), 'vision')


def test_without_the_libraries_it_is_said(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'torch', None)
  with pytest.raises(ValueError, match=r"torch is not installed: pip install '.\[hf\]'"):
    huggingface.Checkpoint(str(tmp_path), 'vision')


# The checkpoints.


@pytest.fixture(scope='module')
def libraries():
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  torch.manual_seed(0)
  return torch, transformers


def _save_model(path, model, torch) -> None:
  """With weights away from initialisation, where small ones would hide everything."""
  with torch.no_grad():
    for _, weight in model.named_parameters():
      weight.add_(0.2 * torch.randn_like(weight))
  model.save_pretrained(path)


def _vision(path, libraries, name: str):
  torch, transformers = libraries
  sizes = dict(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, image_size=16)
  if name == 'vit':
    config = transformers.ViTConfig(**sizes, intermediate_size=16, patch_size=8)
    model = transformers.ViTForImageClassification(config)  # The head is not read.
  else:
    config = transformers.Dinov2Config(**sizes, mlp_ratio=2, patch_size=8)
    model = transformers.Dinov2Model(config)
  _save_model(path, model, torch)
  return getattr(model, 'vit', model).eval()


def _tokeniser(path, transformers, marks: bool) -> None:
  from tokenizers import Tokenizer, models, pre_tokenizers, processors

  words = ('[PAD]', '[CLS]', '[SEP]', '[UNK]', 'ab', 'cd', 'ef', 'gh')
  made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token='[UNK]'))
  made.pre_tokenizer = pre_tokenizers.Whitespace()
  names = {'unk_token': '[UNK]', 'eos_token': '[SEP]'}
  if marks:
    made.post_processor = processors.TemplateProcessing(
      single='[CLS] $A [SEP]', special_tokens=[('[CLS]', 1), ('[SEP]', 2)]
    )
    names |= {'pad_token': '[PAD]', 'cls_token': '[CLS]', 'sep_token': '[SEP]'}
  transformers.PreTrainedTokenizerFast(tokenizer_object=made, **names).save_pretrained(path)


def _text(path, libraries, name: str):
  torch, transformers = libraries
  if name == 'bert':
    config = transformers.BertConfig(
      vocab_size=8, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
      intermediate_size=16, max_position_embeddings=12,
    )  # fmt: skip
    model = transformers.BertForMaskedLM(config)  # It has no pooler.
  else:
    config = transformers.GPT2Config(vocab_size=8, n_positions=12, n_embd=8, n_layer=2, n_head=2)
    model = transformers.GPT2LMHeadModel(config)
  _save_model(path, model, torch)
  _tokeniser(path, transformers, name == 'bert')
  return getattr(model, 'bert', getattr(model, 'transformer', None)).eval()


def _arrays(path) -> dict[str, np.ndarray]:
  with np.load(path) as archive:
    return {name: archive[name] for name in archive.files}


@pytest.mark.parametrize('name', ['vit', 'dinov2'])
@pytest.mark.parametrize('processor', [False, True])
def test_images(tmp_path, libraries, name, processor):
  torch, transformers = libraries
  model = _vision(tmp_path / 'model', libraries, name)
  mean, std = (0.5, 0.5)
  if processor:
    mean, std = (0.3, 0.2)
    made = transformers.ViTImageProcessor(
      size={'height': 16, 'width': 16}, image_mean=[mean] * 3, image_std=[std] * 3
    )
    made.save_pretrained(tmp_path / 'model')
  out = str(tmp_path / 'out.npz')
  data = npz(tmp_path, images=images())
  said = extracting.extract(str(tmp_path / 'model'), 'vision', data, out, 4, sequences=True)
  assert any('resized to 16x16' in line for line in said) != processor
  assert said[-2] == f'3 layers, {N} examples, width 8; mean, last, cls; labels: label'
  pixels = ((images() / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
  with torch.no_grad():
    states = model(torch.from_numpy(pixels), output_hidden_states=True).hidden_states
  states = np.stack([state.numpy() for state in states])
  assert states.shape == (3, N, 5, 8) and np.std(states) > 0.1
  found = _arrays(out)
  for pooling, expected in (
    ('features', states.mean(2)), ('last', states[:, :, -1]), ('cls', states[:, :, 0])
  ):  # fmt: skip
    np.testing.assert_allclose(found[pooling], expected, atol=2e-5)
  for layer in range(3):
    np.testing.assert_allclose(found[f'sequences/{layer}'], states[layer], atol=2e-5)
  features = exchange.read(out, pooling='cls')
  assert features.names == ('cat', 'dog') and features.inputs['test'].shape == (3, 16 * 16 * 3)
  np.testing.assert_allclose(features.test, states[:, SPLITS == 'test', 0], atol=2e-5)
  assert sorted(path.name for path in tmp_path.iterdir()) == ['data.npz', 'model', 'out.npz']


def test_images_of_another_size_are_resized():
  found = huggingface.plain(images(32), 16)
  assert found.shape == (N, 3, 16, 16) and found.dtype == np.float32
  np.testing.assert_allclose(
    found.mean((0, 2, 3)), images(32).mean((0, 1, 2)) / 127.5 - 1, atol=0.02
  )
  np.testing.assert_array_equal(
    huggingface.plain(images(), 16), (images().astype(np.float32) / 127.5 - 1).transpose(0, 3, 1, 2)
  )


@pytest.mark.parametrize('name', ['bert', 'gpt2'])
def test_texts_of_different_lengths(tmp_path, libraries, name):
  """Padding changes nothing: each text by itself gives the same."""
  torch, transformers = libraries
  model = _text(tmp_path / 'model', libraries, name)
  tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / 'model')
  out = str(tmp_path / 'out.npz')
  data = npz(tmp_path, text=np.array(TEXTS))
  said = extracting.extract(str(tmp_path / 'model'), 'text', data, out, 5)
  poolings = 'mean, last, cls' if name == 'bert' else 'mean, last'
  assert said[0] == f'3 layers, {N} examples, width 8; {poolings}; labels: label'
  found, lengths = _arrays(out), set()
  for i, text in enumerate(TEXTS):
    ids = tokenizer(text, return_tensors='pt')['input_ids']
    lengths.add(ids.shape[1])
    with torch.no_grad():
      states = model(ids, output_hidden_states=True).hidden_states
    states = np.stack([state[0].numpy() for state in states])
    np.testing.assert_allclose(found['features'][:, i], states.mean(1), atol=2e-5)
    np.testing.assert_allclose(found['last'][:, i], states[:, -1], atol=2e-5)
    if name == 'bert':
      np.testing.assert_allclose(found['cls'][:, i], states[:, 0], atol=2e-5)
  assert len(lengths) > 2 and np.std(found['features']) > 0.1
  # Sequences need one length.
  with pytest.raises(UserError, match='--sequences needs texts of one length, and these have'):
    extracting.extract(str(tmp_path / 'model'), 'text', data, out, 5, sequences=True)
  least = min(lengths)
  said = extracting.extract(
    str(tmp_path / 'model'), 'text', data, out, 5, sequences=True, most=least
  )
  assert 'of 14 texts were longer than the model reads, and cut' in said[0]
  assert _arrays(out)['sequences/2'].shape == (N, least, 8)


def _halves(path, libraries, name: str):
  """A checkpoint of which one part is read, that part by itself, and how it is called."""
  torch, transformers = libraries
  sizes = dict(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16)
  seen = dict(image_size=16, patch_size=8)
  if name.startswith('clip'):
    text = dict(vocab_size=8, max_position_embeddings=12, eos_token_id=2, **sizes)
    config = transformers.CLIPConfig(text_config=text, vision_config={**sizes, **seen})
    model = transformers.CLIPModel(config)
    part = model.vision_model if name == 'clip_vision' else model.text_model
  elif name == 'bart':
    config = transformers.BartConfig(
      vocab_size=8, d_model=8, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
      decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, pad_token_id=0,
      max_position_embeddings=12,
    )  # fmt: skip
    model = transformers.BartModel(config)
    part = model.get_encoder()
  else:
    config = transformers.T5Config(
      vocab_size=8, d_model=8, d_kv=4, d_ff=16, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    kinds = {
      't5': transformers.T5ForConditionalGeneration,
      't5_encoder': transformers.T5EncoderModel,
    }
    model = kinds[name](config)
    part = model.get_encoder()
  _save_model(path, model, torch)
  return part.eval()


@pytest.mark.parametrize('name', ['clip_vision', 'clip_text', 't5', 't5_encoder', 'bart'])
def test_of_two_halves_one_is_run(tmp_path, libraries, name):
  torch, transformers = libraries
  part, out = _halves(tmp_path / 'model', libraries, name), str(tmp_path / 'out.npz')
  vision = name == 'clip_vision'
  if vision:
    pixels = (images() / 127.5 - 1).transpose(0, 3, 1, 2).astype(np.float32)
    given = [{'pixel_values': torch.from_numpy(pixels[i : i + 1])} for i in range(N)]
    data = npz(tmp_path, images=images())
  else:
    _tokeniser(tmp_path / 'model', transformers, True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / 'model')
    given = [{'input_ids': tokenizer(text, return_tensors='pt')['input_ids']} for text in TEXTS]
    data = npz(tmp_path, text=np.array(TEXTS))
  said = extracting.extract(str(tmp_path / 'model'), 'vision' if vision else 'text', data, out, 5)
  assert any(line.startswith('of ') and line.endswith('alone is run') for line in said)
  found = _arrays(out)
  for i, inputs in enumerate(given):
    with torch.no_grad():
      states = part(**inputs, output_hidden_states=True).hidden_states
    states = np.stack([state[0].numpy() for state in states])
    assert states.shape[0] == 3 and np.std(states) > 0.1
    np.testing.assert_allclose(found['features'][:, i], states.mean(1), atol=2e-5)
    np.testing.assert_allclose(found['last'][:, i], states[:, -1], atol=2e-5)
    np.testing.assert_allclose(found['cls'][:, i], states[:, 0], atol=2e-5)


def test_what_draws_at_random_is_refused(tmp_path, libraries):
  torch, transformers = libraries
  config = transformers.ViTMAEConfig(
    hidden_size=8, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=4,
    intermediate_size=16, decoder_hidden_size=8, decoder_num_attention_heads=2,
    decoder_num_hidden_layers=1, decoder_intermediate_size=16,
  )  # fmt: skip
  _save_model(tmp_path / 'model', transformers.ViTMAEModel(config), torch)
  out = str(tmp_path / 'out.npz')
  with pytest.raises(UserError, match='draws at random'):
    extracting.extract(str(tmp_path / 'model'), 'vision', npz(tmp_path, images=images()), out)
  assert not os.path.exists(out)


def test_image_gpt_is_fed_the_start_token_and_is_our_own_backbone(tmp_path, libraries):
  torch, transformers = libraries
  config = transformers.ImageGPTConfig(vocab_size=8, n_positions=9, n_embd=16, n_layer=2, n_head=2)
  model = transformers.ImageGPTForCausalImageModeling(config)
  with torch.no_grad():
    for name, weight in model.named_parameters():
      if not name.endswith('bias'):  # The published models have none.
        weight.add_(0.2 * torch.randn_like(weight))
  model.save_pretrained(tmp_path / 'model')
  tokens = np.random.default_rng(0).integers(0, 7, (N, 9))
  out = str(tmp_path / 'out.npz')
  data = npz(tmp_path, tokens=tokens)
  said = extracting.extract(str(tmp_path / 'model'), 'image_gpt', data, out, 4, sequences=True)
  assert said[0] == f'3 layers, {N} examples, width 16; mean, last; labels: label'
  fed = np.concatenate([np.full((N, 1), 7), tokens[:, :-1]], 1)
  with torch.no_grad():
    theirs = model.eval().transformer(torch.from_numpy(fed), output_hidden_states=True)
  states = np.stack([state.numpy() for state in theirs.hidden_states])
  own, params = imagegpt.load(str(tmp_path / 'model'))
  ours = transformer.make_apply(own)(
    params, tokens, pattern=('causal',), shift=True, residuals=True
  )
  found = _arrays(out)
  for layer, state in enumerate([*ours.residuals[:-1], ours.final_BxTxD]):
    np.testing.assert_allclose(found[f'sequences/{layer}'], states[layer], atol=2e-5)
    np.testing.assert_allclose(found[f'sequences/{layer}'], state, atol=2e-4)
    np.testing.assert_allclose(found['features'][layer], np.mean(state, 1), atol=2e-4)
    np.testing.assert_allclose(found['last'][layer], state[:, -1], atol=2e-4)
  wrong = ((tokens + 1, 'from 0 to 6'), (np.zeros((N, 10), int), 'takes 9 tokens'))
  for given, message in wrong:
    with pytest.raises(UserError, match=message):
      extracting.extract(str(tmp_path / 'model'), 'image_gpt', npz(tmp_path, tokens=given), out, 4)


def test_checkpoints_that_can_not_be_used_are_one_line(tmp_path, libraries):
  from safetensors import numpy as safetensors

  _vision(tmp_path / 'model', libraries, 'vit')
  data, out = npz(tmp_path, images=images()), str(tmp_path / 'out.npz')

  def fails(message, model=tmp_path / 'model', kind='vision', data=data):
    with pytest.raises(UserError, match=message) as caught:
      extracting.extract(str(model), kind, data, out)
    assert '\n' not in str(caught.value) and not os.path.exists(out)

  fails('nowhere is no checkpoint: it has no config.json', tmp_path / 'nowhere')
  fails("is of type 'vit', not --kind=image_gpt", kind='image_gpt',
        data=npz(tmp_path, tokens=np.zeros((N, 4), int)))  # fmt: skip
  fails('holds no tokeniser to load', kind='text', data=npz(tmp_path, text=np.array(TEXTS)))
  npz(tmp_path, images=images())
  weights = tmp_path / 'model' / 'model.safetensors'
  tensors = safetensors.load_file(weights)
  lost = next(name for name in tensors if 'layer.1' in name or 'layers.1' in name)
  safetensors.save_file({k: v for k, v in tensors.items() if k != lost}, weights, {'format': 'pt'})
  fails('lacks weights, 1 of them, such as')
  weights.write_bytes(b'damaged')
  fails('holds no model to load')
  (tmp_path / 'model' / 'config.json').write_text(json.dumps({'model_type': 'nothing'}))
  fails('holds no model to load')


def test_commands(tmp_path, libraries):
  _vision(tmp_path / 'model', libraries, 'vit')
  rng = np.random.default_rng(0)
  labels = np.array(['day', 'night'])[np.arange(60) % 2]
  dark = np.where(labels == 'night', 0.3, 1.0)[:, None, None, None]
  pictures = (rng.integers(0, 256, (60, 16, 16, 3)) * dark).astype(np.uint8)
  data, out = str(tmp_path / 'data.npz'), str(tmp_path / 'out.npz')
  np.savez(data, images=pictures, labels=labels, groups=np.arange(60) // 2)

  def run(*arguments):
    environment = {**os.environ, 'PYTHONPATH': ROOT}
    return subprocess.run(
      [sys.executable, '-m', *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )

  common = ('launch.extract', f'--model={tmp_path / "model"}', '--kind=vision')
  done = run(*common, f'--data={data}', f'--out={out}')
  assert done.returncode == 0, done.stderr
  assert 'whole groups were dealt to them' in done.stdout
  settings = ('--config.probe.suite=linear', '--config.probe.linear.labels=()')
  done = run('launch.probe', f'--features={out}', '--pooling=cls', *settings)
  assert done.returncode == 0, done.stderr
  assert "labels by sorted value: 'day' is 0, 'night' is 1" in done.stdout
  with open(tmp_path / 'out_cls_probes' / 'probes.json', encoding='utf-8') as file:
    found = json.load(file)
  assert found['features']['pooling'] == 'cls' and found['features']['layers'] == 3
  assert found['probes']['linear']['all']['accuracy'] > 0.8


@pytest.mark.parametrize(
  'arguments,message',
  [
    (('extract', '--kind=vision'), '--model is needed'),
    (('extract', '--model=a', '--kind=vision', '--data=b.npz', '--out=c'), 'must be named .npz'),
    (
      ('extract', '--model=a', '--kind=vision', '--data=b.npz', '--out=c.npz', '--most_tokens=3'),
      '--most_tokens cuts texts',
    ),
    (('extract', '--model=a', '--kind=vision', '--data=b.npz', '--out=c.npz'), 'b.npz: No such'),
    (('probe', '--workdir=a', '--label=b'), '--label and --pooling choose from a file'),
  ],
)  # fmt: skip
def test_mistakes_are_one_line(tmp_path, arguments, message):
  name, *flags = arguments
  done = subprocess.run(
    [sys.executable, '-m', f'launch.{name}', *flags], cwd=tmp_path,
    env={**os.environ, 'PYTHONPATH': ROOT}, capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 2 and message in done.stderr and done.stderr.count('\n') == 1
