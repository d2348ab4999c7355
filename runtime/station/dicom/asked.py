"""What a PACS is asked and says, whichever way it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import StationError
from ...json_text import flattened
from .peers import ae_title

_LONGEST = 256


@dataclass(frozen=True)
class Pacs:
    """Where the clinic's PACS is.

    Attributes:
        title: its AE title.
        host: its name or address.
        port: of its DICOM node.
        ours: how this station calls itself.
        web: its DICOMweb root, such as "http://10.0.0.2:8042/dicom-web"; where it is set, it is used in the node's place.
        token: sent to the DICOMweb root as bearer token; "" for none.
    """

    title: str = ""
    host: str = ""
    port: int = 104
    ours: str = "MEDGE"
    web: str = ""
    token: str = ""

    @classmethod
    def of(cls, setting: Any) -> Pacs | None:
        """The setting "pacs" of a station: an object with these names; None where it was never set.

        Raises:
            StationError: it is something else.
        """
        if setting is None:
            return None
        if not isinstance(setting, dict) or not set(setting) <= set(cls.__annotations__):
            raise StationError(f"the setting 'pacs' is an object with the names {', '.join(cls.__annotations__)}")
        given: dict[str, Any] = {name: str(value) for name, value in setting.items() if name != "port"}
        try:
            return cls(**given, port=int(setting.get("port", cls.port)))
        except (TypeError, ValueError) as error:
            raise StationError("the port of the setting 'pacs' is no number") from error

    def __post_init__(self) -> None:
        ae_title(self.ours)
        if self.web:
            if not self.web.startswith(("http://", "https://")):
                raise StationError("the PACS's DICOMweb root begins with http:// or https://")
        elif not self.host or not 0 < self.port < 65536:
            raise StationError("the PACS needs a host and a port, or a DICOMweb root")
        else:
            ae_title(self.title)


@dataclass(frozen=True)
class Sought:
    """Which studies; "" chooses nothing. `*` and `?` stand for any letters or one.

    Attributes:
        patient_name, patient_id, accession, modality, uid: of the study.
        date: YYYYMMDD, or a range YYYYMMDD-YYYYMMDD with either end left out.
        limit: how many at most.
    """

    patient_name: str = ""
    patient_id: str = ""
    accession: str = ""
    modality: str = ""
    uid: str = ""
    date: str = ""
    limit: int = 100

    def attributes(self) -> dict[str, str]:
        """By keyword of the standard."""
        return {
            "PatientName": self.patient_name, "PatientID": self.patient_id, "AccessionNumber": self.accession,
            "ModalitiesInStudy": self.modality, "StudyInstanceUID": self.uid, "StudyDate": self.date,
        }  # fmt: skip


# What an answer is to hold beside what was sought for.
RETURNED = ("PatientBirthDate", "PatientSex", "StudyTime", "StudyDescription", "NumberOfStudyRelatedInstances")


@dataclass(frozen=True)
class Found:
    """A study that a PACS has; what it does not say is "" or None.

    Attributes:
        uid, patient_name, patient_id, birth_date, sex, date, time, accession, description: as in `store.records.Study`.
        modalities: of its series.
        instances: how many objects.
    """

    uid: str
    patient_name: str = ""
    patient_id: str = ""
    birth_date: str = ""
    sex: str = ""
    date: str = ""
    time: str = ""
    accession: str = ""
    description: str = ""
    modalities: tuple[str, ...] = ()
    instances: int | None = None

    @classmethod
    def of(cls, values: dict[str, Any]) -> Found:
        """From values by keyword of the standard; a value may be a list."""

        def text(name: str) -> str:
            value = values.get(name)
            return "" if value is None else flattened(str(value), _LONGEST)

        modalities = values.get("ModalitiesInStudy") or ()
        if isinstance(modalities, str) or not isinstance(modalities, Sequence):
            modalities = (modalities,)
        count = text("NumberOfStudyRelatedInstances")
        return cls(
            text("StudyInstanceUID"), text("PatientName"), text("PatientID"), text("PatientBirthDate"), text("PatientSex"),
            text("StudyDate"), text("StudyTime"), text("AccessionNumber"), text("StudyDescription"),
            tuple(str(one) for one in modalities), int(count) if count.isascii() and count.isdigit() else None,
        )  # fmt: skip


@dataclass(frozen=True)
class Fetched:
    """What came of a study that was fetched.

    Attributes:
        stored: objects that the station has now, those included that it had before.
        failed: how many objects the PACS could not send, or the station not take.
        reason: why, of the last of them; "" where none failed.
    """

    stored: int
    failed: int = 0
    reason: str = ""
