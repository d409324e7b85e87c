"""cxrguard: fine-tune chest X-ray diffusion models without shipping a model that replays its patients."""

__version__ = "0.1.0"
