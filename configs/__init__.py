"""Run configurations, and the files that ``accelerate launch --config_file`` takes."""
