"""Features of a Hugging Face checkpoint on anyone's images, texts or tokens, into one file.

The data are a .npz with `images` (N, H, W, 3) uint8, `text` (N,) strings or `tokens` (N, T)
integers, or for texts a table with a header: .tsv (tabs, nothing quoted) or .csv. Every other array
of N entries, and every other column, is a column of labels under its name, but for `splits` and
`groups` (in a table also `split` and `group`), which `probes.exchange` explains.
"""

from collections.abc import Iterator, Sequence
import contextlib
import csv
import dataclasses
import os
import shutil
import tempfile
from typing import Any
import zipfile

import numpy as np
import tqdm

from probes import exchange, huggingface
from probes import rows as rows_lib
from probes.features import SPLITS
from runs.errors import UserError

_INPUTS = {'vision': 'images', 'text': 'text', 'image_gpt': 'tokens'}
_OTHERS = ('unseen', 'pretraining_seed', 'choices')
# Images of at most so many numbers go into the file: the control task takes its types from them.
_SMALL = 64 * 64 * 3


@dataclasses.dataclass(frozen=True)
class Table:
  """Examples of a file.

  Attributes:
    inputs: images, a list of texts, or tokens.
    beside: arrays of the file of features that are known already: labels, splits, groups.
    dealt: 'rows' or 'whole groups' where the splits had to be made of them.
  """

  inputs: Any
  beside: dict[str, np.ndarray]
  dealt: str | None = None


def extract(
  model: str,
  kind: str,
  data: str,
  out: str,
  batch_size: int = 32,
  sequences: bool = False,
  most: int | None = None,
  seed: int = 0,
) -> list[str]:
  """Writes the features of every layer as `probes.exchange` describes; returns lines on them.

  Args:
    model: directory of the checkpoint.
    kind: one of `huggingface.KINDS`.
    data: file of the examples.
    out: the .npz to write, whole or not at all.
    batch_size: examples at a time.
    sequences: whether to write features before pooling too, for the attentive probe.
    most: tokens that texts are cut to.
    seed: of the splits, where the data have none.

  Raises:
    UserError: the data or the checkpoint can't be used, in one line.
  """
  try:
    table = read(data, kind, seed)
    checkpoint = huggingface.Checkpoint(model, kind, most)
    with _memory(out) as directory:
      arrays = _run(checkpoint, table, batch_size, directory if sequences else None)
      _save(out, {**arrays, **table.beside}, compressed=not sequences)
  except ValueError as error:
    raise UserError(str(error)) from error
  except OSError as error:
    raise UserError(f'{error.filename or out}: {error.strerror}') from error
  layers, count, width = arrays['features'].shape
  poolings = ', '.join('mean' if name == 'features' else name for name in arrays
                       if name in ('features', 'last', 'cls'))  # fmt: skip
  lines = list(checkpoint.notes)
  if checkpoint.cut:
    lines.append(f'{checkpoint.cut} of {count} texts were longer than the model reads, and cut')
  if table.dealt is not None:
    sizes = ', '.join(f'{np.sum(table.beside["splits"] == split)} {split}' for split in SPLITS)
    lines.append(f'the data name no splits: {table.dealt} were dealt to them, {sizes} rows')
  named = ', '.join(rows_lib.columns(table.beside))
  lines.append(f'{layers} layers, {count} examples, width {width}; {poolings}; labels: {named}')
  return [*lines, out]


# The data.


def read(path: str, kind: str, seed: int = 0) -> Table:
  """The examples of a file, checked.

  Raises:
    ValueError: the file can't be used for that, in one line.
    OSError: it can't be opened.
  """
  extension = os.path.splitext(path)[1]
  if extension == '.npz':
    columns = _npz(path)
  elif extension in ('.tsv', '.csv') and kind == 'text':
    columns = _table(path, extension)
  else:
    known = '.npz, .tsv or .csv' if kind == 'text' else '.npz'
    raise ValueError(f'{path}: the data of --kind={kind} are a {known} file')
  name = _INPUTS[kind]
  if name not in columns:
    raise ValueError(f"{path} has no '{name}'; it has {', '.join(columns) or 'nothing'}")
  inputs = _inputs(path, kind, columns.pop(name))
  count = len(inputs)
  beside = _beside(path, columns, count)
  dealt = None
  if 'splits' not in beside:
    dealt = 'whole groups' if 'groups' in beside else 'rows'
    beside['splits'] = rows_lib.deal(beside.get('groups', np.arange(count)), seed)
  labels = rows_lib.columns(beside)
  if not labels:
    raise ValueError(f"{path} has no labels: a column for each, such as 'labels'")
  rows = rows_lib.splits(path, beside, count)
  for column, values in labels.items():
    names, classes = rows_lib.classes(f'{path}, {column}', values, count)
    rows_lib.check_train(f'{path}, {column}', names, classes[rows['train']])
  if kind == 'vision' and inputs[0].size <= _SMALL:
    beside['inputs'] = inputs.reshape(count, -1)
  return Table(inputs, beside, dealt)


def _npz(path: str) -> dict[str, np.ndarray]:
  try:
    with np.load(path, allow_pickle=False) as archive:
      return {name: archive[name] for name in archive.files}
  except (zipfile.BadZipFile, EOFError, AttributeError, ValueError) as error:
    raise ValueError(f'{path} is no .npz file of plain arrays, or is damaged: {error}') from error


def _table(path: str, extension: str) -> dict[str, np.ndarray]:
  quoting = {'delimiter': '\t', 'quoting': csv.QUOTE_NONE} if extension == '.tsv' else {}
  with open(path, encoding='utf-8', newline='') as file:
    try:
      header, *lines = csv.reader(file, **quoting)
    except (csv.Error, UnicodeDecodeError, ValueError) as error:
      raise ValueError(f'{path} is no table with a header: {error}') from error
  if not lines or len(set(header)) != len(header):
    raise ValueError(f'{path} needs a header of different names and rows under it')
  for number, line in enumerate(lines, 2):
    if len(line) != len(header):
      raise ValueError(f'{path}: line {number} has {len(line)} of {len(header)} columns')
  names = {'label': rows_lib.LABELS, 'split': 'splits', 'group': 'groups'}
  return {
    names.get(name, name): _numbers(values)
    for name, values in zip(header, zip(*lines, strict=True), strict=True)
  }


def _numbers(texts: Sequence[str]) -> np.ndarray:
  """Whole numbers where all are, so that 10 comes after 9; else strings."""
  array = np.array(texts)
  try:
    return array.astype(np.int64) if all(text == str(int(text)) for text in texts) else array
  except (ValueError, OverflowError):
    return array


def _inputs(path: str, kind: str, array: np.ndarray) -> Any:
  if kind == 'vision':
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3 or 0 in array.shape:
      raise ValueError(f'{path}: images must be N x H x W x 3 uint8, not {array.dtype} '
                       f'{array.shape}')  # fmt: skip
    return array
  if kind == 'image_gpt':
    if array.dtype.kind not in 'iu' or array.ndim != 2 or 0 in array.shape:
      raise ValueError(f'{path}: tokens must be N x T integers, not {array.dtype} {array.shape}')
    return array.astype(np.int64)
  if array.ndim != 1 or not len(array):
    raise ValueError(f'{path}: text must be N strings, not {array.dtype} {array.shape}')
  return [str(text) for text in rows_lib.text(path, 'text', array)]


def _beside(path: str, columns: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
  """Arrays by their names in the file of features; the others of N entries are labels."""
  found = {}
  for name, array in columns.items():
    if name in ('splits', 'groups', rows_lib.LABELS) or name in _OTHERS:
      found[name] = array
    elif array.shape == (count,):
      column = name.removeprefix(f'{rows_lib.LABELS}/')
      found[rows_lib.LABELS if column == 'label' else f'{rows_lib.LABELS}/{column}'] = array
    else:
      raise ValueError(f"{path}: '{name}' {array.shape} is no column of labels of {count} examples")
  return found


# The features.


@contextlib.contextmanager
def _memory(out: str) -> Iterator[str]:
  """A directory beside `out` for what memory can't hold; gone afterwards."""
  directory = tempfile.mkdtemp(prefix='.extract-', dir=os.path.dirname(os.path.abspath(out)))
  try:
    yield directory
  finally:
    shutil.rmtree(directory, ignore_errors=True)


def _run(
  checkpoint: huggingface.Checkpoint, table: Table, size: int, directory: str | None
) -> dict[str, np.ndarray]:
  """Pooled features of all examples, and with a `directory`, sequences that lie there."""
  count, parts, sequences, done = len(table.inputs), {}, [], 0
  with tqdm.tqdm(total=count, unit='examples', disable=None) as bar:
    for states in checkpoint.states(table.inputs, size):
      found = states.pooled()
      if parts and found.keys() != parts.keys():
        raise ValueError('some examples begin with a token for the whole of them, others do not')
      for name, array in found.items():
        parts.setdefault(name, []).append(array)
      rows = slice(done, done + len(states.valid_BxT))
      if directory is not None:
        if not sequences:
          sequences = _sequence_files(directory, states.layers_LxBxTxD.shape, count)
        _check_lengths(states, sequences[0].shape[1])
        for file, layer_BxTxD in zip(sequences, states.layers_LxBxTxD, strict=True):
          file[rows] = layer_BxTxD
      done = rows.stop
      bar.update(rows.stop - rows.start)
  arrays = {name: np.concatenate(arrays, 1) for name, arrays in parts.items()}
  if not np.isfinite(arrays['features']).all():
    raise ValueError('the hidden states hold NaN or infinity')
  return arrays | {f'sequences/{layer}': file for layer, file in enumerate(sequences)}


def _sequence_files(directory: str, shape: tuple[int, ...], count: int) -> list[np.ndarray]:
  layers, _, tokens, width = shape
  return [
    np.lib.format.open_memmap(
      os.path.join(directory, f'{layer}.npy'), 'w+', np.float32, (count, tokens, width)
    )
    for layer in range(layers)
  ]


def _check_lengths(states: huggingface.States, tokens: int) -> None:
  lengths = states.valid_BxT.sum(1)
  if set(lengths) != {tokens}:
    raise ValueError(
      f'--sequences needs texts of one length, and these have {min(lengths.min(), tokens)} to '
      f'{max(lengths.max(), tokens)} tokens: --most_tokens cuts them to the shortest'
    )


def _save(out: str, arrays: dict[str, np.ndarray], compressed: bool) -> None:
  with exchange.whole(out) as file:
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
