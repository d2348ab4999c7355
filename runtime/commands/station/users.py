"""`medge station user add|list|remove|password`."""

from __future__ import annotations

from typing import Annotated

import typer

from ...console.options import JsonOption
from ...console.terminal import out, print_json, warn
from .moments import moment
from .stores import StoreArgument, asked_password, command_user, station_at

app = typer.Typer(no_args_is_help=True, help="Who may log in.")
NameArgument = Annotated[str, typer.Argument(help="The user's name.", show_default=False)]
RoleOption = Annotated[
    str,
    typer.Option(
        help="viewer (reads), reader (also uploads, reads and signs) or admin (also removes and changes settings)."
    ),
]


@app.command()
def add(store: StoreArgument, name: NameArgument, role: RoleOption = "viewer", as_json: JsonOption = False) -> None:
    """Add a user. The password is asked for, or read as a line of standard input. With the first user, who has to be an admin,
    the station is locked: everybody has to log in.

    Example: medge station user add clinic "Dr. Amina Diallo" --role admin
    """
    from ...station.doors.roles import checked_name, checked_role

    name, role = checked_name(name), checked_role(role)
    secret = asked_password(name)  # before the folder is opened, which nobody else could meanwhile
    with station_at(store, make=True) as station:
        locked = station.doors.locked()
        made = station.doors.add_user(name, secret, role, who=command_user())
    if as_json:
        print_json({"user": made.name, "role": made.role, "locked_now": not locked})
    else:
        out.print(f"{made.name} is a user ({made.role})")
        if not locked:
            told = "everybody has to log in from now on; programs need a token (medge station token add)"
            out.print(told, soft_wrap=True)


@app.command("list")
def list_users(store: StoreArgument, as_json: JsonOption = False) -> None:
    """List the users with their roles.

    Example: medge station user list clinic
    """
    from rich.table import Table

    with station_at(store) as station:
        found = station.doors.users()
    if as_json:
        users = [
            {"name": one.name, "role": one.role, "created": one.created, "password_set": one.changed} for one in found
        ]
        print_json({"results": users})
        return
    if not found:
        out.print("no users: the station answers everybody on its machine, and nobody else", soft_wrap=True)
        return
    table = Table("user", "role", "added", "password set")
    for one in found:
        table.add_row(one.name, one.role, moment(one.created), moment(one.changed))
    out.print(table)


@app.command()
def remove(
    store: StoreArgument, name: NameArgument,
    unlock: Annotated[
        bool, typer.Option("--unlock", help="Also the last user: then everybody on the machine is let in, and no token counts.")
    ] = False,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Remove a user, who is logged out at once. What they did stays in the audit log.

    Example: medge station user remove clinic "Dr. Amina Diallo"
    """
    with station_at(store) as station:
        gone = station.doors.remove_user(name, who=command_user(), unlock=unlock)
        locked = station.doors.locked()
    if as_json:
        print_json({"user": gone, "removed": True, "locked": locked})
        return
    out.print(f"{gone} is no user any more")
    if not locked:
        warn("no user is left: the station answers everybody on its machine")


@app.command()
def password(store: StoreArgument, name: NameArgument, as_json: JsonOption = False) -> None:
    """Set a user's password, which is asked for, or read as a line of standard input. The user's sessions end.

    Example: medge station user password clinic "Dr. Amina Diallo"
    """
    secret = asked_password(name)
    with station_at(store) as station:
        found = station.doors.set_password(name, secret, who=command_user())
    if as_json:
        print_json({"user": found, "password_set": True})
    else:
        out.print(f"{found} has a new password, and has to log in with it", soft_wrap=True)
