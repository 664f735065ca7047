"""Keeps decoders from telling what is in the files they read."""

from __future__ import annotations

import logging
import warnings

_DECODERS = ("PIL", "highdicom", "pydicom", "tifffile", "wsidicom")


def quiet_decoders() -> None:
    """Silences the libraries that read image files, for the whole process.

    They warn and log about odd files, and quote headers, in which names of people
    stand. What makes a file unreadable reaches the caller as an error all the same.
    """
    for name in _DECODERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.simplefilter("ignore", UserWarning)
