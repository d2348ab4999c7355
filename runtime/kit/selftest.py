"""A version tests itself on the device: golden results replayed, one study judged from end to end, and the store's tables.

Nothing of the station's own is touched: the study is a drawn one, in a store of its own; of the station's database, a copy is
brought up to date and looked at.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..bundles.bundle import Bundle
from ..bundles.claim import scratch_folder
from ..bundles.manifest import MANIFEST
from ..errors import MedgeError, one_line
from ..generator.planner import Device, Opening
from ..golden.phantom import phantom
from ..kinds import KINDS
from ..progress import Progress, no_progress
from ..station.reading.intake import CLASSIFY, REPORT
from ..station.store.audit import first_break
from ..station.store.database import Database
from .store import count_studies

_WHO = "selftest"
_STUDY = "2.25.1"  # a UID of nobody's


@dataclass(frozen=True)
class Tested:
    """One check.

    Attributes:
        what: was tested.
        good: it holds.
        note: what was found.
        seconds: that it took.
    """

    what: str
    good: bool
    note: str
    seconds: float


def selftest(bundles: Path, database: Path | None, progress: Progress = no_progress) -> Iterator[Tested]:
    """Test this version.

    Args:
        bundles: the folder that holds the bundles' folders.
        database: a copy of a station's database, which is brought up to date; None where there is none.
        progress: told of checks.
    """
    folders = sorted(path.parent for path in bundles.glob(f"*/{MANIFEST}"))
    total = len(folders) + 2
    for number, folder in enumerate(folders):
        progress("checks", number, total)
        yield _timed(f"golden results of {folder.name}", partial(_replayed, folder))
    progress("checks", len(folders), total)
    yield _timed("a study from end to end", partial(_study, bundles))
    if database is not None:
        yield _timed("the store's tables", partial(upgraded, database))
    progress("checks", total, total)


def _timed(what: str, check: Callable[[], tuple[bool, str]]) -> Tested:
    begun = time.perf_counter()
    try:
        good, note = check()
    except Exception as error:  # whatever it is: a version in which it happens does not work here
        good, note = False, one_line(error) if isinstance(error, MedgeError) else type(error).__name__
    return Tested(what, good, note, round(time.perf_counter() - begun, 2))


def _fits(bundle: Bundle) -> bool:
    return KINDS[bundle.manifest.kind].plan(bundle, Device.here(), Opening()).fits


def _replayed(folder: Path) -> tuple[bool, str]:
    bundle = Bundle.open(folder, verify=False)  # its files' hashes are in the kit's statement, and were checked
    if not _fits(bundle):
        return True, "does not fit this machine's memory, and is not used"
    rows = list(KINDS[bundle.manifest.kind].replay(bundle, "cpu"))
    bad = [
        f"{what}: {measured:.7g}, and at most {bound:g} is right" for what, measured, bound, good in rows if not good
    ]
    return not bad, "; ".join(bad) or f"{len(rows)} results"


def _study(bundles: Path) -> tuple[bool, str]:
    """A drawn study, through a station's own store, queue and workers."""
    from ..station.api.service import Service
    from ..station.models.catalogue import Catalogue
    from ..station.models.opening import BundleOpener
    from ..station.models.shelf import Shelf
    from ..station.station import Station
    from ..station.work.jobs import NewJob
    from ..station.work.worker import Worker

    catalogue = Catalogue.read(bundles)
    fitting = {name: one for name, one in catalogue.entries.items() if _fits(Bundle.open(one.folder, verify=False))}
    kind = CLASSIFY if any(one.kind == "encoder" for one in fitting.values()) else REPORT
    seeing = sorted(
        name for name, one in fitting.items() if (kind == CLASSIFY) == (one.kind == "encoder") and one.image_size
    )
    if not seeing:
        return False, "no bundle that judges pictures fits this machine"
    with scratch_folder() as scratch, Station.open(scratch / "store") as station:
        service = Service(catalogue, Shelf(BundleOpener()), station=station)
        wanted = NewJob(kind, {"model": seeing[0]})
        received = station.put(drawn_film(), who=_WHO, then=lambda instance: [wanted])
        handlers = {name: handler for lane in service.lanes() for name, handler in lane.items()}
        Worker(station.queue, handlers, poll=0.05).run_one(threading.Event())
        [job] = station.queue.list(study=_STUDY)
        result = station.result(job.id)
        if job.state != "done" or result is None:
            return False, f"the job is {job.state}: {job.reason}"
        with station.read(received.instance) as stream:
            whole = stream.read() == drawn_film()
        if broken := station.history_break():
            return False, broken.reason
    return whole, f"{seeing[0]} has done {kind}"


def drawn_film() -> bytes:
    """A DICOM file of a drawn picture, which belongs to nobody."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = ComputedRadiographyImageStorage, f"{_STUDY}.1.1"
    made.StudyInstanceUID, made.SeriesInstanceUID = _STUDY, f"{_STUDY}.1"
    made.PatientName, made.PatientID, made.Modality = "Selftest", "SELFTEST", "CR"
    picture = np.ascontiguousarray(phantom()[..., 0])
    made.Rows, made.Columns = picture.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    made.PixelData = picture.tobytes()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    stream = io.BytesIO()
    made.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def upgraded(path: Path) -> tuple[bool, str]:
    """Bring a database up to date and look at it: its history holds, and as many studies are there as before."""
    before = count_studies(path)
    database = Database(path, make=True)
    try:
        with database.read() as connection:
            broken = first_break(connection)
            after = int(connection.execute("SELECT count(*) FROM studies").fetchone()[0])
            said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    finally:
        database.close()
    if broken is not None:
        return False, broken.reason
    if said != "ok":
        return False, "the database is damaged"
    return after == before, f"{after} studies" if after == before else f"{before} studies before, {after} after"
