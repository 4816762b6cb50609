"""The trainer: loop, engine, schedules, checkpoints, models."""
