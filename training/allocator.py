"""glibc's allocator, told to keep what it has."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
KEEP_BYTES = 2**31 - 1


def keep_memory() -> None:
    """Makes glibc reuse freed memory instead of handing it back to the kernel; elsewhere does nothing.

    A training step on a CPU frees and asks for the same large blocks over and over. By default glibc maps each one
    anew, and the page faults take about a fifth of the step.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
