"""The largest micro-batch that fits, found by trying."""
