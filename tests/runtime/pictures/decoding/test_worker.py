"""Whatever a decoder does costs one image and one sentence, and it can do nothing but decode."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import get_frame

from medge.runtime.errors import ImageError
from medge.runtime.pictures.decoding import worker as module
from medge.runtime.pictures.decoding.protocol import GDCM, LONGEST_REASON, Refusal
from medge.runtime.pictures.decoding.worker import WORKERS, Workers
from medge.runtime.pictures.images import read_image
from medge.runtime.processes import parent

# Runs in the decoder process, in place of Pillow's decoder: what a broken or taken-over library could do, by the first word.
HOOK = """
import ctypes, os, signal, socket, sys, time
from medge.runtime.pictures.decoding import pillow
from medge.runtime.pictures.decoding.protocol import ANSWER, Raster, Refusal
decode = pillow.decode_file

def attempts():
    yield "write", lambda: open("{place}", "w")
    yield "read", lambda: open("{here}")
    yield "connect", lambda: socket.socket()
    yield "fork", os.fork
    yield "lift", lambda: __import__("resource").setrlimit(7, (64, 64))

def hook(payload, options, sized):
    word = payload[:5].decode("ascii", "replace")
    if word == "ABORT":
        os.abort()
    if word == "SPIN!":
        while True:
            pass
    if word == "SLEEP":
        time.sleep(600)
    if word == "GREED":
        bytearray(8 << 30)
    if word == "LIES!":
        return Raster(1 << 30, 1 << 30, 3, 2, 0, 1 << 62, [])
    if word == "SHORT":
        return Raster(4, 4, 3, 1, 0, 48, [b"too few"])
    if word == "WORDS":
        raise Refusal("\\x1b[31mred\\nline" + "x" * 5000)
    if word == "TRIES":
        done = []
        for name, attempt in attempts():
            try:
                attempt()
                done.append(name)
            except (OSError, ValueError):
                pass
        raise Refusal("succeeded: " + (" ".join(done) or "none") + ", environment: " + " ".join(sorted(os.environ)))
    return decode(payload, options, sized)

pillow.decode_file = hook
"""


@pytest.fixture
def hooked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Decoder processes that misbehave at a word; gives the path that they try to write."""
    place = tmp_path / "written"
    code = parent._CODE.replace("main()", HOOK.replace("{place}", str(place)).replace("{here}", __file__) + "main()")
    code = code.replace("; from {} import main; ", "\nfrom {} import main\n")
    WORKERS.stop()
    monkeypatch.setattr(parent, "_CODE", _Literal(code))
    yield place
    WORKERS.stop()


class _Literal(str):
    """Code with braces of its own, in which only the module's name is filled."""

    def format(self, *args: object, **named: object) -> str:
        return self.replace("{}", str(args[0]))


def png(side: int = 8, value: int = 7) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (side, side), value).save(stream, "PNG")
    return stream.getvalue()


def children() -> list[psutil.Process]:
    """Of this process, decoders and zombies alike."""
    return psutil.Process().children()


def test_an_abort_costs_one_image_of_a_batch(hooked: Path) -> None:
    batch = [png(value=1), b"ABORT", png(value=2), png()[:20], b"ABORT", png(value=3)]
    found: list[Any] = []
    for content in batch:
        try:
            found.append(int(read_image(content)[0, 0, 0]))
        except ImageError as error:
            found.append(str(error))
    assert [item for item in found if isinstance(item, int)] == [1, 2, 3]
    assert found[1] == "an image of 5 bytes: the decoder broke down while it read this file; the file is damaged"
    assert "not an image" in found[3] or "damaged or truncated" in found[3]
    assert [child.pid for child in children() if child.status() == psutil.STATUS_ZOMBIE] == []
    assert len(WORKERS.pids()) == 1


@pytest.mark.parametrize("word", [b"SPIN!", b"SLEEP", b"SHORT"])
def test_a_hang_ends(hooked: Path, monkeypatch: pytest.MonkeyPatch, word: bytes) -> None:
    read_image(png())  # starting it is no part of the time
    monkeypatch.setattr(module, "SECONDS", 0.1)
    start = time.monotonic()
    with pytest.raises(ImageError, match=r"an image of 5 bytes: not decoded within 0.1 s; the file is damaged"):
        read_image(word)
    assert time.monotonic() - start < 10
    assert WORKERS.pids() == []
    monkeypatch.undo()
    assert read_image(png()).shape == (8, 8, 3)


def test_too_much_memory_costs_one_image_and_not_the_process(hooked: Path) -> None:
    read_image(png())
    before = WORKERS.pids()
    with pytest.raises(ImageError, match="takes more memory to decode than an image of its size may"):
        read_image(b"GREED")
    assert WORKERS.pids() == before


def test_an_answer_that_makes_no_sense_is_not_believed(hooked: Path) -> None:
    with pytest.raises(ImageError, match="the decoder broke down"):
        read_image(b"LIES!")
    assert read_image(png()).shape == (8, 8, 3)


def test_a_reason_is_one_printable_line(hooked: Path) -> None:
    with pytest.raises(ImageError) as caught:
        read_image(b"WORDS")
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 300 < LONGEST_REASON


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such limits")
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0 and sys.platform != "linux", reason="root is not held")
def test_a_decoder_opens_nothing_and_starts_nothing(hooked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDGE_SECRET", "x")
    with pytest.raises(ImageError) as caught:
        read_image(b"TRIES")
    done, environment = str(caught.value).split("succeeded: ")[1].split(", environment: ")
    allowed = {"fork", "lift"} if os.geteuid() == 0 else set()  # RLIMIT_NPROC and hard limits don't bind root
    assert set(done.split()) - {"none"} <= allowed
    assert "MEDGE_SECRET" not in environment
    assert "HOME" not in environment
    assert not hooked.exists()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to a thread here")
def test_ctrl_c_in_the_middle_leaves_no_old_answer(hooked: Path) -> None:
    read_image(png())
    # A test run that was started in the background ignores SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer = threading.Timer(0.3, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT])
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            read_image(b"SLEEP")
        timer.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert WORKERS.pids() == []
    assert int(read_image(png(value=9))[0, 0, 0]) == 9


def test_a_decoder_that_was_killed_while_it_waited_costs_nothing() -> None:
    read_image(png())
    [pid] = WORKERS.pids()[:1]
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)], timeout=5) if psutil.pid_exists(pid) else None
    assert read_image(png()).shape == (8, 8, 3)
    assert pid not in WORKERS.pids()


def test_threads_have_a_decoder_each() -> None:
    pool = Workers()
    gate = threading.Barrier(2)

    def read(value: int) -> int:
        gate.wait(30)
        pixels, _ = pool.decode("pillow", "file", png(600, value), {"frame": None, "pixels": 0})
        return int(pixels[5, 5])

    try:
        with ThreadPoolExecutor(2) as threads:
            assert list(threads.map(read, range(8))) == list(range(8))
        assert 1 <= len(pool.pids()) <= 2
    finally:
        pool.stop()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_has_decoders_of_its_own() -> None:
    read_image(png())
    before = WORKERS.pids()
    child = os.fork()
    if child == 0:
        try:
            inherited = WORKERS.pids()
            right = int(read_image(png(value=5))[0, 0, 0]) == 5
            os._exit(0 if right and not inherited and WORKERS.pids() != before else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert WORKERS.pids() == before
    assert read_image(png()).shape == (8, 8, 3)


SCRIPT = """
import sys, time
import medge
from medge.runtime.pictures.decoding.worker import WORKERS
print("main runs", flush=True)
print(medge.image(sys.argv[1]).shape, *WORKERS.pids(), flush=True)
if sys.argv[2:]:
    time.sleep(600)
"""


def run_script(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "a.png").write_bytes(png())
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "a.png"), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def gone(pid: int) -> bool:
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_a_script_without_a_guard_runs_once_and_leaves_nothing(tmp_path: Path) -> None:
    out, _ = run_script(tmp_path).communicate(timeout=60)
    assert out.count("main runs") == 1
    assert "(8, 8, 3)" in out
    assert gone(int(out.split()[-1]))


def test_a_decoder_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    process = run_script(tmp_path, "wait")
    assert process.stdout is not None
    assert process.stdout.readline() == "main runs\n"
    pid = int(process.stdout.readline().split()[-1])
    assert psutil.pid_exists(pid)
    process.kill()
    process.communicate()
    assert gone(pid)


def test_gdcm_ends_over_a_real_film_and_nothing_else_does(pydicom_files: Path) -> None:
    """JPEG-LS of 64 rows decoded by GDCM as 65: why it decodes no JPEG-LS where something else can."""
    dataset = pydicom.dcmread(pydicom_files / "MR_small_jpeg_ls_lossless.dcm")
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    options = {
        "rows": 64, "columns": 64, "samples": 1, "itemsize": 2, "precision": 16, "signed": 1, "pixels": 64 * 65,
        "photometric": "MONOCHROME2", "planar": 0, "syntax": str(dataset.file_meta.TransferSyntaxUID),
    }  # fmt: skip
    pool = Workers()
    try:
        right, _ = pool.decode(GDCM, "frame", frame, options)
        with pytest.raises(Refusal, match="broke down"):
            pool.decode(GDCM, "frame", frame, options | {"rows": 65})
        again, _ = pool.decode(GDCM, "frame", frame, options)
    finally:
        pool.stop()
    np.testing.assert_array_equal(right, again)
    expected = pydicom.dcmread(pydicom_files / "MR_small.dcm").pixel_array
    np.testing.assert_array_equal(right.view(np.int16), expected)


def test_a_program_without_an_interpreter_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    WORKERS.stop()
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(ImageError, match="needs a Python interpreter of its own"):
        read_image(png())
    monkeypatch.setattr(sys, "executable", "/bin/true" if Path("/bin/true").exists() else sys.prefix)
    with pytest.raises(ImageError, match="the decoder process"):
        read_image(png())
