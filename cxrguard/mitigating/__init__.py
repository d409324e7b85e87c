"""A table of prompts under every mitigation at inference, side by side, as ``cxrguard mitigate`` makes it."""
