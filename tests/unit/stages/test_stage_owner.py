"""Of two pods at one stage's folder, the one that began last goes on."""

from pathlib import Path
from threading import Event

import pytest

from kubedistill_runtime.errors import TryAgain
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


def test_to_be_taken_over_is_no_fault_of_the_program_and_to_be_told_to_end_stays_what_it_is(tmp_path: Path) -> None:
    stopped = Event()

    def ended(look_s: float) -> None:
        with owned(tmp_path, look_s=look_s, stop=stopped.set):
            if look_s == LOOK_S:
                (tmp_path / OWNER_FILE).write_text("pod-b x")
                assert stopped.wait(30)
            raise SystemExit(143)

    with pytest.raises(TryAgain, match="pod-b"):
        ended(LOOK_S)
    with pytest.raises(SystemExit):
        ended(60)
