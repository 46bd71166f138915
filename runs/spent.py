"""WORKDIR/spent.json: the CPU time that a run took, over all its starts."""

from collections.abc import Iterator
import contextlib
import json
import os
import time

from etils import epath

from training import distributed
from training.metrics import write_atomically


@contextlib.contextmanager
def counted(workdir: str, more: bool = False) -> Iterator[None]:
  """Adds the CPU seconds of all cores that the body took, also where it is stopped.

  `more` is done to a finished run: where what was spent before is not known, nothing is.

  Not counted: starting Python, and what a start did that was killed outright. Of several processes
  of one run the first counts itself alone.
  """
  start = time.process_time()
  try:
    yield
  finally:
    if distributed.is_primary():
      path = epath.Path(workdir, 'spent.json')
      before = 0.0
      with contextlib.suppress(OSError, ValueError, KeyError):
        before = json.loads(path.read_text())['cpu_seconds']
      after = round(before + time.process_time() - start, 2)
      with contextlib.suppress(OSError):
        if before or not more:
          text = json.dumps({'cpu_seconds': after})
          write_atomically(os.path.join(workdir, 'spent.json'), text + '\n')
