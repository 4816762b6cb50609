"""``python -m slurm submit``: the same as ``segue submit``."""

from launch.main import run_app
from slurm.cli import app

if __name__ == "__main__":
    run_app(app, "slurm")
