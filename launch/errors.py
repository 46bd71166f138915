"""The error a user can act on."""


class UserError(Exception):
  """Something the user can put right; the message is one clear line, shown without a traceback."""
