"""Features computed from audio or text while packing."""
