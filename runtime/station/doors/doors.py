"""The station's doors: who enters, with what, and what the audit log says of it."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ...errors import StationError, StationFullError
from ..store import audit
from ..store.clock import now
from ..store.database import Database
from . import attempts, sessions, tokens, users
from .passwords import Passwords, checked_password
from .roles import User, checked_name, checked_role
from .sessions import Session
from .tokens import Token
from .users import Account

_AT_ONCE, _WAITING = 2, 8  # logins that are checked, each in 64 MiB, and that wait for it
_NOBODY = "unknown"  # in the audit log: a typed name that is no user's may be a password


class LoginError(StationError):
    """The name and the password are not a user's; which of the two is wrong is not told."""


class LoginWaitError(LoginError):
    """Too many logins have failed.

    Attributes:
        seconds: until the next may be tried.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"too many logins have failed, or come at once; try again in {max(1, round(seconds))} s")


@dataclass(frozen=True)
class Visitor:
    """Who has entered.

    Attributes:
        user: who it is.
        session: of a person; None of a program with a token.
    """

    user: User
    session: Session | None


class Doors:
    """Threads and processes share it; what a method has written is on the disk when it returns.

    Args:
        database: of the station.
        passwords: makes and checks hashes.
        clock: seconds since 1970.
    """

    def __init__(
        self, database: Database, passwords: Passwords | None = None, clock: Callable[[], float] = now
    ) -> None:
        self._database, self._clock = database, clock
        self._passwords = passwords or Passwords()
        self._guard = threading.Lock()  # of `_inside`, and of making `nobodys`
        self._inside = 0  # logins that are checked or wait for it
        self._seats = threading.BoundedSemaphore(_AT_ONCE)

    def locked(self) -> bool:
        """Whether everybody has to log in: there is a user."""
        with self._database.read() as connection:
            return users.any_users(connection)

    def login(self, name: str, password: str, address: str, *, old: str | None = None) -> Session:
        """Begin a session.

        Args:
            name, password: as they were typed.
            address: from where.
            old: the word in the cookie that came along, whose session ends: the new one has a word of its own.

        Raises:
            LoginWaitError: too many have failed for this user, or from this address, or too many are being checked.
            LoginError: name or password are wrong. It takes as long whether there is such a user or not.
        """
        with self._turn():
            return self._login(name, password, address, old)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """A place among the logins that are checked: many at once would take the memory of the models."""
        with self._guard:
            if self._inside >= _AT_ONCE + _WAITING:
                raise LoginWaitError(2)
            self._inside += 1
        try:
            with self._seats:
                yield
        finally:
            with self._guard:
                self._inside -= 1

    def _login(self, name: str, password: str, address: str, old: str | None) -> Session:
        keys = attempts.keys_of(name, address)
        with self._database.read() as connection:  # who only waits keeps nobody from writing
            wait = attempts.waiting(connection, keys, self._clock())
        if wait == 0:
            with self._database.write(durable=False) as connection:
                wait = attempts.begin(connection, keys, self._clock())
        if wait > 0:
            raise LoginWaitError(wait)
        with self._database.read() as connection:
            found = users.password_of(connection, name)
        with self._guard:
            nobodys = self._passwords.nobodys  # made once, also where the first who comes has a right name
        right = self._passwords.fits(found[1] if found else nobodys, password) and found is not None
        renewed = self._passwords.hash(password) if right and found and self._passwords.is_old(found[1]) else None
        with self._database.write() as connection:
            account = users.find(connection, name)
            # Between the two transactions the user may have been removed, or have got another password.
            if not right or account is None or found != users.password_of(connection, name):
                detail = {"address": address, "wait": round(attempts.waiting(connection, keys, self._clock()))}
                audit.note(connection, account.name if account else _NOBODY, "login failed", detail=detail)
                session = None
            else:
                attempts.succeeded(connection, keys)
                if old is not None:
                    sessions.end(connection, old)
                if renewed is not None:
                    connection.execute("UPDATE users SET password = ? WHERE name = ?", (renewed, account.name))
                session = sessions.begin(connection, User(account.name, account.role), self._clock())
                audit.note(connection, account.name, "logged in", detail={"address": address})
        if session is None:
            raise LoginError("the name or the password is wrong")
        return session

    def enter(self, *, token: str | None, cookie: str | None, awake: bool = True) -> Visitor | None:
        """Who comes with a token, or with the word of a cookie; None where neither is anybody's.

        Args:
            token: of a program; where it is given, the cookie does not count.
            cookie: of a person.
            awake: a person has asked, so that the session's idle time begins anew.
        """
        at = self._clock()
        with self._database.read() as connection:
            holder = tokens.holder(connection, token, at) if token is not None else None
            session = sessions.find(connection, cookie, at) if token is None and cookie is not None else None
        if holder is not None and token is not None:
            if holder[1]:
                self._note_use(lambda connection: tokens.seen(connection, token, at))
            return Visitor(holder[0], None)
        if session is None:
            return None
        if session.is_due and awake:
            self._note_use(lambda connection: sessions.touch(connection, session.secret, at))
        return Visitor(session.user, session)

    def _note_use(self, note: Callable[[sqlite3.Connection], None]) -> None:
        """Where the disk is full, nothing is noted: who has logged in has to get in, to make space."""
        with contextlib.suppress(StationFullError), self._database.write(durable=False) as connection:
            note(connection)

    def logout(self, session: Session) -> None:
        """End a session."""
        with self._database.write() as connection:
            sessions.end(connection, session.secret)
            audit.note(connection, session.user.name, "logged out")

    def refused(self, user: User, what: str) -> None:
        """Note that a user's role did not reach."""
        with self._database.write() as connection:
            audit.note(connection, user.name, "was refused", what, {"role": user.role})

    def users(self) -> list[Account]:
        """The users, by name."""
        with self._database.read() as connection:
            return users.all_users(connection)

    def add_user(self, name: str, password: str, role: str, *, who: str) -> Account:
        """Add a user; from the first on, everybody has to log in.

        Raises:
            StationError: the name, the role or the password can't be taken.
        """
        kept = self._passwords.hash(checked_password(password, checked_name(name)))
        with self._database.write() as connection:
            made = users.add(connection, name, kept, role)
            audit.note(connection, who, "added a user", made.name, {"role": made.role})
        return made

    def remove_user(self, name: str, *, who: str, unlock: bool = False) -> str:
        """Remove a user, with the sessions; the name as it was given.

        Raises:
            StationError: there is no such user, or it is the last admin (`unlock` removes the last user of all).
        """
        with self._database.write() as connection:
            gone = users.remove(connection, name, unlock=unlock)
            audit.note(connection, who, "removed a user", gone.name)
            if not users.any_users(connection):
                audit.note(connection, who, "unlocked the station")
        return gone.name

    def set_password(self, name: str, password: str, *, who: str) -> str:
        """Set a user's password and end the sessions and the wait after guesses; the name as it was given.

        Raises:
            StationError: there is no such user, or the password can't be taken.
        """
        with self._database.read() as connection:
            account = users.known(connection, name)
        kept = self._passwords.hash(checked_password(password, account.name))
        with self._database.write() as connection:
            users.known(connection, name)
            users.set_password(connection, account.name, kept)
            attempts.forget_user(connection, account.name)
            audit.note(connection, who, "set a password", account.name)
        return account.name

    def tokens(self) -> list[Token]:
        """The tokens, by name, without their words."""
        with self._database.read() as connection:
            return tokens.all_tokens(connection)

    def add_token(self, name: str, role: str, *, who: str, days: int | None = None) -> tuple[Token, str]:
        """Add a token: it and its words, which are told this once.

        Raises:
            StationError: the name or the role can't be taken, or there is no user yet, so that nobody needs one.
        """
        checked_role(role)
        with self._database.write() as connection:
            if not users.any_users(connection):
                raise StationError("the station has no users, so that no token is needed; add an admin first")
            made, secret = tokens.add(connection, name, role, days, self._clock())
            audit.note(connection, who, "added a token", made.name, {"role": made.role, "days": days})
        return made, secret

    def remove_token(self, name: str, *, who: str) -> str:
        """Remove a token, which is refused from then on; the name as it was given.

        Raises:
            StationError: there is none of that name.
        """
        with self._database.write() as connection:
            gone = tokens.remove(connection, name)
            audit.note(connection, who, "removed a token", gone)
        return gone
