"""Which bundles are served, which of them are in memory, and who waits for an answer."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from station_fakes import GIGABYTE, FakeOpener, catalogue, device, entries

from medge.runtime.bundles.manifest import Manifest
from medge.runtime.errors import ContextError, StationError
from medge.runtime.station.models.answers import AnswerQueue, BusyError, LeftError
from medge.runtime.station.models.catalogue import Catalogue
from medge.runtime.station.models.shelf import Shelf

EYES, READER, WRITER = entries().values()


def opener(**gigabytes: int) -> FakeOpener:
    return FakeOpener({name: name for name in entries()}, {name: n * GIGABYTE for name, n in gigabytes.items()})


def test_a_folder_of_bundles(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundles"
    shutil.copytree(bundle, folder / "eyes")
    (folder / "notes").mkdir()
    (folder / "broken").mkdir()
    (folder / "broken" / "manifest.json").write_text("{}")
    found = Catalogue.read(folder)
    assert list(found.entries) == ["eyes"]
    assert (found.entries["eyes"].kind, found.entries["eyes"].parity) == ("encoder", "passed")
    assert found.entries["eyes"].maps is bool(Manifest.read(bundle).towers["vision"].map_output)
    assert list(found.refused) == ["broken"]
    with pytest.raises(StationError, match="no encoder of that name; it has: eyes"):
        Catalogue.read(folder, encoder="ears")
    with pytest.raises(StationError, match="no bundle that can be served: none of its folders"):
        Catalogue.read(folder / "notes")
    with pytest.raises(StationError, match="is no folder"):
        Catalogue.read(folder / "elsewhere")


def test_a_bundle_is_named_where_it_is_not_clear_which_is_meant() -> None:
    assert catalogue().get(None, "encoder").id == "eyes"
    with pytest.raises(StationError, match="name the generator in 'model'; this station has: reader, writer"):
        catalogue().get(None, "generator")
    with pytest.raises(StationError, match="no generator of that name"):
        catalogue().get("eyes", "generator")


def test_models_stay_while_memory_suffices_and_the_longest_unused_one_goes_first() -> None:
    made = opener(eyes=2, reader=4, writer=3)
    shelf = Shelf(made, lambda: device(8))
    for entry in (EYES, READER, EYES):
        with shelf.borrow(entry) as model:
            assert model == entry.id
    assert made.opened == ["eyes", "reader"]
    with shelf.borrow(WRITER):
        assert made.closed == ["reader"]
        assert shelf.loaded == {"eyes": 2 * GIGABYTE, "writer": 3 * GIGABYTE}


def test_a_model_that_does_not_fit_at_all_is_refused_and_the_others_are_put_away_first() -> None:
    made = opener(eyes=2, reader=9)
    shelf = Shelf(made, lambda: device(8))
    with shelf.borrow(EYES):
        pass
    with pytest.raises(ContextError, match="reader does not fit into memory"), shelf.borrow(READER):
        pass
    with shelf.borrow(EYES) as model:  # the shelf goes on
        assert model == "eyes"


def test_a_model_in_use_is_never_put_away() -> None:
    made = opener(reader=5, writer=5)
    shelf = Shelf(made, lambda: device(8))
    with ThreadPoolExecutor(1) as threads:
        with shelf.borrow(READER):
            other = threads.submit(lambda: shelf.borrow(WRITER).__enter__())
            assert not other.done()
            with shelf.borrow(READER):  # is not kept from its users by the one that waits
                assert made.closed == []
        assert other.result(10) == "writer"
    assert made.closed == ["reader"]


def test_one_loading_serves_all_who_ask_for_it() -> None:
    made = opener(eyes=1)
    shelf = Shelf(made, lambda: device(8))
    together = threading.Barrier(4)

    def use() -> str:
        together.wait(10)
        with shelf.borrow(EYES) as model:
            return str(model)

    with ThreadPoolExecutor(4) as threads:
        assert {job.result(10) for job in [threads.submit(use) for _ in range(4)]} == {"eyes"}
    assert made.opened == ["eyes"]


def test_a_closed_shelf_gives_nothing() -> None:
    made = opener()
    shelf = Shelf(made, lambda: device(8))
    with shelf.borrow(EYES):
        pass
    shelf.close()
    assert made.closed == ["eyes"]
    with pytest.raises(StationError, match="the station is closing"), shelf.borrow(EYES):
        pass


def test_places_and_waiting_times() -> None:
    now = [0.0]
    queue = AnswerQueue(3, lambda: now[0])
    first, second = queue.join(), queue.join()
    first.wait()
    now[0] = 10.0
    assert (second.place, second.seconds) == (1, 0.0)  # nothing is known yet
    first.leave()
    second.wait()
    third, fourth = queue.join(), queue.join()
    now[0] = 13.0
    assert [(one.place, one.seconds) for one in (second, third, fourth)] == [(0, 0.0), (1, 7.0), (2, 17.0)]
    with pytest.raises(BusyError) as busy:
        queue.join()
    assert busy.value.seconds == 7.0
    third.leave()
    assert (fourth.place, fourth.seconds) == (1, 7.0)
    now[0] = 20.0
    second.leave()
    second.leave()  # a second time does nothing
    assert len(queue) == 1


def test_who_leaves_while_waiting_is_told() -> None:
    queue = AnswerQueue()
    first, second = queue.join(), queue.join()
    first.wait()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(second.wait)
        second.leave()
        with pytest.raises(LeftError):
            waiting.result(10)
    first.leave()
    assert len(queue) == 0
