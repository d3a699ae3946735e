"""`kubedistill traces` and `kubedistill report`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubedistill_runtime.cli.pager import Place
from tests.unit.cli.jobs_on_disk import JobOnDisk

Call = Callable[..., Any]


@pytest.fixture
def curated(job: JobOnDisk) -> JobOnDisk:
    job.prepare()
    job.sample()
    job.curate()
    return job


def headers(out: str) -> list[str]:
    return [line.strip() for line in out.splitlines() if line.startswith("sample ")]


def test_questions_and_traces_are_printed_with_verdicts_and_fates(
    kubedistill: Call, root: Path, curated: JobOnDisk
) -> None:
    ran = kubedistill("traces", "small", "--root", root)
    assert ran.code == 0
    assert headers(ran.out) == [
        "sample 0  10 tokens  correct (string)  kept chosen among 2",
        "sample 1  11 tokens  wrong (string)  dropped at correctness: wrong - the answer is not the gold",
        "sample 2  12 tokens  correct (string)  surplus: enough were verified before it  dropped at sampling: "
        "surplus - enough were verified before it",
        "sample 0  10 tokens  wrong (string)  finish: length  truncated: the thinking was never closed  dropped at "
        "quality: cut_off - reached the limit",
        "sample 1  11 tokens  correct (string)  dropped at difficulty: too_easy - the student solves 90 %",
    ]
    assert "question 1  q1  math  2 of 3 correct  student 25%" in ran.out
    assert "gold: 1" in ran.out
    assert "tests: 1" in ran.out
    assert "thinking of q1 0" in ran.out


def test_markup_in_a_text_is_text(kubedistill: Call, root: Path, curated: JobOnDisk) -> None:
    assert "Double it [bold]now[/bold]." in kubedistill("traces", "small", "--root", root).out


@pytest.mark.parametrize(
    ("options", "samples"),
    [
        (["--kept"], ["0"]),
        (["--dropped", "any"], ["1", "2", "0", "1"]),
        (["--dropped", "cut_off"], ["0"]),
        (["--dropped", "difficulty"], ["1"]),
        (["--correct"], ["0", "2", "1"]),
        (["--wrong"], ["1", "0"]),
        (["--question", "q2"], ["0", "1"]),
        (["-q", "#1", "--wrong"], ["1"]),
        (["--wrong", "--dropped", "quality"], ["0"]),
    ],
)
def test_filters_choose_traces(
    kubedistill: Call, root: Path, curated: JobOnDisk, options: list[str], samples: list[str]
) -> None:
    ran = kubedistill("traces", "small", "--root", root, *options)
    assert [line.split()[1] for line in headers(ran.out)] == samples


def test_counts_of_a_question_do_not_depend_on_the_filter(kubedistill: Call, root: Path, curated: JobOnDisk) -> None:
    assert "2 of 3 correct" in kubedistill("traces", "small", "--root", root, "--kept").out


def test_a_running_job_shows_what_is_there(kubedistill: Call, root: Path, job: JobOnDisk) -> None:
    job.prepare()
    job.begin_sampling(3)
    ran = kubedistill("traces", "small", "--root", root)
    assert len(headers(ran.out)) == 3
    assert "not curated yet" in ran.out


def test_fates_of_a_running_job_are_not_there_yet(kubedistill: Call, root: Path, job: JobOnDisk) -> None:
    job.prepare()
    job.begin_sampling()
    ran = kubedistill("traces", "small", "--root", root, "--kept")
    assert ran.code == 75
    assert "not curated yet" in ran.err


@pytest.mark.parametrize("prepared", [False, True])
def test_before_the_first_trace_it_says_what_it_waits_for(
    kubedistill: Call, root: Path, job: JobOnDisk, prepared: bool
) -> None:
    if prepared:
        job.prepare()
    ran = kubedistill("traces", "small", "--root", root)
    assert ran.code == 75
    assert ("no trace is there yet" if prepared else "not prepared yet") in ran.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--question", "q9"], "no such question; give an id, its beginning, or #1 to #2"),
        (["--dropped", "nonsense"], "traces were dropped for: "),
        (["--kept", "--dropped", "any"], "exclude each other"),
    ],
)
def test_a_filter_that_lets_nothing_through_says_what_there_is(
    kubedistill: Call, root: Path, curated: JobOnDisk, options: list[str], message: str
) -> None:
    ran = kubedistill("traces", "small", "--root", root, *options)
    assert ran.code == 65
    assert message in ran.err


def test_a_job_is_found_by_its_manifest(kubedistill: Call, root: Path, tmp_path: Path, curated: JobOnDisk) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(
        "apiVersion: kubedistill.io/v1alpha1\nkind: DistillationJob\nmetadata: {name: small}\n"
        "spec: {questions: [{uri: q}], student: {uri: s}, teacher: {model: {uri: t}}}\n"
    )
    assert kubedistill("traces", path, "--root", root).code == 0
    path.write_text(path.read_text().replace("small", "never-run"))
    ran = kubedistill("traces", path, "--root", root)
    assert ran.code == 75
    assert "has not been run" in ran.err


def test_an_unknown_name_lists_the_known_ones(kubedistill: Call, root: Path, curated: JobOnDisk) -> None:
    ran = kubedistill("traces", "other", "--root", root)
    assert ran.code == 65
    assert "(there: small)" in ran.err


def test_one_name_in_two_namespaces_asks_which(kubedistill: Call, root: Path, curated: JobOnDisk) -> None:
    JobOnDisk(root, namespace="team-b")
    ran = kubedistill("traces", "small", "--root", root)
    assert ran.code == 65
    assert "default/small, DistillationJob team-b/small" in ran.err
    assert kubedistill("traces", "small", "--root", root, "-n", "default").code == 0


def test_the_report_s_path_is_printed_once_it_is_there(kubedistill: Call, root: Path, job: JobOnDisk) -> None:
    job.prepare()
    ran = kubedistill("report", "small", "--root", root)
    assert ran.code == 75
    assert "no report yet: sample is waiting" in ran.err
    (job.folder("report") / "report.html").write_text("<html>")
    job.finish("report", report="report.html")
    ran = kubedistill("report", "small", "--root", root)
    assert ran.code == 0
    assert Path(ran.out.strip()).read_text() == "<html>"


@pytest.mark.parametrize(
    ("start", "act", "end"),
    [
        (Place(0, 0), "trace", Place(0, 1)),
        (Place(0, 2), "trace", Place(1, 0)),
        (Place(1, 2), "trace", Place(1, 2)),
        (Place(0, 1, 5), "trace back", Place(0, 0)),
        (Place(1, 0), "trace back", Place(0)),
        (Place(0, 0), "trace back", Place(0, 0)),
        (Place(0, 2, 5), "question", Place(1)),
        (Place(1), "question", Place(1)),
        (Place(1), "question back", Place(0)),
        (Place(0, 0, 0), "page", Place(0, 0, 8)),
        (Place(0, 0, 88), "page", Place(0, 0, 90)),
        (Place(0, 0, 3), "page back", Place(0, 0, 0)),
        (Place(1, 1, 3), "first", Place()),
        (Place(), "last", Place(1)),
        (Place(1, 1, 1), "", Place(1, 1, 1)),
    ],
)
def test_keys_lead_from_place_to_place(start: Place, act: str, end: Place) -> None:
    assert start.moved(act, questions=2, traces=3, lines=100, height=10) == end
