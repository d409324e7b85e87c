"""Errors that a user can act on. Their text never holds report text, ids or file names of patients."""

from __future__ import annotations


class CxrguardError(Exception):
    """Something the user can put right: says what was found, where, and what to do.

    ``train.py`` and the command print the message without a traceback and exit with status 1.
    """


class BadInputError(CxrguardError):
    """Input data (a table, a directory, an image) cannot be used."""


class ImageError(CxrguardError):
    """One image cannot be used."""

    @property
    def reason(self) -> str:
        """Why; fits after "the image " and never holds a file name."""
        return str(self)


class ModelError(CxrguardError):
    """A model directory cannot be used (missing part, pickled weights, custom code)."""


class ResidualMarkerError(CxrguardError):
    """A de-identification marker reached a batch although a sanitizer is on."""
