"""Scores and attributions of a table of prompts, as ``cxrguard score`` and ``cxrguard attribute`` make them."""
