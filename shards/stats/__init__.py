"""What a folder of shards holds: measured, as tables in the terminal and as a page with plots."""
