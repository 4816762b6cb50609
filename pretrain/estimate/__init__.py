"""What a run will take, told without running it."""
