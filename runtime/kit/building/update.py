"""An update's kit: a whole kit's statement with only the pieces that an older kit lacks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from ...bundles.claim import scratch_folder
from ...errors import KitError
from ...progress import Progress, no_progress
from ...trust.trust import make_trust
from ..admission import by_trust
from ..layout import SIGNATURE, STATEMENT, Kit, Statement
from ..writing import Content, write_kit
from .makers import Makers

README = """THE MEDGE STATION: AN UPDATE ON A STICK

This stick brings version {counter} to computers on which version {base} runs, or still lies. It holds only what is new.

  1. Put the stick in. On the computer, open a terminal.
  2. For one user:           ~/.local/share/medge/current/bin/medge kit apply THIS-FOLDER
     For the whole machine:  sudo /opt/medge/current/bin/medge kit apply THIS-FOLDER

It checks its makers' signature, tests the new version beside the one that runs, and lets it run only where the test passes.
Studies, users and keys stay. The version before stays, too: "medge kit rollback" goes back to it.
You can pull the stick out at any moment. Put it in again and run the same command: it goes on where it stopped.
"""


@dataclass(frozen=True)
class Part:
    """How a component differs between two versions.

    Attributes:
        component: its name.
        carried: bytes that the update carries, of this component's files.
        whole: bytes of the component in the new version.
    """

    component: str
    carried: int
    whole: int


def parts(old: Statement, new: Statement) -> list[Part]:
    """What of each component an update carries; a content that two components have counts for the first."""
    seen = set(old.contents())
    carried = dict.fromkeys(new.components, 0)
    for entry in sorted(new.entries, key=lambda one: one.component):
        if entry.sha256 is not None and entry.sha256 not in seen:
            seen.add(entry.sha256)
            carried[entry.component] += entry.size or 0
    return [Part(name, carried[name], size) for name, size in new.components.items()]


def build_update(
    old: Statement, new: Kit, out: Path, makers: Makers, *, force: bool = False, progress: Progress = no_progress
) -> Kit:  # fmt: skip
    """Make an update.

    Args:
        old: what the kit holds that devices have.
        new: a whole kit of these makers.
        out: the update's folder.
        makers: sign it.
        force: replace a kit that lies there.
        progress: told of bytes.

    Raises:
        KitError: the new kit is not newer, for another machine, or not whole; the private key lies on the stick.
        TrustError: the new kit is not signed by these makers.
        StorageError: the file system refused.
    """
    makers.refuse_on_stick(out)
    if new.counter <= old.counter:
        raise KitError(
            f"{new.folder} is kit {new.counter}, which is no newer than {old.counter}; give the older one first"
        )
    if new.target != old.target:
        raise KitError(f"the older kit is for {old.target}, and {new.folder} is for {new.target}")
    if new.statement.base is not None or new.absent():
        raise KitError(f"{new.folder} is no whole kit; give the one that medge kit build has made")
    with scratch_folder() as scratch:  # what is signed here must have been these makers' already
        makers.public.write(scratch / "makers.pub")
        make_trust(scratch / "trust").add(scratch / "makers.pub")
        by_trust(new.folder / STATEMENT, new.folder / SIGNATURE, scratch / "trust")
    there = old.contents()
    pieces: dict[str, Content] = {
        sha256: new.piece(sha256) for sha256 in new.statement.contents() if sha256 not in there
    }
    statement = dataclasses.replace(new.statement, base=old.counter, beside={})
    beside: dict[str, Content] = {
        "README.txt": README.format(counter=new.counter, base=old.counter).encode(),
        **dict(makers.beside()),
    }
    return write_kit(out, statement, pieces, beside, makers.sign, force=force, progress=progress)
