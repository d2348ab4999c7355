"""Who is asking, and what they may do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Request

from .problems import RefusedError

Role = Literal["viewer", "reader", "admin"]
RANKS: dict[Role, int] = {"viewer": 0, "reader": 1, "admin": 2}


@dataclass(frozen=True)
class User:
    """Someone who asks.

    Attributes:
        name: for the audit log.
        role: "viewer" reads, "reader" also uploads, asks for work and writes reports, "admin" also removes, reads the audit log
            and changes settings.
    """

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether they may do what a role may."""
        return RANKS[self.role] >= RANKS[role]


LOCAL = User("local", "admin")  # whoever sits at this machine, where the station has no users


def who_of(request: Request) -> User:
    """Who makes a request.

    Raises:
        RefusedError: nobody that the station knows.
    """
    return LOCAL


Asking = Annotated[User, Depends(who_of)]


def needs(role: Role) -> Callable[[User], User]:
    """A route's dependency: the user, who has this role or one above it; others are refused with status 403.

    Use:
        `async def remove(uid: str, user: Annotated[User, Depends(needs("admin"))])`
    """

    def allowed(user: Asking) -> User:
        if not user.may(role):
            raise RefusedError(f"this needs the role {role}, and {user.name} is a {user.role}", status=403)
        return user

    return allowed


Viewer = Annotated[User, Depends(needs("viewer"))]
Reader = Annotated[User, Depends(needs("reader"))]
Admin = Annotated[User, Depends(needs("admin"))]
