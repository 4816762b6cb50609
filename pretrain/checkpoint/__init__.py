"""Checkpoints: fragments by parameter name, committed or absent, restored on any ranks."""
