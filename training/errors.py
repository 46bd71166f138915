"""What can go wrong in training, as one line each."""


class TrainingError(RuntimeError):
  """A run can't go on; the message is one line and says why."""


class DistributedError(TrainingError):
  """The processes of a run do not find or do not match each other."""


class CheckpointError(TrainingError):
  """A checkpoint can't be read; the message names it and what else there is."""


class Stopped(KeyboardInterrupt):
  """The process was told to stop and did, there and then; nothing of it is saved."""


class Preempted(Exception):
  """The process was told to stop; everything is saved."""
