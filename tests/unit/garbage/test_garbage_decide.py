"""What is referred to, and what that was made from, is never removed; what goes is old and nobody's."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from kubedistill_runtime.garbage.decide import Folder, Leftover, decide, spoken

LIMIT = timedelta(days=30)
NAMES = [f"sample-{number:016x}" for number in range(8)]


def folder(name: str, days: float = 40, **more: object) -> Folder:
    return Folder(name, timedelta(days=days), **more)  # type: ignore[arg-type]


@st.composite
def folders(draw: st.DrawFn) -> list[Folder]:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    return [
        Folder(
            name,
            timedelta(days=draw(st.sampled_from([0, 29, 30, 31, 400]))),
            bytes=draw(st.integers(0, 9)),
            finished=draw(st.booleans()),
            busy=draw(st.sampled_from(["", "", "process 7"])),
            # Of folders that are not there too, and in circles: nothing that lies on a disk may break this.
            needs=frozenset(draw(st.lists(st.sampled_from(NAMES), max_size=3))),
            leftovers=(Leftover("model.tmp", timedelta(days=draw(st.sampled_from([1, 31]))), 3),),
            trash=draw(st.sampled_from([False, False, True])),
            strange=draw(st.sampled_from([False, False, False, True])),
        )
        for name in names
    ]


REFERRERS = st.lists(st.integers(0, 7)).map(lambda found: {f"{n:016x}": f"DistillationJob a/{n}" for n in found})


@given(folders(), REFERRERS)
def test_nothing_goes_that_somebody_needs(found: list[Folder], referrers: dict[str, str]) -> None:
    verdicts = {verdict.folder.name: verdict for verdict in decide(found, referrers, LIMIT)}
    assert list(verdicts) == [one.name for one in found]
    for one in found:
        verdict = verdicts[one.name]
        wanted = one.digest in referrers or one.busy or one.age < LIMIT
        if one.strange or (wanted and not one.trash):
            assert verdict.keep
        if verdict.keep:
            for need in one.needs & verdicts.keys():
                assert verdicts[need].keep or verdicts[need].folder.trash
            assert not (one.busy and verdict.leftovers)
        assert verdict.why


@given(folders(), REFERRERS)
def test_everything_goes_that_nobody_needs(found: list[Folder], referrers: dict[str, str]) -> None:
    verdicts = decide(found, referrers, LIMIT)
    kept = {verdict.folder.name: verdict.folder for verdict in verdicts if verdict.keep}
    for one in kept.values():
        of_its_own = one.strange or one.busy or one.digest in referrers or one.age < LIMIT
        assert of_its_own or any(one.name in other.needs for other in kept.values())


@given(folders(), REFERRERS, st.integers(0, 7))
def test_one_more_reference_removes_nothing_more(found: list[Folder], referrers: dict[str, str], extra: int) -> None:
    before = {verdict.folder.name for verdict in decide(found, referrers, LIMIT) if not verdict.keep}
    more = {**referrers, f"{extra:016x}": "DistillationJob a/extra"}
    assert {verdict.folder.name for verdict in decide(found, more, LIMIT) if not verdict.keep} <= before


def test_the_reasons_say_who_and_since_when() -> None:
    prepare, sample, old, young, half, trash = NAMES[:6]
    found = [
        folder(prepare),
        folder(sample, needs=frozenset({prepare})),
        folder(old),
        folder(young, 2),
        folder(half, finished=False),
        folder(trash, 0, trash=True),
        folder("notes", 0, strange=True),
    ]
    verdicts = decide(found, {sample.rpartition("-")[2]: "DistillationJob a/one"}, LIMIT)
    assert [(verdict.keep, verdict.why) for verdict in verdicts] == [
        (True, f"{sample} was made from it"),
        (True, "DistillationJob a/one"),
        (False, "nobody refers to it; written 40 d ago"),
        (True, "written 2 d ago"),
        (False, "unfinished, and nobody refers to it; written 40 d ago"),
        (False, "an earlier collection began to remove it"),
        (True, "not the folder of a stage"),
    ]


def test_half_written_files_go_out_of_a_folder_that_stays_once_they_are_old() -> None:
    rest = (Leftover("model.tmp", timedelta(days=40), 5), Leftover("x.tmp", timedelta(days=1), 7))
    (verdict,) = decide([folder(NAMES[0], bytes=100, leftovers=rest)], {f"{0:016x}": "DistillationJob a/one"}, LIMIT)
    assert verdict.keep
    assert verdict.leftovers == rest[:1]
    assert verdict.freed == 5


def test_ages_are_said_in_one_unit() -> None:
    assert [spoken(timedelta(seconds=s)) for s in (-5, 59, 60, 7200, 200000)] == ["0 s", "59 s", "1 min", "2 h", "2 d"]
