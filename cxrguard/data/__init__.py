"""Readers, splits, canaries, the datamodule and collate."""
