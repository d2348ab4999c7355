"""Updates, the way back, and what a device refuses: The Update Framework's attacks, as far as they apply without a network."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import threading
from pathlib import Path

import kits
import pytest
from kits import Behaviour, bring, installed, make_kit

from medge.runtime.errors import KitError, TrustError
from medge.runtime.kit.change import problems, rollback
from medge.runtime.kit.installation import Installation
from medge.runtime.kit.layout import STATEMENT, Kit
from medge.runtime.station.station import Station
from medge.runtime.station.store.schema import STEPS

NEWER = len(STEPS) + 1


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    """An installation that runs version 1."""
    made = installed(tmp_path / "prefix")
    make_kit(tmp_path / "one", 1)
    bring(made, tmp_path / "one")
    return made


def what(here: Installation) -> list[tuple[int, str]]:
    return [(one.counter, one.what) for one in here.state.history]


def test_an_update_shares_what_is_the_same_and_keeps_the_version_before(here: Installation, tmp_path: Path) -> None:
    before = kits.own(here)
    make_kit(tmp_path / "two", 2)
    changed = bring(here, tmp_path / "two")
    assert (changed.before, changed.counter, here.current(), here.counters()) == (1, 2, 2, [1, 2])
    model = "bundles/eyes/model.onnx"
    assert (here.folder(1) / model).samefile(here.folder(2) / model)
    assert not (here.folder(1) / "docs/index.html").samefile(here.folder(2) / "docs/index.html")
    assert changed.laid is not None
    assert changed.laid.linked > 30_000 > changed.laid.copied
    assert (what(here), here.state.highest, here.state.pending) == ([(1, "installed"), (2, "updated")], 2, None)
    make_kit(tmp_path / "three", 3)
    bring(here, tmp_path / "three")
    assert here.counters() == [2, 3]  # the last two
    assert kits.own(here) == before
    assert problems(here) == kits.leftovers(here) == []


def test_an_update_kit_carries_only_what_its_base_lacks(here: Installation, tmp_path: Path) -> None:
    make_kit(tmp_path / "two", 2, base=1, without=here.version(1))
    pieces = [path for path in (tmp_path / "two" / "pieces").rglob("*") if path.is_file()]
    assert len(pieces) == 2  # the behaviour, and a page
    bring(here, tmp_path / "two")
    assert problems(here) == []
    other = installed(tmp_path / "other")
    with pytest.raises(KitError, match="an update of version 1, and the versions here are none"):
        bring(other, tmp_path / "two")


def test_a_base_that_is_damaged_is_not_linked_into_the_new_version(here: Installation, tmp_path: Path) -> None:
    kit = make_kit(tmp_path / "two", 2, base=1, without=here.version(1))
    model = here.folder(1) / "bundles/eyes/model.onnx"
    model.write_bytes(b"W" + model.read_bytes()[1:])
    with pytest.raises(KitError, match="can't be read"):  # the stick hasn't got it
        bring(here, tmp_path / "two")
    assert here.current() == 1
    shutil.rmtree(kit.folder)
    make_kit(tmp_path / "two", 2)
    bring(here, tmp_path / "two")
    assert problems(here) == []


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (Behaviour(good=False), "golden results: 0.9, and at most 0.1 is right"),
        (Behaviour(aside=False), "nothing was changed"),
        (Behaviour(current=False), "version 1 runs again"),
        (Behaviour(migrates=False), "the store: what it says"),
        (Behaviour(current=False, schema=NEWER), "version 1 runs again"),
        (Behaviour(migrates=False, schema=NEWER), "version 1 runs again"),
    ],
)
def test_a_version_that_fails_its_self_test_leaves_the_one_before(
    here: Installation, tmp_path: Path, behaviour: Behaviour, why: str
) -> None:
    before = kits.own(here)
    make_kit(tmp_path / "two", 2, behaviour)
    with pytest.raises(KitError, match=why):
        bring(here, tmp_path / "two")
    assert (here.current(), here.counters(), here.state.highest, here.state.pending) == (1, [1], 1, None)
    assert what(here)[-1] == (2, "failed its self-test")
    assert (kits.broken(here, before, {1}), kits.schema_here(here)) == ([], len(STEPS))
    make_kit(tmp_path / "better", 2)  # the same number: it never ran
    bring(here, tmp_path / "better")
    assert here.current() == 2


def test_a_first_version_that_fails_where_it_runs(tmp_path: Path) -> None:
    here = installed(tmp_path / "prefix")
    make_kit(tmp_path / "one", 1, Behaviour(current=False))
    with pytest.raises(KitError, match="no version runs"):
        bring(here, tmp_path / "one")
    assert (here.current(), here.counters()) == (None, [])


def test_a_version_whose_python_can_not_run(here: Installation, tmp_path: Path) -> None:
    make_kit(tmp_path / "two", 2, more={"python/bin/python3.12": b"#!/nowhere/python\n"})
    with pytest.raises(KitError, match="version 2 failed its self-test .* can't be run"):
        bring(here, tmp_path / "two")
    make_kit(tmp_path / "three", 3, more={"python/bin/python3.12": b"#!/bin/sh\necho no such module >&2; exit 3\n"})
    with pytest.raises(KitError, match="ended with 3 and gave no answer: no such module"):
        bring(here, tmp_path / "three")
    assert here.current() == 1


def test_tables_are_changed_with_a_backup_and_come_back(here: Installation, tmp_path: Path) -> None:
    before = kits.own(here)
    make_kit(tmp_path / "two", 2, Behaviour(schema=NEWER))
    bring(here, tmp_path / "two")
    assert kits.schema_here(here) == NEWER
    assert [path.name for path in here.backups.iterdir()] == ["before-2"]
    changed = rollback(here)
    assert (changed.counter, here.current(), kits.schema_here(here)) == (1, 1, len(STEPS))
    assert kits.own(here) == before
    with Station.open(here.store) as station:  # the version before really reads it
        assert len(station.studies()) == 1
        assert station.history_break() is None
    bring(here, tmp_path / "two")  # and forward again
    assert (here.current(), kits.schema_here(here), here.state.highest) == (2, NEWER, 2)


def test_no_way_back_over_studies_that_came_since(here: Installation, tmp_path: Path) -> None:
    make_kit(tmp_path / "two", 2, Behaviour(schema=NEWER, enters=True))
    bring(here, tmp_path / "two")
    with pytest.raises(KitError, match="has 1 entries since the update changed its tables"):
        rollback(here)
    assert (here.current(), kits.schema_here(here)) == (2, NEWER)
    # Where tables are the same, studies that came since are no hindrance.
    make_kit(tmp_path / "three", 3, Behaviour(schema=NEWER, enters=True))
    bring(here, tmp_path / "three")
    assert rollback(here).counter == 2


def test_no_way_back_to_nothing_or_to_what_is_damaged(here: Installation, tmp_path: Path) -> None:
    with pytest.raises(KitError, match="no older version"):
        rollback(here)
    make_kit(tmp_path / "two", 2)
    bring(here, tmp_path / "two")
    (here.folder(1) / "docs/index.html").write_text("changed")
    with pytest.raises(KitError, match="version 1 is not whole any more .docs/index.html was changed"):
        rollback(here)
    assert here.current() == 2


def test_a_running_station_is_not_pulled_away(here: Installation, tmp_path: Path) -> None:
    make_kit(tmp_path / "two", 2)
    opened, over = threading.Event(), threading.Event()

    def run() -> None:
        with Station.open(here.store):
            opened.set()
            over.wait(60)

    station = threading.Thread(target=run)
    station.start()
    opened.wait(60)
    try:
        with pytest.raises(KitError, match="is running; end it"):
            bring(here, tmp_path / "two")
    finally:
        over.set()
        station.join()
    assert (here.current(), here.state.pending) == (1, None)
    bring(here, tmp_path / "two")  # what was laid out and tested is there
    assert here.current() == 2


def test_two_at_once(here: Installation, tmp_path: Path) -> None:
    make_kit(tmp_path / "two", 2)
    refused: list[str] = []

    def second() -> None:
        try:
            bring(Installation.open(here.prefix), tmp_path / "two")
        except KitError as error:
            refused.append(str(error))

    with here.alone():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert "being changed by another medge" in refused[0]


def test_systemd_is_told(here: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(f'#!/bin/sh\necho "$*" >> {log}\nreadlink {here.prefix}/current >> {log}\n')
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{systemctl.parent}:{os.environ['PATH']}")
    here.save(unit="medge-station.service", scope="user")
    make_kit(tmp_path / "two", 2)
    bring(here, tmp_path / "two")
    stop, start = "--user stop medge-station.service", "--user start medge-station.service"
    assert log.read_text().splitlines() == [stop, "versions/1", start, "versions/2"]
    systemctl.write_text("#!/bin/sh\necho no bus >&2\nexit 1\n")
    make_kit(tmp_path / "three", 3)
    with pytest.raises(KitError, match="stop medge-station.service failed: no bus"):
        bring(here, tmp_path / "three")
    assert here.current() == 2


# The Update Framework's attacks.


def test_rollback_attack(here: Installation, tmp_path: Path) -> None:
    make_kit(tmp_path / "two", 2)
    bring(here, tmp_path / "two")
    with pytest.raises(KitError, match="number 1, and number 2 has run here"):
        bring(here, tmp_path / "one")
    make_kit(tmp_path / "another", 2, more={"docs/more.html": b"another kit with the same number"})
    with pytest.raises(KitError, match="another kit with that number"):
        bring(here, tmp_path / "another")
    rollback(here)  # on purpose, to what is here; what is on sticks is still measured by the highest
    with pytest.raises(KitError, match="number 1, and number 2 has run here"):
        bring(here, tmp_path / "one")


def test_arbitrary_software_attack(here: Installation, tmp_path: Path) -> None:
    make_kit(tmp_path / "two", 2)
    seen = []

    def refusing(path: Path, signature: Path, folder: Path) -> str:
        seen.append(path)
        raise TrustError(f"{path} is signed by nobody whom this device trusts")

    with pytest.raises(TrustError, match="nobody whom"):
        kits.apply(here, tmp_path / "two", refusing, clock=kits.TODAY)
    assert here.counters() == [1]
    assert here.prefix in seen[0].parents  # a copy is checked, not what lies on the stick


def test_a_statement_that_changes_after_it_was_checked(here: Installation, tmp_path: Path) -> None:
    stick = tmp_path / "two"
    make_kit(stick, 2)
    evil = make_kit(tmp_path / "evil", 2, more={"docs/evil.html": b"evil"})

    def swapping(path: Path, signature: Path, folder: Path) -> str:
        shutil.copy(evil.folder / STATEMENT, stick / STATEMENT)
        return "the makers"

    kits.apply(here, stick, swapping, clock=kits.TODAY)
    assert not (here.folder(2) / "docs/evil.html").exists()
    assert problems(here) == []


@pytest.mark.parametrize("change", ["another content", "another kit's", "a link", "longer", "missing", "endless"])
def test_mix_and_match_and_endless_data_attacks(here: Installation, tmp_path: Path, change: str) -> None:
    kit = make_kit(tmp_path / "two", 2)
    new = next(entry for entry in kit.entries if entry.path == "docs/index.html")
    assert new.sha256 is not None
    piece = kit.piece(new.sha256)
    if change == "another content":
        piece.write_bytes(b"<p>9</p>"[: new.size])
    elif change == "another kit's":
        other = make_kit(tmp_path / "three", 3)
        shutil.copy(other.piece(next(e.sha256 for e in other.entries if e.path == new.path) or ""), piece)
    elif change == "a link":
        piece.unlink()
        piece.symlink_to("/etc/passwd")
    elif change == "longer":
        piece.write_bytes(piece.read_bytes() + b" ")
    elif change == "missing":
        piece.unlink()
    else:
        with piece.open("r+b") as stream:
            stream.truncate(1 << 40)  # a terabyte of nothing
    with pytest.raises(KitError, match=piece.name):
        bring(here, tmp_path / "two")
    assert (here.current(), here.counters(), problems(here)) == (1, [1], [])


def test_endless_statement(here: Installation, tmp_path: Path) -> None:
    make_kit(tmp_path / "two", 2)
    with (tmp_path / "two" / STATEMENT).open("r+b") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(KitError, match="has more than"):
        bring(here, tmp_path / "two")


def test_freeze_attack_and_a_clock_that_is_wrong(here: Installation, tmp_path: Path) -> None:
    make_kit(tmp_path / "two", 2, expires="2026-06-01T00:00:00Z")
    with pytest.raises(KitError, match="expired on 01 June 2026, and this machine's clock says 27 November 2026"):
        bring(here, tmp_path / "two")
    bring(here, tmp_path / "two", allow_expired=True)
    # What is known without a clock can't be waved through: a kit that ran here was made after this one had expired.
    make_kit(tmp_path / "late", 3, created="2026-09-01T00:00:00Z")
    bring(here, tmp_path / "late")
    make_kit(tmp_path / "stale", 4, expires="2026-06-01T00:00:00Z")
    with pytest.raises(KitError, match="before a kit that has run here was even made"):
        bring(here, tmp_path / "stale", allow_expired=True, clock=kits.TODAY.replace(year=1970))


def test_wrong_software(here: Installation, tmp_path: Path) -> None:
    make_kit(tmp_path / "two", 2, target="linux-aarch64" if here.state.target == "linux-x86_64" else "linux-x86_64")
    with pytest.raises(KitError, match="the kit is for linux"):
        bring(here, tmp_path / "two")


def test_extraneous_files_stay_on_the_stick(here: Installation, tmp_path: Path) -> None:
    kit = make_kit(tmp_path / "two", 2)
    (kit.folder / "pieces" / "zz").mkdir()
    (kit.folder / "pieces" / "zz" / "autorun.sh").write_text("evil")
    (kit.folder / "packages").mkdir()
    (kit.folder / "packages" / "sitecustomize.py").write_text("evil")
    bring(here, tmp_path / "two")
    assert problems(here) == []
    assert not (here.folder(2) / "packages" / "sitecustomize.py").exists()


def test_a_stick_that_is_pulled_out_and_put_in_again(
    here: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = make_kit(tmp_path / "two", 2, more={f"docs/{number}.html": b"%d" % number for number in range(20)})
    gone = next(entry.sha256 for entry in kit.entries if entry.path == "docs/9.html") or ""
    content = kit.piece(gone).read_bytes()
    kit.piece(gone).unlink()
    with monkeypatch.context() as patch, pytest.raises(KitError, match="is the stick in its place"):
        patch.setattr(Kit, "absent", lambda self: {})  # it is pulled out after the first look
        bring(here, tmp_path / "two")
    kit.piece(gone).write_bytes(content)
    changed = bring(here, tmp_path / "two")
    assert changed.laid is not None
    assert changed.laid.kept > 0
    assert (here.current(), problems(here), kits.leftovers(here)) == (2, [], [])


def test_the_state_is_read_strictly(here: Installation) -> None:
    path = here.prefix / "state.json"
    good = json.loads(path.read_text())
    for change in ({"highest": -1}, {"target": "amiga"}, {"more": 1}, {"device": "ann"}):
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(KitError, match="install anew"):
            Installation.open(here.prefix)
    path.write_text(json.dumps(good))
    assert dataclasses.asdict(Installation.open(here.prefix).state)["highest"] == 1
    (here.prefix / "current").unlink()
    (here.prefix / "current").symlink_to("/etc")
    with pytest.raises(KitError, match="leads to no version"):
        here.current()
