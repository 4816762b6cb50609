"""Weights in and out: what other programs and earlier runs wrote, and what they can load."""
