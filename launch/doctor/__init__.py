"""``segue doctor``: whether this machine, and others beside it, can train."""
