"""The native parts that a kit carries: an interpreter, wheels for a machine other than this one, llama.cpp for all its CPUs.

All of it is fetched or built where the kit is made; nothing here runs on the target.
"""

from .interpreter import fetch_interpreter
from .llama import LLAMA_VERSION, build_llama_wheel, llama_wheel
from .site_packages import install_wheels
from .targets import PYTHON_VERSION, TARGETS, Target, cache_folder, target_named
from .wheels import fetch_wheels, medge_wheel

__all__ = [
    "LLAMA_VERSION",
    "PYTHON_VERSION",
    "TARGETS",
    "Target",
    "build_llama_wheel",
    "cache_folder",
    "fetch_interpreter",
    "fetch_wheels",
    "install_wheels",
    "llama_wheel",
    "medge_wheel",
    "target_named",
]
