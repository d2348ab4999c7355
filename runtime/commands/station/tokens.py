"""`medge station token add|list|remove`."""

from __future__ import annotations

from typing import Annotated

import typer

from ...console.options import JsonOption
from ...console.terminal import err, out, print_json
from .moments import moment
from .stores import StoreArgument, command_user, station_at
from .users import RoleOption

app = typer.Typer(no_args_is_help=True, help="Tokens, with which programs enter.")
NameArgument = Annotated[str, typer.Argument(help="What the token is for.", show_default=False)]


@app.command()
def add(
    store: StoreArgument, name: NameArgument, role: RoleOption = "viewer",
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="Until it ends.", show_default="it does not end")] = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Add a token and print it, this once: the station keeps a hash of it. Programs send it in the header
    'Authorization: Bearer TOKEN', which is what OpenAI's clients do with an API key.

    Example: medge station token add clinic ris --role reader --days 365
    """
    with station_at(store) as station:
        made, secret = station.doors.add_token(name, role, who=command_user(), days=days)
    if as_json:
        print_json({"name": made.name, "role": made.role, "ends": made.ends, "token": secret})
    else:
        err.print(f"medge: the token of {made.name} ({made.role}); it can't be shown again", soft_wrap=True)
        out.print(secret, soft_wrap=True)


@app.command("list")
def list_tokens(store: StoreArgument, as_json: JsonOption = False) -> None:
    """List the tokens with their roles; what they say is kept nowhere.

    Example: medge station token list clinic
    """
    from rich.table import Table

    with station_at(store) as station:
        found = station.doors.tokens()
    if as_json:
        tokens = [
            {"name": one.name, "role": one.role, "created": one.created, "ends": one.ends, "used": one.used}
            for one in found
        ]
        print_json({"results": tokens})
        return
    table = Table("token", "role", "added", "ends", "last used")
    for one in found:
        table.add_row(one.name, one.role, moment(one.created), moment(one.ends), moment(one.used))
    out.print(table if found else "no tokens")


@app.command()
def remove(store: StoreArgument, name: NameArgument, as_json: JsonOption = False) -> None:
    """Remove a token: from then on it is refused.

    Example: medge station token remove clinic ris
    """
    with station_at(store) as station:
        gone = station.doors.remove_token(name, who=command_user())
    if as_json:
        print_json({"name": gone, "removed": True})
    else:
        out.print(f"the token of {gone} is worth nothing any more")
