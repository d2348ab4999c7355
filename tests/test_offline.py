"""What keeps libraries from telling anyone: the switches are set in time, and the watch that tests/test_privacy.py keeps sees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from watched import needs_strace

import medge.no_telemetry


@needs_strace
def test_the_watch_sees_what_it_watches_for(tmp_path: Path) -> None:
    """Were this not seen, the test above would say nothing."""
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))"
    log = tmp_path / "calls.txt"
    subprocess.run(["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=socket,connect", "-o", str(log), sys.executable,
                    "-c", code], check=False)  # fmt: skip
    assert "192.0.2.1" in log.read_text()


def test_the_switches_are_set_before_anything_is_imported() -> None:
    code = (
        "import os, sys, medge\n"
        "assert not {'onnxruntime', 'ray', 'transformers', 'huggingface_hub', 'llama_cpp'} & set(sys.modules)\n"
        "print(*(os.environ.get(name) for name in medge.no_telemetry.SWITCHES))"
    )
    clean = {name: value for name, value in os.environ.items() if name not in medge.no_telemetry.SWITCHES}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(medge.no_telemetry.SWITCHES.values())


def test_openvinos_counter_can_not_be_imported(tmp_path: Path) -> None:
    (tmp_path / "openvino_telemetry.py").write_text("print('counted')")  # as where it is installed
    code = "import medge\ntry:\n    import openvino_telemetry\nexcept ImportError:\n    print('refused')"
    path = os.pathsep.join((str(tmp_path), *(entry for entry in sys.path if entry)))
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "refused\n"


def test_ray_counts_nothing() -> None:
    usage = pytest.importorskip("ray._common.usage.usage_lib", reason="ray is not installed: pip install 'medge[ray]'")
    assert not usage.usage_stats_enabled()
