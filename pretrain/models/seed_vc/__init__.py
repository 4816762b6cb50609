"""Seed-VC v1: content features and a voice to a mel spectrogram, by flow matching."""
