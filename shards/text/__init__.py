"""Transcripts made ready to be spoken."""
