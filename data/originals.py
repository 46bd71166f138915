"""Builders of sets that are published as a few files, which a person or TFDS has downloaded."""

from collections.abc import Iterator, Mapping
import os
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data import png


class FromOriginals(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Images and labels from files that were downloaded before, or are on request.

  They are looked for in DATA_DIR/downloads/manual/NAME if there is such a directory (the files of
  MNIST and Fashion-MNIST bear the same names), else in DATA_DIR/downloads/manual.

  Names, versions, splits and features of subclasses are those of the sets that TFDS ships, so that
  whatever reads one reads the other; they stay out of TFDS's registry, where those are.

  Attributes:
    url: of the directory that the files are downloaded from.
    files: their names.
  """

  url: str
  files: tuple[str, ...]

  def __init__(self, *, download: bool = False, **arguments: Any):
    """With `download`, preparing fetches the files instead of looking for them."""
    self._download = download
    super().__init__(**arguments)

  def read(
    self, paths: Mapping[str, str | os.PathLike]
  ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """split -> (images uint8 (N, H, W) or (N, H, W, 3), labels (N,)).

    Raises:
      ValueError: a missing, corrupt or unexpected file, in one line that names it.
    """
    raise NotImplementedError

  def record(self, split: str, row: int) -> dict[str, Any]:
    """Features beside 'image' and 'label'."""
    del split, row
    return {}

  def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
    if self._download:
      paths = dl_manager.download({name: self.url + name for name in self.files})
    else:
      manual = dl_manager.download_dir / 'manual'
      folder = manual / self.name if (manual / self.name).is_dir() else manual
      paths = {name: folder / name for name in self.files}
    splits = self.read(paths)
    return {split: self._generate_examples(split, *arrays) for split, arrays in splits.items()}

  def _generate_examples(
    self, split: str, images: np.ndarray, labels: np.ndarray
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    for row, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
      yield row, {'image': png.encode(image), 'label': label, **self.record(split, row)}


def read_file(path: str | os.PathLike, opener: Any = open) -> bytes:
  """The content; ValueError if the file is missing, saying where it is expected."""
  try:
    with opener(path, 'rb') as file:
      return file.read()
  except FileNotFoundError as error:
    folder, name = os.path.split(os.fspath(path))
    raise ValueError(f'{name} is missing; it is expected in {folder}') from error
