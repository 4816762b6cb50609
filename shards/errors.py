"""The one exception for mistakes that a user can mend."""


class UserError(Exception):
    """A mistake the user can mend: one sentence of what, where, and what to write instead."""
