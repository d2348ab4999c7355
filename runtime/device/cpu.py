"""What the CPU can do, and so which 8-bit number format is right and fast on it."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ..errors import RecipeError


@dataclass(frozen=True)
class Target:
    """A kind of CPU with the weight format that its integer kernels compute without saturating."""

    name: str
    signed_weights: bool
    reason: str


# Measured on a full-size vision tower (DESIGN.md): on AVX2, S8 weights saturate in vpmaddubsw (cosine 0.910), U8 don't
# (0.9998). VNNI's and dotprod's kernels accumulate in 32 bits, so symmetric S8, which needs no zero point, is exact.
TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("avx2", False, "U8 weights: without VNNI, signed weights saturate the 16-bit sums of AVX2's kernels"),
        Target("avx512-vnni", True, "S8 weights: VNNI sums in 32 bits, symmetric weights need no zero point"),
        Target("arm-dotprod", True, "S8 weights: sdot/smmla sum in 32 bits, symmetric weights need no zero point"),
        # tests/arm runs S8 on an emulated CPU with dotprod and on one without: both agree with PyTorch.
        Target("arm", True, "S8 weights: as exact as with dotprod, in more instructions"),
        Target("web", False, "U8 weights: WebAssembly SIMD widens them to 16 bits, and relaxed SIMD may saturate S8"),
    )
}


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


MOST_THREADS = 1024  # engines end in a crash, not in an error, where the system gives them no thread more


def check_threads(threads: int | None) -> None:
    """Check a number of threads that a user asks for; None is the engine's own choice.

    Raises:
        RecipeError: fewer than one, or more than any machine has cores.
    """
    if threads is not None and threads > MOST_THREADS:
        raise RecipeError(
            f"{threads} threads are more than {MOST_THREADS}: say fewer, or leave the choice to the engine"
        )
    if threads is not None and threads < 1:
        raise RecipeError(f"{threads} threads can compute nothing: say 1 or more, or leave the choice to the engine")


def cpu_features() -> frozenset[str]:
    """Feature flags in lower case, as Linux or macOS name them; empty where the system doesn't tell."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in {"flags", "Features"}:
                return frozenset(value.lower().split())
        return frozenset()
    if platform.system() == "Darwin":
        listing = subprocess.run(["/usr/sbin/sysctl", "-a"], capture_output=True, text=True, check=False).stdout
        return frozenset(
            line.split(".")[-1].split(":")[0].lower() for line in listing.splitlines() if line.startswith("hw.optional")
        )
    return frozenset()


def pick_target(name: str = "auto") -> tuple[Target, str]:
    """The target of this name, or for "auto" the one of this machine; and one sentence on why.

    Raises:
        RecipeError: no such target.
    """
    if name != "auto":
        if name not in TARGETS:
            raise RecipeError(f"there is no target {name!r}; choose from auto, {', '.join(TARGETS)}")
        return TARGETS[name], f"asked for {name}: {TARGETS[name].reason}"
    features = cpu_features()
    if platform.machine().lower() in {"aarch64", "arm64"}:
        if not features:
            return TARGETS["arm"], f"this system does not say whether its ARM CPU has dotprod: {TARGETS['arm'].reason}"
        found = "arm-dotprod" if features & {"asimddp", "feat_dotprod"} else "arm"
    else:
        found = "avx512-vnni" if features & {"avx512_vnni", "avx_vnni"} else "avx2"
    return TARGETS[found], f"this CPU is {found}: {TARGETS[found].reason}"
