"""Of two pods at one stage's folder, the one that began last goes on."""

from pathlib import Path
from threading import Event

from kubedistill_runtime.stages.owner import OWNER_FILE, owned

LOOK_S = 0.01


def test_the_earlier_owner_is_stopped_by_the_later_one_and_not_the_other_way_round(tmp_path: Path) -> None:
    first, second = Event(), Event()
    with owned(tmp_path, look_s=LOOK_S, stop=first.set):
        with owned(tmp_path, look_s=LOOK_S, stop=second.set):
            assert first.wait(30)
        assert not second.is_set()


def test_an_owner_that_ended_is_not_stopped(tmp_path: Path) -> None:
    first = Event()
    with owned(tmp_path, look_s=LOOK_S, stop=first.set):
        pass
    with owned(tmp_path, look_s=LOOK_S, stop=Event().set):
        assert not first.wait(5 * LOOK_S)


def test_storage_that_is_away_stops_nobody(tmp_path: Path) -> None:
    stopped = Event()
    with owned(tmp_path, look_s=LOOK_S, stop=stopped.set):
        (tmp_path / OWNER_FILE).unlink()
        assert not stopped.wait(5 * LOOK_S)
