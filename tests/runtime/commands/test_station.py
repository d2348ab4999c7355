"""`medge station`: users, tokens, backup, restore and history, beside a running station and without one."""

from __future__ import annotations

import getpass
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import medge
from station_films import PNG

pytest.importorskip("argon2", reason="argon2-cffi is not installed: pip install 'medge[station]'")

from medge.runtime.station.station import Station

PASSWORD = "a sentence is a good one"


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes in a millisecond."""
    import argon2

    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(argon2, "PasswordHasher", lambda: cheap)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A station with an admin."""
    folder = tmp_path / "clinic"
    medge("station", "user", "add", folder, "Amina", "--role", "admin", said=f"{PASSWORD}\n")
    return folder


def facts(*words: object, said: str = "", code: int = 0) -> Any:
    return json.loads(medge("station", *words, "--json", said=said, code=code).stdout)


def test_users(store: Path) -> None:
    said = facts("user", "add", store, "Rui", "--role", "reader", said=f"{PASSWORD}\n")
    assert (said["user"], said["role"], said["locked_now"]) == ("Rui", "reader", False)
    assert [(one["name"], one["role"]) for one in facts("user", "list", store)["results"]] == [
        ("Amina", "admin"),
        ("Rui", "reader"),
    ]
    assert "Rui" in medge("station", "user", "list", store).stdout
    assert facts("user", "password", store, "rui", said="another good sentence\n") | {"schema_version": 0} == {
        "schema_version": 0, "user": "Rui", "password_set": True,
    }  # fmt: skip
    with Station.join(store) as station:
        assert station.doors.login("Rui", "another good sentence", "127.0.0.1").user.role == "reader"
    assert "Rui is no user any more" in medge("station", "user", "remove", store, "RUI").stdout
    assert "is the last admin" in medge("station", "user", "remove", store, "Amina", code=1).stderr
    gone = medge("station", "user", "remove", store, "Amina", "--unlock")
    assert "no user is left" in gone.stderr
    assert "no users: the station answers everybody on its machine" in medge("station", "user", "list", store).stdout


@pytest.mark.parametrize(
    ("words", "said", "why"),
    [
        (("Rui", "--role", "king"), f"{PASSWORD}\n", "there is no role 'king'"),
        (("Rui",), "", "standard input holds no password"),
        (("Rui",), "short\n", "12 to 256"),
        (("amina",), f"{PASSWORD}\n", "there is a user 'amina' already"),
        (("\x1b[31mRui",), f"{PASSWORD}\n", "signs that can't be seen"),
    ],
)
def test_what_is_refused(store: Path, words: tuple[str, ...], said: str, why: str) -> None:
    done = medge("station", "user", "add", store, *words, said=said, code=1)
    assert why in " ".join(done.stderr.split())
    assert "\x1b" not in done.stderr
    assert len(facts("user", "list", store)["results"]) == 1


def test_a_password_is_never_an_argument(store: Path) -> None:
    for command in ("add", "password"):
        assert "--password" not in medge("station", "user", command, "--help").stdout
        medge("station", "user", command, store, "Rui", PASSWORD, code=2)


def test_a_typed_password_is_asked_for_twice_and_not_shown(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from medge.runtime.commands.station.stores import asked_password
    from medge.runtime.errors import StationError

    typed = [PASSWORD, PASSWORD, PASSWORD, "something else"]
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(getpass, "getpass", lambda prompt: typed.pop(0))
    assert asked_password("Rui") == PASSWORD
    with pytest.raises(StationError, match="the two passwords differ"):
        asked_password("Rui")
    assert PASSWORD not in "".join(capsys.readouterr())


def test_tokens(store: Path) -> None:
    told = facts("token", "add", store, "ris", "--role", "reader", "--days", 30)
    done = medge("station", "token", "add", store, "notebook")
    assert done.stdout.startswith("medge_")
    assert done.stdout.strip() not in done.stderr
    with Station.join(store) as station:
        found = station.doors.enter(token=told["token"], cookie=None)
        assert found is not None
        assert (found.user.name, found.user.role) == ("token:ris", "reader")
        assert station.doors.enter(token=done.stdout.strip(), cookie=None) is not None
    listed = medge("station", "token", "list", store, "--json").stdout
    assert [one["name"] for one in json.loads(listed)["results"]] == ["notebook", "ris"]
    assert told["token"] not in listed
    assert facts("token", "remove", store, "RIS")["name"] == "ris"
    assert "there is no token of that name" in medge("station", "token", "remove", store, "ris", code=1).stderr


def test_commands_work_beside_a_running_station_which_knows_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "clinic"
    with Station.open(folder) as station:
        assert not station.doors.locked()
        medge("station", "user", "add", folder, "Amina", "--role", "admin", said=f"{PASSWORD}\n")
        assert station.doors.locked()
        assert facts("backup", folder, tmp_path / "copy")["objects"] == 0


def test_a_backup_is_restored_with_users_tokens_and_history(store: Path, tmp_path: Path) -> None:
    with Station.open(store) as station:
        station.put(PNG, who="test")
    token = facts("token", "add", store, "ris")["token"]
    first, second = facts("backup", store, tmp_path / "copy"), facts("backup", store, tmp_path / "copy")
    assert (first["objects"], first["new"], second["objects"], second["new"]) == (1, 1, 1, 0)
    assert facts("restore", tmp_path / "copy", tmp_path / "other")["objects"] == 1
    assert (
        "exists; choose another place"
        in medge("station", "restore", tmp_path / "copy", tmp_path / "other", code=1).stderr
    )
    with Station.join(tmp_path / "other") as station:
        assert station.doors.enter(token=token, cookie=None) is not None
        assert station.doors.login("Amina", PASSWORD, "127.0.0.1").user.role == "admin"
    told = facts("audit", tmp_path / "other", "--limit", 3)
    assert [one["action"] for one in told["results"]] == ["backed up", "restored from a backup", "logged in"]
    assert told["results"][1]["who"] == f"command:{getpass.getuser()}"


def test_the_history_is_printed_and_its_chain_checked(store: Path) -> None:
    facts("token", "add", store, "ris")
    facts("token", "remove", store, "ris")
    told = facts("audit", store, "--what", "ris")
    assert (told["whole"], told["entries"]) == (True, 3)
    assert [one["action"] for one in told["results"]] == ["added a token", "removed a token"]
    page = medge("station", "audit", store, "--limit", 1).stdout
    assert "removed a token ris" in page
    assert "added a token" not in page
    assert f"3 entries, nothing changed; last hash {told['hash']}" in page
    with sqlite3.connect(store / "station.sqlite") as connection:
        connection.execute("DROP TRIGGER audit_holds")
        connection.execute("UPDATE audit SET who = 'somebody else' WHERE id = 2")
    connection.close()
    broken = medge("station", "audit", store, "--json", code=1)
    assert json.loads(broken.stdout)["break"] == {"id": 2, "reason": "entry 2 was changed after it was written"}
    assert "the audit log does not hold" in broken.stderr


@pytest.mark.parametrize(
    "words",
    [("user", "list"), ("user", "remove", "x"), ("token", "list"), ("token", "add", "x"), ("audit",), ("backup", "to")],
)
def test_where_there_is_no_station(tmp_path: Path, words: tuple[str, ...]) -> None:
    place = 2 if words[0] in ("user", "token") else 1
    given = [*words[:place], tmp_path / "nowhere", *(tmp_path / one if one == "to" else one for one in words[place:])]
    assert "holds no station" in medge("station", *given, code=1).stderr
    assert not (tmp_path / "nowhere").exists()
