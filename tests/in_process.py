"""Commands in the test's own process, where that they are processes is tested elsewhere."""

import functools
import importlib
from types import SimpleNamespace
from unittest import mock

from absl import flags

from launch import entry


def call(name: str, *arguments: str) -> None:
  """The main of launch.NAME with these words of its command line; raises what it raises."""
  module, values = importlib.import_module(f'launch.{name}'), flags.FlagValues()
  kinds = ('string', 'bool', 'integer', 'float', 'list', 'enum')
  own = {
    f'DEFINE_{kind}': functools.partial(getattr(flags, f'DEFINE_{kind}'), flag_values=values)
    for kind in kinds
  }
  argv, overrides = entry.config_overrides([name, *arguments])
  with mock.patch.object(module, 'flags', SimpleNamespace(FLAGS=values, **own)):
    module.define_flags()
    module.main(values(argv), overrides)
