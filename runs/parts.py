"""Pieces of a record, kept as soon as they are there, so that a stop costs only the one at hand."""

from collections.abc import Callable, Sequence
import io
import json
import os
from typing import Any

from etils import epath
import ml_collections
import numpy as np

from runs import configs
from training import distributed, preemption
from training.metrics import write_atomically

_RECORD = '__record__'
Found = tuple[Any, dict[str, np.ndarray]]


class Parts:
  """DIRECTORY/NAME.npz, each whole or not there; without a directory nothing is kept.

  A piece is used again under the config, data and step that it was made of, and of `config.probe`
  only what it is told to depend on.
  """

  def __init__(
    self,
    directory: str | None = None,
    config: ml_collections.ConfigDict | None = None,
    of: Sequence[Any] = (),
    prefix: str = '',
  ):
    """`of` is what else the pieces depend on, as data and step; `prefix` begins their names."""
    self._directory, self._prefix = directory, prefix
    self._config = configs.plain(config) if config is not None else {}
    self._of = list(of)
    names: set[str] = set()
    if directory is not None and epath.Path(directory).exists():
      names = {path.stem for path in epath.Path(directory).glob('*.npz')}
    # All processes read or compute the same.
    distributed.check_equal('kept parts', ' '.join(sorted(names)))
    self._names = names

  def piece(self, name: str, make: Callable[[], Found], probes: Sequence[str] = ()) -> Found:
    """What `make()` gives, a JSON value and arrays, or gave before; `probes` it depends on.

    Raises:
      Preempted: a stop was requested; what was made before is kept.
    """
    name = (self._prefix + name).replace('/', '_')
    key = self._key(probes)
    kept = self._read(name, key) if name in self._names else None
    if kept is not None:
      return kept
    preemption.check()
    with preemption.at_once():
      record, arrays = make()
    text = json.dumps({'key': key, 'record': record})
    if self._directory is not None and distributed.is_primary():
      epath.Path(self._directory).mkdir(parents=True, exist_ok=True)
      buffer = io.BytesIO()
      np.savez(buffer, **arrays, **{_RECORD: np.frombuffer(text.encode(), np.uint8)})
      write_atomically(os.path.join(self._directory, f'{name}.npz'), buffer.getvalue())
    return json.loads(text)['record'], arrays

  def remove(self) -> None:
    """Deletes all pieces: the record holds them now."""
    if self._directory is not None and distributed.is_primary():
      if epath.Path(self._directory).exists():
        epath.Path(self._directory).rmtree()

  def _key(self, probes: Sequence[str]) -> list[Any]:
    config = dict(self._config)
    probe = config.pop('probe', {})
    own = {k: v for k, v in probe.items() if not isinstance(v, dict) and k != 'suite'}
    own |= {name: probe.get(name) for name in probes}
    return [config, own if probes else {}, self._of]

  def _read(self, name: str, key: list[Any]) -> Found | None:
    content = epath.Path(self._directory, f'{name}.npz').read_bytes()
    with np.load(io.BytesIO(content)) as file:
      arrays = dict(file)
    kept = json.loads(arrays.pop(_RECORD).tobytes())
    return (kept['record'], arrays) if kept['key'] == json.loads(json.dumps(key)) else None
