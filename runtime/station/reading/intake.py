"""Which jobs an object asks for when it comes."""

from __future__ import annotations

from ...pictures.dicom import NOT_PICTURES
from ..store.records import Instance
from ..work.jobs import NewJob

CLASSIFY, REPORT, DELIVER = "classify", "report", "deliver"  # kinds of jobs
SETTLE = 3.0  # seconds without a new object after which a series is taken to be whole


def jobs_for(instance: Instance) -> list[NewJob]:
    """The jobs that a new object asks for, for `Station.put(then=jobs_for)`.

    A series is judged by one job, which waits until no more of it comes. An object that comes once the job has begun asks for
    another. What holds no picture asks for none.
    """
    if not has_picture(instance):
        return []
    return [NewJob(CLASSIFY, {"series": instance.series}, key=f"{CLASSIFY} {instance.series}", settle=SETTLE)]


def has_picture(instance: Instance) -> bool:
    """Whether an object holds a picture of a patient, as far as its header says."""
    return instance.kind != "dicom" or (instance.rows is not None and instance.sop_class not in NOT_PICTURES)
