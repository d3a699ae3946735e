"""The chart's alerts as they are, by promtool: each fires above its threshold and after its time, and not before."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.chart.chart_case import Helm, Object, one, rules
from tests.cluster.prometheus import promtool

pytestmark = pytest.mark.usefixtures("with_prometheus")

Series = dict[str, str]
"""Series by their names and labels, with their values a minute in promtool's notation."""
DURATION = "kubedistill_reconcile_seconds_bucket"


class Story(NamedTuple):
    """What an alert is made of, and what it says."""

    above: Series
    below: Series
    early: str
    """When `above` does not fire yet."""
    late: str
    """When it fires; `below` does not even then."""
    labels: dict[str, str]
    """What it keeps of the labels of `above`."""
    summary: str


def up(values: str) -> Series:
    return {'up{job="kubedistill", namespace="kubedistill"}': values}


def looks(quick: str, slow: str) -> Series:
    """Looks that took up to five seconds, and up to seven and a half."""
    return {f'{DURATION}{{le="{le}"}}': n for le, n in (("5.0", quick), ("7.5", slow), ("10.0", slow), ("+Inf", slow))}


STORIES = {
    "KubedistillOperatorDown": Story(
        up("1x3 0x20"), up("1x30"), "7m", "10m", {},
        "The operator of kubedistill is not scraped; jobs that run go on, and nothing new starts",
    ),
    "KubedistillReconcileErrors": Story(
        # One every two minutes, which is as rarely as a look that fails is tried again.
        {"kubedistill_reconcile_errors_total": " ".join(f"{n} {n}" for n in range(20))},
        {"kubedistill_reconcile_errors_total": "7x40"},
        "15m", "20m", {},
        "Looks at resources have been failing for 15 minutes",
    ),
    "KubedistillQueueStuck": Story(
        {"kubedistill_queue_age_seconds": "121x10"}, {"kubedistill_queue_age_seconds": "120x10"}, "4m", "6m", {},
        "A resource has been waiting for a look for 2m 1s",
    ),
    "KubedistillReconcileSlow": Story(
        # One in fifty takes more than five seconds, or one in two hundred.
        looks("0+49x40", "0+50x40"), looks("0+199x40", "0+200x40"), "14m", "20m", {},
        "One look at a resource takes 6.25s at the 99th percentile",
    ),
    "KubedistillAttemptsFail": Story(
        # Many at once, and the first ones ever: what a lost rack does.
        {'kubedistill_child_failures_total{kind="sample", cause="NodeLost"}': "0x10 11x60"},
        {
            'kubedistill_child_failures_total{kind="sample", cause="NodeLost"}': "0x10 10x60",
            'kubedistill_child_failures_total{kind="sample", cause="Evicted"}': "0x10 10x60",
        },
        "10m", "60m", {"kind": "sample", "cause": "NodeLost"},
        "11 attempts of sample failed in an hour with NodeLost",
    ),
    "KubedistillResourcesFailed": Story(
        {'kubedistill_finished_total{kind="TeacherProbe", outcome="Failed"}': "0x4 1x10"},
        {
            'kubedistill_finished_total{kind="TeacherProbe", outcome="Failed"}': "3x20",
            'kubedistill_finished_total{kind="TeacherProbe", outcome="Complete"}': "0+1x20",
        },
        "4m", "5m", {"kind": "TeacherProbe"},
        "A TeacherProbe failed",
    ),
    "KubedistillResourcesPending": Story(
        {'kubedistill_pending_seconds{namespace="team-a", kind="DistillationJob"}': "86401+60x20"},
        {'kubedistill_pending_seconds{namespace="team-a", kind="DistillationJob"}': "86400x20"},
        "5m", "11m", {"namespace": "team-a", "kind": "DistillationJob"},
        "A DistillationJob of namespace team-a has been pending for 1d 0h 11m 1s",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def chart(helm: Helm) -> Object:
    """The PrometheusRule with the thresholds that the chart has."""
    return one(helm.template({"metrics": {"prometheusRule": {"enabled": True}}}), "PrometheusRule")


@pytest.fixture(scope="module")
def file(chart: Object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as Prometheus reads it."""
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(yaml.safe_dump(chart["spec"]))
    return path


def test_promtool_finds_nothing_wrong(file: Path) -> None:
    assert f"{len(STORIES)} rules found" in promtool("check", "rules", "--lint=all", "--lint-fatal", file)


def test_every_alert_has_a_story(chart: Object) -> None:
    assert STORIES.keys() == rules([chart]).keys()


@pytest.mark.parametrize("name", STORIES)
def test_an_alert_fires_above_its_threshold_and_after_its_time(chart: Object, file: Path, name: str) -> None:
    story, rule = STORIES[name], rules([chart])[name]
    fired = {
        "exp_labels": story.labels | {"severity": rule["labels"]["severity"]},
        "exp_annotations": {"summary": story.summary, "action": rule["annotations"]["action"]},
    }
    seen = [(story.above, story.early, []), (story.above, story.late, [fired]), (story.below, story.late, [])]
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": series, "values": values} for series, values in given.items()],
            "alert_rule_test": [{"eval_time": when, "alertname": name, "exp_alerts": alerts}],
        }
        for given, when, alerts in seen
    ]
    told = {"rule_files": [str(file)], "evaluation_interval": "1m", "tests": tests}
    script = file.with_name(f"{name}.json")
    script.write_text(json.dumps(told))
    promtool("test", "rules", script)
