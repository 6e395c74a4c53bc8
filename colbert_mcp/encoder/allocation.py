"""What the C library does with freed memory (glibc only; elsewhere nothing happens). Knows nothing of models.

A forward pass frees and asks for the same large blocks over and over. If each goes back to the system at once, a third
of the time goes into its pages; if none ever does, small objects pin them and the process grows with the number of
passes. So they are kept between passes and given back after a group of them.
"""

import ctypes
import sys
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from malloc.h
_KEPT_BLOCK = 32 << 20
_KEPT_IN_ALL = 64 << 20


def keep_freed_memory() -> None:
    """Have freed blocks of up to 32 MB kept for what asks next, rather than have the library learn what to keep."""
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_IN_ALL)


def return_freed_memory() -> None:
    """Give the system every page that holds nothing, also those between blocks in use."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _function(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
