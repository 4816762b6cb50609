"""Packing a corpus into shards."""
