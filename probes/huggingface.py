"""Hidden states of Hugging Face checkpoints on disk, by transformers and PyTorch.

Layer 0 is what enters the first block, layer l what leaves block l: `output_hidden_states`, as
transformers gives them (of some models the last is behind the final norm, of others before it).
Nothing is downloaded, and no code that a checkpoint brings is run.

Shape suffixes: B batch, T positions, D width, L blocks.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import os
from typing import Any

import numpy as np

KINDS = ('vision', 'text', 'image_gpt')
# Read by the transformers library when it is imported.
OFFLINE = {'HF_HUB_OFFLINE': '1', 'TRANSFORMERS_OFFLINE': '1', 'HF_HUB_DISABLE_TELEMETRY': '1'}


@dataclasses.dataclass(frozen=True)
class States:
  """Hidden states of a batch.

  Attributes:
    layers_LxBxTxD: float32, L+1 of them.
    valid_BxT: which positions hold input, not padding. They come first.
    cls: whether position 0 stands for the whole input.
  """

  layers_LxBxTxD: np.ndarray
  valid_BxT: np.ndarray
  cls: bool

  def pooled(self) -> dict[str, np.ndarray]:
    """(L+1, B, D) each: the mean over positions, the last one, and 'cls' if there is one."""
    counts_B = self.valid_BxT.sum(1)
    weights_Bx1xT = (self.valid_BxT / counts_B[:, None])[:, None]
    # Sums in float64, layer by layer: as precise as the states are.
    means = [weights_Bx1xT @ layer.astype(np.float64) for layer in self.layers_LxBxTxD]
    last = self.layers_LxBxTxD[:, np.arange(len(counts_B)), counts_B - 1]
    found = {'features': np.stack(means)[:, :, 0].astype(np.float32), 'last': last}
    return found | ({'cls': self.layers_LxBxTxD[:, :, 0]} if self.cls else {})


class Checkpoint:
  """A model from a directory, ready to run.

  Args:
    path: config.json with the weights, and the tokeniser's or image processor's files beside them.
    kind: one of KINDS.
    most: positions a text is cut to; None for what the model can take.

  Attributes:
    notes: what a reader should know, a line each.
    cut: texts so far that were longer than the model can take, or than was asked for.

  Raises:
    ValueError: it can't be loaded, lacks weights, or is of another kind; one line.
  """

  def __init__(self, path: str, kind: str, most: int | None = None):
    os.environ.update(OFFLINE)
    try:
      import torch
      import transformers
    except ImportError as error:
      raise ValueError(f"{error.name} is not installed: pip install '.[hf]'") from error
    self._torch, self._transformers = torch, transformers
    transformers.logging.set_verbosity_error()
    self._path, self._kind, self._most = path, kind, most
    self.notes: list[str] = []
    self.cut = 0
    if not os.path.isfile(os.path.join(path, 'config.json')):
      raise ValueError(f'{path} is no checkpoint: it has no config.json')
    self._model, loaded = self._load(transformers.AutoModel, 'a model', output_loading_info=True)
    # A head for pooled features makes no hidden state, and of two halves only one is run.
    self._halves = hasattr(self._model, 'encoder') and hasattr(self._model, 'decoder')
    unused = {'pooler', 'decoder'} if self._halves else {'pooler'}
    missing = sorted(n for n in loaded['missing_keys'] if n.split('.')[0] not in unused)
    wrong = missing + sorted(str(key) for key in loaded['mismatched_keys'])
    if wrong:
      raise ValueError(f'{path} lacks weights, {len(wrong)} of them, such as {wrong[0]}')
    if (self._model.config.model_type == 'imagegpt') != (kind == 'image_gpt'):
      raise ValueError(f"{path} is of type '{self._model.config.model_type}', not --kind={kind}")
    self._device = 'cuda' if torch.cuda.is_available() else 'cpu'
    self._model = self._half().float().eval().to(self._device)
    names = {name.rpartition('.')[2] for name, _ in self._model.named_parameters()}
    self._cls = not names.isdisjoint({'cls_token', 'class_embedding'})
    self._prepare = {'vision': self._images, 'text': self._texts, 'image_gpt': self._shifted}[kind]
    if kind == 'vision':
      self._processor = self._image_processor()
    if kind == 'text':
      self._tokenizer = self._load(transformers.AutoTokenizer, 'a tokeniser')
      self._tokenizer.padding_side = 'right'
      if self._tokenizer.pad_token is None:
        self._tokenizer.pad_token = self._tokenizer.eos_token or self._tokenizer.unk_token

  def states(self, inputs: Sequence, size: int) -> Iterator[States]:
    """Hidden states of `inputs`, `size` at a time.

    Args:
      inputs: images NxHxWx3 uint8, a list of N texts, or tokens NxT.

    Raises:
      ValueError: the model can't run on them or draws at random, or its layers differ in width.
    """
    for start in range(0, len(inputs), size):
      prepared, valid_BxT = self._prepare(inputs[start : start + size])
      layers = self._layers(prepared)
      if not start and not np.allclose(layers, self._layers(prepared), 1e-3, 1e-3, equal_nan=True):
        raise ValueError(
          f'{self._path} draws at random, as masked autoencoders hide patches: two passes over the '
          'same examples differ'
        )
      if valid_BxT is None:
        valid_BxT = np.ones(layers.shape[1:3], bool)
      yield States(layers, valid_BxT, self._cls)

  def _half(self) -> Any:
    """The encoder, of a model of images or texts in two halves: its tower, its encoder."""
    tower = {'vision': 'vision_model', 'text': 'text_model'}.get(self._kind, '')
    if hasattr(self._model, tower):
      self.notes.append(f'of {self._model.config.model_type} its {tower} alone is run')
      return getattr(self._model, tower)
    if self._halves:
      self.notes.append(f'of {self._model.config.model_type} its encoder alone is run')
      return self._model.get_encoder()
    return self._model

  def _layers(self, prepared: dict[str, Any]) -> np.ndarray:
    """(L+1, B, T, D) of one batch; ValueError as `states` says."""
    prepared = {name: tensor.to(self._device) for name, tensor in prepared.items()}
    try:
      with self._torch.no_grad():
        found = self._model(**prepared, output_hidden_states=True).hidden_states
    except (TypeError, ValueError, RuntimeError, IndexError, NotImplementedError) as error:
      raise ValueError(f'{self._path} does not run on this: {_line(error)}') from error
    shapes = {tuple(state.shape) for state in found or ()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 3:
      raise ValueError(
        f'{self._path}: layers must all be examples x positions x width, not '
        f'{", ".join(map(str, sorted(shapes))) or "hidden"}'
      )
    return np.stack([state.cpu().numpy() for state in found])

  def _load(self, loader: Any, what: str, **arguments: Any) -> Any:
    try:
      return loader.from_pretrained(self._path, local_files_only=True, **arguments)
    except Exception as error:  # Whatever a damaged or foreign directory makes of it.
      raise ValueError(f'{self._path} holds no {what[2:]} to load: {_line(error)}') from error

  def _image_processor(self) -> Callable[..., Any]:
    """The checkpoint's own, or plain normalisation, which is noted."""
    if os.path.isfile(os.path.join(self._path, 'preprocessor_config.json')):
      processor = self._load(self._transformers.AutoImageProcessor, 'an image processor')
      settings = {'return_tensors': 'pt', 'input_data_format': 'channels_last'}
      return lambda images: processor(images=list(images), **settings)['pixel_values']
    size = getattr(self._model.config, 'image_size', None)
    if not isinstance(size, int):
      raise ValueError(f'{self._path} has no preprocessor_config.json and says no image_size')
    self.notes.append(
      f'no preprocessor_config.json: images are resized to {size}x{size} (bilinear) and scaled to '
      '-1..1'
    )
    return lambda images: self._torch.from_numpy(plain(images, size))

  def _images(self, images: np.ndarray) -> tuple[dict[str, Any], None]:
    try:
      return {'pixel_values': self._processor(images)}, None
    except (TypeError, ValueError) as error:
      raise ValueError(f'{self._path}: its image processor fails: {_line(error)}') from error

  def _texts(self, texts: Sequence[str]) -> tuple[dict[str, Any], np.ndarray]:
    most = [self._most, getattr(self._model.config, 'max_position_embeddings', None)]
    most += [self._tokenizer.model_max_length]  # Astronomical where it is not known,
    most = min(2**31 - 1, *(number for number in most if number))  # beyond what it can be asked.
    whole = self._tokenizer(list(texts))['input_ids']
    empty = [text for text, ids in zip(texts, whole, strict=True) if not ids]
    if empty:
      raise ValueError(f"the text '{empty[0][:40]}' has no token")
    self.cut += sum(len(ids) > most for ids in whole)
    made = self._tokenizer(
      list(texts), padding=True, truncation=True, max_length=most, return_tensors='pt'
    )
    cls = self._tokenizer.cls_token_id
    self._cls = cls is not None and bool((made['input_ids'][:, 0] == cls).all())
    known = {name: made[name] for name in ('input_ids', 'attention_mask', 'token_type_ids')
             if name in made}  # fmt: skip
    return known, made['attention_mask'].numpy().astype(bool)

  def _shifted(self, tokens_NxT: np.ndarray) -> tuple[dict[str, Any], None]:
    """Position t is fed token t-1, the first the start token, as in training."""
    start = self._model.config.vocab_size - 1
    if tokens_NxT.min() < 0 or tokens_NxT.max() >= start:
      raise ValueError(f'tokens must lie from 0 to {start - 1}')
    if tokens_NxT.shape[1] > self._model.config.n_positions:
      raise ValueError(f'{self._path} takes {self._model.config.n_positions} tokens an example')
    first_Nx1 = np.full((len(tokens_NxT), 1), start)
    fed = np.concatenate([first_Nx1, tokens_NxT[:, :-1]], axis=1).astype(np.int64)
    return {'input_ids': self._torch.from_numpy(fed)}, None


def plain(images: np.ndarray, size: int) -> np.ndarray:
  """Images NxHxWx3 uint8, resized bilinearly and scaled to -1..1; Nx3xSxS float32."""
  from PIL import Image

  def one(image: np.ndarray) -> np.ndarray:
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32).transpose(2, 0, 1) / 127.5 - 1

  return np.stack([one(image) for image in images])


def _line(error: Exception) -> str:
  """What is wrong, short and in one line."""
  return ' '.join(str(error).split())[:200] or type(error).__name__
