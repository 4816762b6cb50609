"""Speech as WebDataset shards: pack, index, plan, stream."""
