"""Mitigations, one a file: at inference (prompt, embedding, attention, guidance, noise) and in training (weights of samples)."""
