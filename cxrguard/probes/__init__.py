"""Memorization detectors: pure torch, one a file, per sample, no files and no Lightning."""
