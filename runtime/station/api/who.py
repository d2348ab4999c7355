"""Who is asking, and what they may do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

from ..doors.roles import LOCAL, TOKEN, Role, User, folded
from .problems import RefusedError
from .service import At

USER, VISITOR = (
    "medge.user",
    "medge.visitor",
)  # under which a request's scope holds who asks; VISITOR where they logged in
__all__ = [
    "LOCAL",
    "USER",
    "VISITOR",
    "Admin",
    "Asking",
    "Reader",
    "Role",
    "User",
    "Viewer",
    "needs",
    "own_name",
    "who_of",
]


def who_of(request: Request) -> User:
    """Who makes a request, as the lock has found: a user, a program with a token, or `LOCAL` while there are no users.

    Raises:
        RefusedError: nobody that the station knows.
    """
    user = request.scope.get(USER)
    if not isinstance(user, User):
        raise RefusedError("log in first, or send a token", status=401, code="not_logged_in")
    return user


Asking = Annotated[User, Depends(who_of)]


def needs(role: Role) -> Callable[[Request, User, At], User]:
    """A route's dependency: the user, who has this role or one above it; others are refused with status 403, which the audit log
    keeps.

    Use:
        `async def remove(uid: str, user: Annotated[User, Depends(needs("admin"))])`
    """

    def allowed(request: Request, user: Asking, at: At) -> User:
        if not user.may(role):
            if at.station is not None:
                route = getattr(request.scope.get("route"), "path", "none")
                at.station.doors.refused(user, f"{request.method} {route}")
            raise RefusedError(
                f"this needs the role {role}, and {user.name} is a {user.role}", status=403, code="not_allowed"
            )
        return user

    return allowed


def own_name(user: User, name: str) -> str:
    """The name under which a user signs: one who has logged in signs as nobody else.

    Raises:
        RefusedError: it is another's, or a program's: a person signs.
    """
    if user == LOCAL:
        return name
    if user.name.startswith(TOKEN):
        raise RefusedError("a person signs, and this is a program's token; log in", status=403, code="not_allowed")
    if folded(name) != folded(user.name):
        raise RefusedError(f"{user.name} can't sign under another name", status=403, param="name", code="not_allowed")
    return user.name


Viewer = Annotated[User, Depends(needs("viewer"))]
Reader = Annotated[User, Depends(needs("reader"))]
Admin = Annotated[User, Depends(needs("admin"))]
