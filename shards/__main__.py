"""``python -m shards``: the same as ``segue shards``."""

from launch.main import run_app
from shards.cli import app

if __name__ == "__main__":
    run_app(app, "shards")
