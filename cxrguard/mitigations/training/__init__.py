"""Mitigations that weigh the samples of a training step, calibrated on held-out samples that are kept for steering."""
