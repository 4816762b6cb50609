"""What audio is worth: figures and limits, cutting long recordings, cleaning."""
