"""SLURM: job scripts and their submission."""
