"""Mitigations at inference: what a prompt is generated from is changed, the model is not. One file each; see :mod:`.base`."""
