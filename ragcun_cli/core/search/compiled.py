"""How numeric kernels are compiled: as numba does it, and kept where it was given a folder.

Compiling takes seconds, in each process where nothing is kept. numba's own places to keep it are
not used, as it does not see there that another file has changed.
"""

from functools import partial

import numba

njit = partial(numba.njit, cache=bool(numba.config.CACHE_DIR))  # type: ignore[attr-defined]
