"""GPT-SoVITS stage 1: phonemes (and BERT features) to semantic tokens, autoregressive."""
