"""A clinic's systems that nobody here wrote, on loopback: Debian's Orthanc as the PACS, dcmtk's and dicom3tools' programs.

`bash tests/station_tools/prepare ~/.cache/medge/dicom` gets them; without them these tests are skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

PLACE = Path(os.environ.get("MEDGE_DICOM", Path.home() / ".cache/medge/dicom")) / "root"


def needed() -> None:
    """Skip the test where the programs are not there."""
    if not (PLACE / ".ready").is_file():
        pytest.skip(
            f"no Orthanc and dcmtk in {PLACE.parent}: bash tests/station_tools/prepare {PLACE.parent} gets them"
        )


def _environment() -> dict[str, str]:
    libraries = next(iter(PLACE.glob("usr/lib/*/libdcmdata.so.*"))).parent
    dictionary = next(iter(PLACE.glob("usr/share/libdcmtk*/dicom.dic")))
    return {**os.environ, "LD_LIBRARY_PATH": str(libraries), "DCMDICTPATH": str(dictionary)}


def tool(name: str, *words: object, fine: bool = True) -> str:
    """Run a program of dcmtk or dicom3tools; what it says on both streams. With `fine`, it must end without an error."""
    done = subprocess.run(
        [str(PLACE / "usr/bin" / name), *map(str, words)], env=_environment(), capture_output=True, timeout=60
    )
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0 or not fine, said
    return said


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


@dataclass
class Orthanc:
    """A running PACS.

    Attributes:
        dicom, web: ports of its DICOM node, and of its REST interface and DICOMweb.
    """

    dicom: int
    web: int

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.web}/dicom-web"

    def ask(self, path: str, body: Any = None) -> Any:
        """Its REST interface: POST where there is a body."""
        url = f"http://127.0.0.1:{self.web}{path}"
        sent = {"content": body} if isinstance(body, bytes | str) else {"json": body}
        answer = httpx.get(url) if body is None else httpx.post(url, timeout=30, **sent)  # type: ignore[arg-type]  # JSON or bytes
        answer.raise_for_status()
        return answer.json() if "json" in answer.headers.get("content-type", "") else answer.content

    def knows(self, title: str, port: int) -> None:
        """Tell it of a node."""
        httpx.put(
            f"http://127.0.0.1:{self.web}/modalities/{title.lower()}",
            json={"AET": title, "Host": "127.0.0.1", "Port": port},
        ).raise_for_status()

    def series(self, study: str) -> dict[str, list[str]]:
        """{modality: SOP Instance UIDs} of a study."""
        found: dict[str, list[str]] = {}
        for one in self.ask("/tools/find", {"Level": "Instance", "Query": {"StudyInstanceUID": study}, "Expand": True}):
            series = self.ask(f"/series/{one['ParentSeries']}")
            found.setdefault(series["MainDicomTags"]["Modality"], []).append(one["MainDicomTags"]["SOPInstanceUID"])
        return found

    def file(self, uid: str) -> bytes:
        """An object's bytes."""
        [found] = self.ask("/tools/lookup", uid)
        return bytes(self.ask(f"/instances/{found['ID']}/file"))


@contextlib.contextmanager
def orthanc(folder: Path) -> Iterator[Orthanc]:
    """Orthanc with DICOMweb, title ORTHANC, its data in a folder; it ends with the block."""
    needed()
    made = Orthanc(free_port(), free_port())
    folder.mkdir(parents=True, exist_ok=True)
    [plugin] = PLACE.glob("usr/lib/orthanc/libOrthancDicomWeb.so.*")
    options = {
        "Name": "clinic", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
        "DicomAet": "ORTHANC", "DicomPort": made.dicom, "HttpPort": made.web, "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False, "DicomCheckCalledAet": True, "DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True,
        "DicomModalitiesInDatabase": True, "Plugins": [str(plugin)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "ConcurrentJobs": 1, "HttpThreadsCount": 4, "Locale": "C",
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(options))
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [str(PLACE / "usr/sbin/Orthanc"), str(folder / "orthanc.json")], env=_environment(), stdout=log, stderr=log
        )
    try:
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(httpx.HTTPError):
                made.ask("/system")
                break
            if process.poll() is not None or time.monotonic() > until:
                raise AssertionError((folder / "log").read_text()[-2000:])
            time.sleep(0.1)
        yield made
    finally:
        process.kill()
        process.wait()
