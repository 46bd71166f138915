"""The error a user can act on, and how a mistyped flag is answered."""

import difflib
import re

from absl import flags


class UserError(Exception):
  """Something the user can put right; the message is one clear line, shown without a traceback."""


def describe_flag_error(error: Exception) -> str:
  """A flag parser's exception as one line a person can act on."""
  text = str(error).replace('\\n', ' ')
  if 'Traceback' in text:
    # ml_collections quotes the whole traceback of a config file; its last line is the reason.
    text = re.sub(r'^\w*(Error|Exception): ', '', text.strip().splitlines()[-1].strip())
  near = re.search(r'Did you mean "([^"]+)" instead of "([^"]+)"', text)
  if near:
    return f'unknown config field {near[2]}; did you mean {near[1]}?'
  if isinstance(error, (AttributeError, KeyError)):
    field = text.strip('\'" ')
    return f'unknown config field {field}'
  unknown = re.match(r"Unknown command line flag '([^']+)'", text)
  if unknown:
    known = [name for name in flags.FLAGS if len(name) > 1]
    close = difflib.get_close_matches(unknown[1], known, 1)
    return f'unknown flag --{unknown[1]}' + (f'; did you mean --{close[0]}?' if close else '')
  return text
