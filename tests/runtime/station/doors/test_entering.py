"""Who enters: users, sessions, tokens, and those who guess."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("argon2", reason="argon2-cffi is not installed: pip install 'medge[station]'")
pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")

from station_doors import PASSWORD, Clock, doors_at, fast, with_users

from medge.runtime.errors import StationError, StationFullError
from medge.runtime.station.doors import attempts, sessions
from medge.runtime.station.doors.doors import Doors, LoginError, LoginWaitError
from medge.runtime.station.doors.passwords import Passwords
from medge.runtime.station.doors.roles import User, checked_name
from medge.runtime.station.store import audit
from medge.runtime.station.store.database import Database

HERE = "192.168.1.7"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def doors(tmp_path: Path, clock: Clock) -> Doors:
    return with_users(doors_at(tmp_path, clock))


def wrong(doors: Doors, name: str = "Amina", address: str = HERE) -> None:
    with pytest.raises(LoginError, match="the name or the password is wrong"):
        doors.login(name, "not the password", address)


def entries(doors: Doors) -> list[tuple[str, str, str]]:
    with doors._database.read() as connection:
        assert audit.first_break(connection) is None
        return [(one.who, one.action, one.what) for one in reversed(audit.entries(connection))]


def test_a_user_logs_in_and_out_and_the_log_says_so(doors: Doors) -> None:
    session = doors.login("AMINA", PASSWORD, HERE)
    assert session.user == User("Amina", "admin")
    found = doors.enter(token=None, cookie=session.secret)
    assert found is not None
    assert found.user == session.user
    assert found.session is not None
    assert found.session.csrf == session.csrf != session.secret
    doors.logout(session)
    assert doors.enter(token=None, cookie=session.secret) is None
    assert entries(doors)[-2:] == [("Amina", "logged in", ""), ("Amina", "logged out", "")]


def test_neither_passwords_nor_what_enters_is_kept(doors: Doors, tmp_path: Path) -> None:
    session = doors.login("Amina", PASSWORD, HERE)
    _, token = doors.add_token("ris", "reader", who="Amina")
    with pytest.raises(LoginError):
        doors.login("my secret password typed as a name", "x", HERE)
    with sqlite3.connect(tmp_path / "station.sqlite") as connection:
        kept = "\n".join(connection.iterdump())
    connection.close()
    assert "$argon2id$" in kept
    for secret in (PASSWORD, session.secret, session.csrf, token, token.removeprefix("medge_"), "typed as a name"):
        assert secret not in kept


def test_the_default_hash_is_argon2id_as_rfc_9106_says() -> None:
    kept = Passwords().hash(PASSWORD)
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert Passwords().fits(kept, PASSWORD)


def test_a_hash_of_other_parameters_is_made_anew_at_a_login(doors: Doors, tmp_path: Path, clock: Clock) -> None:
    stronger = Doors(doors._database, fast(memory=16), clock)
    stronger.login("Amina", PASSWORD, HERE)
    with doors._database.read() as connection:
        [kept] = connection.execute("SELECT password FROM users WHERE name = 'Amina'").fetchone()
    assert "m=16" in kept
    stronger.login("Amina", PASSWORD, HERE)


def test_a_password_is_the_same_from_every_keyboard(doors: Doors) -> None:
    doors.set_password("Amina", "M\u00fcller geht zum Markt", who="test")
    assert doors.login("Amina", "Mu\u0308ller geht zum Markt", HERE).user.name == "Amina"
    wrong(doors)
    with pytest.raises(LoginError):
        doors.login("Amina", "\ud800", HERE)


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("short", "12 to 256"),
        ("x" * 257, "12 to 256"),
        ("aaaabbbbaaaabbbb", "too few"),
        ("I am AMINA, hello", "user's name"),
    ],
)
def test_a_weak_password_is_refused(doors: Doors, password: str, why: str) -> None:
    with pytest.raises(StationError, match=why):
        doors.set_password("Amina", password, who="test")


@pytest.mark.parametrize(
    "name",
    ["", "x" * 65, " Amina2", "a  b", "a\nb", "a\x1b[31mb", "a\u202eb", "a\u200bb", "token:x", "local", "STATION", "\uff33tation",
     "amina", "\uff21mina", "a\ud800"],
)  # fmt: skip
def test_a_name_that_could_deceive_is_refused(doors: Doors, name: str) -> None:
    with pytest.raises(StationError):
        doors.add_user(name, PASSWORD, "viewer", who="test")
    assert len(doors.users()) == 3


def test_names_of_all_peoples_are_taken() -> None:
    for name in ("Dr. Amina Diallo", "王小明", "José O'Neill", "<b>Bob</b>; DROP TABLE users --"):
        assert checked_name(name) == name


def test_the_first_user_is_an_admin_and_the_last_stays(tmp_path: Path, clock: Clock) -> None:
    doors = doors_at(tmp_path, clock)
    assert not doors.locked()
    with pytest.raises(StationError, match="the first user has to be an admin"):
        doors.add_user("Rui", PASSWORD, "reader", who="test")
    with pytest.raises(StationError, match="no users, so that no token"):
        doors.add_token("ris", "reader", who="test")
    with_users(doors)
    assert doors.locked()
    for unlock in (False, True):
        with pytest.raises(StationError, match="the last admin; add another first"):
            doors.remove_user("Amina", who="test", unlock=unlock)
    doors.remove_user("Rui", who="test")
    doors.remove_user("Wanjiru", who="test")
    _, token = doors.add_token("ris", "reader", who="test")
    with pytest.raises(StationError, match="--unlock"):
        doors.remove_user("Amina", who="test")
    assert doors.remove_user("amina", who="test", unlock=True) == "Amina"
    assert not doors.locked()
    assert doors.enter(token=token, cookie=None) is None
    assert entries(doors)[-1] == ("test", "unlocked the station", "")


def test_sessions_end_when_idle_and_in_any_case(doors: Doors, clock: Clock) -> None:
    session = doors.login("Amina", PASSWORD, HERE)
    for _ in range(int(sessions.WHOLE / 1200)):
        assert doors.enter(token=None, cookie=session.secret) is not None
        clock.at += 1200
    assert doors.enter(token=None, cookie=session.secret) is None
    idle = doors.login("Amina", PASSWORD, HERE)
    clock.at += sessions.IDLE - 1
    assert doors.enter(token=None, cookie=idle.secret, awake=False) is not None  # a page that looks by itself
    clock.at += 2
    assert doors.enter(token=None, cookie=idle.secret) is None


def test_who_has_logged_in_gets_in_while_the_disk_is_full(
    doors: Doors, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = doors.login("Amina", PASSWORD, HERE)
    _, token = doors.add_token("ris", "reader", who="Amina")
    clock.at += 600

    def full(*_: object, **__: object) -> None:
        raise StationFullError("no space left")

    monkeypatch.setattr(doors._database, "write", full)
    assert doors.enter(token=None, cookie=session.secret) is not None
    assert doors.enter(token=token, cookie=None) is not None
    with pytest.raises(StationFullError):
        doors.logout(session)


def test_a_clock_that_is_put_back_ends_sessions(doors: Doors, clock: Clock) -> None:
    session = doors.login("Amina", PASSWORD, HERE)
    clock.at -= 3600
    assert doors.enter(token=None, cookie=session.secret) is None


def test_a_password_change_and_a_removal_end_sessions(doors: Doors) -> None:
    changed, gone = doors.login("Rui", PASSWORD, HERE), doors.login("Wanjiru", PASSWORD, HERE)
    doors.set_password("Rui", "another good sentence", who="test")
    doors.remove_user("Wanjiru", who="test")
    assert doors.enter(token=None, cookie=changed.secret) is None
    assert doors.enter(token=None, cookie=gone.secret) is None


def test_a_user_has_so_many_sessions(doors: Doors, clock: Clock) -> None:
    first = doors.login("Rui", PASSWORD, HERE)
    for _ in range(sessions.MOST):
        clock.at += 1
        doors.login("Rui", PASSWORD, HERE)
    assert doors.enter(token=None, cookie=first.secret) is None
    with doors._database.read() as connection:
        assert connection.execute("SELECT count(*) FROM sessions").fetchone()[0] == sessions.MOST


def test_a_token_enters_until_it_ends_or_is_removed(doors: Doors, clock: Clock) -> None:
    _, forever = doors.add_token("ris", "reader", who="Amina")
    _, day = doors.add_token("visit", "viewer", who="Amina", days=1)
    found = doors.enter(token=forever, cookie=None)
    assert found is not None
    assert (found.user, found.session) == (User("token:ris", "reader"), None)
    assert {one.name: one.used for one in doors.tokens()} == {"ris": clock.at, "visit": None}
    clock.at += 86_400
    assert doors.enter(token=day, cookie=None) is None
    assert doors.enter(token=forever, cookie=None) is not None
    with pytest.raises(StationError, match="a token 'RIS' already"):
        doors.add_token("RIS", "viewer", who="Amina")
    assert doors.remove_token("RIS", who="Amina") == "ris"
    assert doors.enter(token=forever, cookie=None) is None
    for nonsense in ("", "medge_", "\ud800", "' OR 1=1 --"):
        assert doors.enter(token=nonsense, cookie=None) is None


def test_a_wrong_token_beside_a_right_cookie_does_not_enter(doors: Doors) -> None:
    session = doors.login("Amina", PASSWORD, HERE)
    assert doors.enter(token="medge_x", cookie=session.secret) is None


def test_guesses_at_a_user_wait_longer_and_longer_and_a_restart_changes_nothing(
    doors: Doors, clock: Clock, tmp_path: Path
) -> None:
    waits = []
    for _ in range(14):
        try:
            doors.login("Amina", "a guess at it", HERE)
        except LoginWaitError as error:
            waits.append(error.seconds)
            clock.at += error.seconds
            wrong(doors)
        except LoginError:
            pass
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    again = Doors(Database(tmp_path / "station.sqlite", make=True), fast(), clock)
    with pytest.raises(LoginWaitError, match="try again in 300 s"):
        again.login("Amina", PASSWORD, HERE)  # also the right one, and from elsewhere
    with pytest.raises(LoginWaitError):
        again.login("amina", PASSWORD, "10.0.0.1")
    clock.at -= 1e6  # a clock that was put back locks nobody out for longer
    with pytest.raises(LoginError):
        again.login("Amina", "x", HERE)
    clock.at += 1e6 + attempts.MOST_WAIT
    assert again.login("Amina", PASSWORD, HERE).user.name == "Amina"
    for _ in range(5):  # the count began anew
        wrong(again)
    again.set_password("Amina", "another good sentence", who="test")
    assert again.login("Amina", "another good sentence", HERE).user.name == "Amina"


def test_a_name_that_nobody_has_is_refused_alike(doors: Doors) -> None:
    said = []
    for name in ("Amina", "Nobody"):
        for _ in range(5):
            with pytest.raises(LoginError) as caught:
                doors.login(name, "a guess at it", "10.0.0.1" if name == "Amina" else "10.0.0.2")
            said.append((name, str(caught.value)))
        with pytest.raises(LoginWaitError) as waiting:
            doors.login(name, "a guess at it", "10.0.0.3")
        said.append((name, str(waiting.value)))
    assert [text for name, text in said if name == "Amina"] == [text for name, text in said if name == "Nobody"]
    assert [one for one in entries(doors) if one[1] == "login failed"] == [
        *[("Amina", "login failed", "")] * 5, *[("unknown", "login failed", "")] * 5,
    ]  # fmt: skip


def test_a_name_that_nobody_has_takes_as_long(tmp_path: Path, clock: Clock) -> None:
    """With a hash that takes some ten milliseconds, so that a missing one would show."""
    doors = with_users(doors_at(tmp_path, clock, fast(memory=16_384)))

    def seconds(name: str) -> float:
        begun = time.thread_time()
        with pytest.raises(LoginError):
            doors.login(name, "a guess at it", HERE)
        return time.thread_time() - begun

    known, unknown = (min(seconds(name) for _ in range(4)) for name in ("Amina", "Nobody"))
    assert 0.5 < known / unknown < 2


def test_guesses_from_an_address_wait_whatever_the_names(doors: Doors, clock: Clock) -> None:
    """Someone with a password of their own can't begin anew by logging in between."""
    for number in range(19):
        wrong(doors, f"user {number}", f"2001:db8::{number:x}")  # one household
        doors.login("Rui", PASSWORD, "2001:db8::ffff")
    wrong(doors, "user 19", "2001:db8::1")
    with pytest.raises(LoginWaitError):
        doors.login("Rui", PASSWORD, "2001:db8::1")
    assert doors.login("Rui", PASSWORD, "2001:db8:0:1::1").user.name == "Rui"
    assert attempts.network_of("::ffff:10.1.2.3") == attempts.network_of("10.1.2.3") == "10.1.2.3"
    assert attempts.network_of("fe80::1%eth0") == "fe80::/64"


def test_guesses_at_once_gain_nothing(doors: Doors) -> None:
    made, refused = [], []

    def guess(number: int) -> None:
        try:
            doors.login("Amina", f"guess number {number}", f"10.0.0.{number}")
        except LoginWaitError:
            refused.append(number)
        except LoginError:
            made.append(number)

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 5
    assert len(refused) == 25
