"""What every document that leaves a station bears: who made it, when, and what a reader must know."""

from __future__ import annotations

from pydicom import Dataset

from ..store.arrivals import made_uid
from .codes import long_string
from .facts import Facts, Machine

MAKER = "medge"
NOT_A_DEVICE = "Not a medical device: a person has to look at every result."


def sr_series(study: str) -> str:
    """The UID of the series that a study's structured reports form."""
    return made_uid("medge structured reports", study)


def stamp(made: Dataset, facts: Facts) -> None:
    """Set an object's dates to the report's, in UTC, so that the same facts give the same bytes."""
    day, time = f"{facts.at:%Y%m%d}", f"{facts.at:%H%M%S}"
    made.ContentDate = made.SeriesDate = made.InstanceCreationDate = day
    made.ContentTime = made.SeriesTime = made.InstanceCreationTime = time
    made.TimezoneOffsetFromUTC = "+0000"


def equipment(machine: Machine) -> Dataset:
    """medge as contributing equipment: its version, the bundle and the bundle's hash."""
    said = "; ".join(
        part
        for part in (
            f"bundle {machine.bundle}" if machine.bundle else "no model",
            f"recipe {machine.recipe}" if machine.recipe else "",
            f"parity {machine.parity}" if machine.parity else "",
            f"manifest SHA-256 {machine.sha256}" if machine.sha256 else "",
            NOT_A_DEVICE,
        )
        if part
    )
    made, purpose = Dataset(), Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = "109102", "DCM", "Processing Equipment"
    made.PurposeOfReferenceCodeSequence = [purpose]
    made.Manufacturer, made.ManufacturerModelName = MAKER, long_string(machine.bundle) or "medge station"
    made.SoftwareVersions, made.ContributionDescription = long_string(f"medge {machine.version}"), said[:1024]
    if machine.sha256:
        made.DeviceSerialNumber = machine.sha256
    return made


def remarks(facts: Facts) -> str:
    """What a reader must know of how this came about."""
    said = [NOT_A_DEVICE]
    if facts.findings:
        said.append(
            f"Probabilities are of the bundle {facts.machine.bundle} (parity {facts.machine.parity or 'not stated'})."
        )
    if facts.reduced:
        said.append(f"Of {facts.reduced} images, each label's likeliest one is listed.")
    if not facts.report.signed:
        said.append("Draft: no person has signed this report.")
    elif facts.report.model:
        said.append(f"Drafted by {facts.report.model}, edited and signed by a person.")
    return " ".join(said)
