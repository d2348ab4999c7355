"""Which version of a report may leave the station."""

from __future__ import annotations

from ..station import Station
from ..store.reports import latest
from .facts import SignedReport


def outgoing(station: Station, study: str) -> SignedReport | None:
    """The newest version that was released; where the clinic lets drafts go out (the setting "deliver_unsigned") and none was
    released, the newest.

    Args:
        station: which holds the study.
        study: its UID.

    Returns:
        None where there is none: a report that was signed and not yet released stays.
    """
    unsigned = bool(station.setting("deliver_unsigned", False))
    with station.database.read() as connection:
        row = connection.execute(
            "SELECT study, version, text, author, model, signed_by, signed_at, released_at FROM reports "
            "WHERE study = ? AND released_at IS NOT NULL ORDER BY version DESC LIMIT 1",
            (study,),
        ).fetchone()
        if row is not None:
            return SignedReport(*row)
        newest = latest(connection, study) if unsigned else None
    if newest is None or newest.signed_at is not None:
        return None
    return SignedReport(newest.study, newest.version, newest.text, newest.author, newest.model)
