"""Added by medge: opens the library of kernels that fits this CPU best, of those beside this package's other libraries."""

import ctypes
import os

from ._ggml import libggml, libggml_base_path

_load = libggml.ggml_backend_load_all_from_path
_load.argtypes, _load.restype = [ctypes.c_char_p], None
_load(os.fsencode(libggml_base_path))
