"""Mistakes that a user can mend, as one sentence."""

import errno

# What the file system says of a path that a user chose, or of a disk they fill.
_CHOSEN = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}


class UserError(Exception):
    """A mistake the user can mend: one sentence of what, where, and what to write instead."""


def sentence(error: Exception) -> str | None:
    """What to tell the user of an exception, or None where it is a bug's and wants a traceback."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _CHOSEN:
        return f"{error.filename or 'a file'}: {error.strerror}; mend that or name another place"
    return None
