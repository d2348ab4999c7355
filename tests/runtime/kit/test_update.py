"""`medge kit update` with real keys, brought onto a device with real trust; and a key that the makers have changed meanwhile."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import command_line
import kits
import pytest
from kits import make_kit

from medge.runtime.errors import KitError, TrustError
from medge.runtime.kit.building.makers import Makers
from medge.runtime.kit.building.update import build_update, parts
from medge.runtime.kit.change import problems
from medge.runtime.kit.installation import Installation
from medge.runtime.kit.layout import Kit
from medge.runtime.trust.keys import PrivateKey
from medge.runtime.trust.trust import make_trust


def makers_at(folder: Path) -> Makers:
    PrivateKey.make(folder / "makers.key", "makers")
    return Makers.read(folder / "makers.key", None, lambda: "")


@pytest.fixture
def makers(tmp_path: Path) -> Makers:
    return makers_at(tmp_path / "keys")


@pytest.fixture
def pair(makers: Makers, tmp_path: Path) -> tuple[Kit, Kit]:
    """Two whole kits of the same makers; the second has another page."""
    more = {"docs/guide.html": b"a guide " * 1000}
    old, new = (make_kit(tmp_path / str(number), number, sign=makers.sign, more=more) for number in (1, 2))
    return old, new


def device(tmp_path: Path, makers: Makers) -> Installation:
    here = kits.installed(tmp_path / "prefix")
    makers.public.write(tmp_path / "makers.pub")
    make_trust(here.trust).add(tmp_path / "makers.pub")
    return here


def pieces(folder: Path) -> int:
    return len([path for path in (folder / "pieces").rglob("*") if path.is_file()])


def applied(here: Installation, stick: Path, code: int = 0) -> Any:
    return command_line.medge("kit", "apply", stick, "--prefix", here.prefix, "--json", code=code)


def test_only_what_changed_and_signed(pair: tuple[Kit, Kit], makers: Makers, tmp_path: Path) -> None:
    one, two = pair
    here = device(tmp_path, makers)
    applied(here, one.folder)
    said = command_line.medge(
        "kit", "update", one.folder, two.folder, "--key", makers.key.path, "--out", tmp_path / "update", "--json"
    )
    body = json.loads(said.stdout)
    assert (body["base"], body["counter"], pieces(tmp_path / "update")) == (1, 2, 2)
    carried = {row["component"]: (row["carried"], row["whole"]) for row in body["results"]}
    assert carried["python"][0] == carried["bundles/eyes"][0] == 0
    assert carried["docs"][0] == len("<p>2</p>") < carried["docs"][1]
    done = json.loads(applied(here, tmp_path / "update").stdout)
    assert (done["counter"], done["before"], done["signer"].split()[0]) == (2, 1, "makers")
    assert problems(Installation.open(here.prefix)) == []
    applied(here, two.folder)  # the whole kit of the same version: nothing to do, and no contradiction
    assert "medge kit apply" in (tmp_path / "update" / "README.txt").read_text()


def test_an_old_statement_is_all_that_makers_keep(pair: tuple[Kit, Kit], makers: Makers, tmp_path: Path) -> None:
    shutil.copy(pair[0].folder / "kit.json", tmp_path / "kept.json")
    command_line.medge(
        "kit", "update", tmp_path / "kept.json", pair[1].folder, "--key", makers.key.path, "--out", tmp_path / "u"
    )
    assert pieces(tmp_path / "u") == 2


def test_what_no_update_can_be_made_of(pair: tuple[Kit, Kit], makers: Makers, tmp_path: Path) -> None:
    one, two = pair
    with pytest.raises(KitError, match="no newer than 2"):
        build_update(two.statement, one, tmp_path / "u", makers)
    foreign = make_kit(tmp_path / "arm", 3, target="linux-aarch64" if one.target == "linux-x86_64" else "linux-x86_64")
    with pytest.raises(KitError, match="the older kit is for"):
        build_update(one.statement, foreign, tmp_path / "u", makers)
    with pytest.raises(TrustError):  # somebody else's kit gets no signature of these makers
        build_update(
            one.statement, make_kit(tmp_path / "4", 4, sign=makers_at(tmp_path / "other").sign), tmp_path / "u", makers
        )
    update = build_update(one.statement, two, tmp_path / "u", makers)
    with pytest.raises(KitError, match="is no whole kit"):
        build_update(one.statement, update, tmp_path / "v", makers)
    piece = next(two.piece(sha256) for sha256 in two.statement.contents() if sha256 not in one.statement.contents())
    piece.write_bytes(b"x" * piece.stat().st_size)
    with pytest.raises(KitError, match="was changed while"):
        build_update(one.statement, two, tmp_path / "w", makers)


def test_parts_count_a_content_once(makers: Makers, tmp_path: Path) -> None:
    more = {"docs/a.html": b"same" * 100, "docs/b.html": b"same" * 100, "packages/c.py": b"same" * 100}
    old = make_kit(tmp_path / "1", 1).statement
    new = make_kit(tmp_path / "2", 2, more=more).statement
    assert sum(one.carried for one in parts(old, new)) == sum(
        size for sha256, size in new.contents().items() if sha256 not in old.contents()
    )


def test_arbitrary_software_with_a_real_trust(pair: tuple[Kit, Kit], makers: Makers, tmp_path: Path) -> None:
    """A stranger's kit, a signature of another file, a statement that was changed, none at all."""
    one, two = pair
    here = device(tmp_path, makers)
    applied(here, one.folder)
    stranger = make_kit(tmp_path / "stranger", 5, sign=makers_at(tmp_path / "s").sign)
    assert "does not trust" in applied(here, stranger.folder, code=1).stderr
    shutil.copy(one.folder / "kit.sig", two.folder / "kit.sig")
    assert "is not what kit.sig was made for" in applied(here, two.folder, code=1).stderr
    (two.folder / "kit.sig").unlink()
    assert "kit.sig is missing" in applied(here, two.folder, code=1).stderr
    statement = one.folder / "kit.json"
    statement.write_bytes(statement.read_bytes().replace(b'"counter": 1', b'"counter": 9'))
    assert "is not what kit.sig was made for" in applied(here, one.folder, code=1).stderr
    assert Installation.open(here.prefix).current() == 1
