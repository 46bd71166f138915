"""What one process makes for all of them, instead of each making the same."""

from collections.abc import Callable
import pickle
from typing import Any

from jax.experimental import multihost_utils
import numpy as np

from training import distributed, preemption
from training.errors import Preempted


def once(make: Callable[[], Any], place: str = 'what the first process fits') -> Any:
  """What `make()` gives on the first process, on all of them; alone, what it gives.

  All processes must come here, in the same order. `make` must need no other process. Another may
  wait a hundred times `distributed.barrier`'s limit: a fit is long, and one that is lost or stands
  still is noticed without.

  Args:
    make: gives what pickle can carry.
    place: as in `distributed.barrier`.

  Raises:
    Preempted: a stop was asked of the first process; `make` ends there and then. One that is asked
      of another while it waits ends all of them, as anywhere.
    ValueError: `make` raised it; any other error of `make` is a RuntimeError on all of them.
  """
  if not distributed.active():
    return make()
  said = pickle.dumps(_outcome(make)) if distributed.is_primary() else b''
  distributed.barrier(place, times=100)
  value, error = pickle.loads(_sent(said, place))
  if error is not None:
    raise error
  return value


def _outcome(make: Callable[[], Any]) -> tuple[Any, Exception | None]:
  try:
    with preemption.interrupting():
      return make(), None
  except Preempted:
    return None, Preempted(preemption.MESSAGE)
  except ValueError as error:
    return None, ValueError(str(error))
  except Exception as error:
    return None, RuntimeError(f'{type(error).__name__}: {error}')


def _sent(said: bytes, place: str) -> bytes:
  """What the first process says, on all of them."""
  with distributed.waiting(place):
    count = int(multihost_utils.broadcast_one_to_all(np.int32(len(said))))
    # Of few sizes, for each is a program.
    padded = np.zeros(1 << (count - 1).bit_length(), np.uint8)
    padded[: len(said)] = np.frombuffer(said, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(padded))[:count].tobytes()
