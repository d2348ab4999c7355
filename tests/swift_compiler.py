"""Debian's Swift, in a root of its own: running its commands, and compiling modules with it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent / "swift"
MEDGEKIT = HERE.parents[1] / "export/to_coreml/swift/Sources/MedgeKit"
# What stands for Apple's frameworks, each with those that it imports.
STUBS: dict[str, tuple[str, ...]] = {
    "UIKit": (),
    "ImageIO": (),
    "SwiftUI": ("UIKit",),
    "PhotosUI": ("SwiftUI", "UIKit"),
    "CoreVideo": (),
    "CoreML": ("CoreVideo",),
}


@dataclass(frozen=True)
class Swift:
    """Attributes: root: as tests/swift/prepare makes it."""

    root: Path

    def run(self, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a folder, which it sees as /package. Both streams are in `stdout`."""
        return subprocess.run(
            ["bash", HERE / "inside", self.root, folder, *command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=540,
        )  # fmt: skip

    def compile(self, folder: Path, name: str, sources: Path, *how: str, uses: Iterable[str] = ()) -> None:
        """Compile the sources of a folder with libraries that were compiled into the same folder; a warning is an error.

        Args:
            how: what is made of them.
        """
        shutil.copytree(sources, folder / name)
        files = [f"{name}/{path.name}" for path in sorted(sources.glob("*.swift"))]
        done = self.run(
            folder, "swiftc", "-parse-as-library", "-warnings-as-errors", "-module-name", name, "-I", ".", "-L", ".",
            "-Xlinker", "-rpath", "-Xlinker", "$ORIGIN", *how, *files, *(f"-l{used}" for used in uses),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-6000:]

    def library(self, folder: Path, name: str, sources: Path, uses: Iterable[str] = ()) -> None:
        """Leave a library, a module, and its public symbols in graphs/NAME."""
        how = ("-swift-version", "5", "-emit-library", "-o", f"lib{name}.so", "-emit-module")
        graph = ("-emit-symbol-graph", "-emit-symbol-graph-dir", f"graphs/{name}")
        (folder / f"graphs/{name}").mkdir(parents=True)
        self.compile(folder, name, sources, *how, *graph, uses=uses)
