"""The page is whole, stands alone, and lets no text of a model act."""

import base64
import hashlib
import json
import re

import pytest

from kubedistill_runtime.report import excerpts, page
from kubedistill_runtime.report.gather import gather
from tests.unit.report.html_tree import Tree, parse
from tests.unit.report.synthetic_stages import Shape

HOSTILE = [
    "</script><script>window.hacked=1</script>",
    '<img src=x onerror="window.hacked=1">',
    "<!--<script>",
    "]]>{{ 7*7 }}{% raw %}\u2028\u2029",
    '"><svg onload=window.hacked=1>',
    "</pre></details></main><h1>owned</h1>",
]
SMALL = Shape(questions=12, benchmark_questions=10, steps=12, length=60)


def rendered(context) -> str:
    return page.render(gather(context, context.spec.params.manifest))


def sections(tree: Tree) -> list[str]:
    return [s["id"] for s in tree.named("section") if "id" in s]


@pytest.fixture
def job_page(finished_job):
    return rendered(finished_job(SMALL))


def test_the_page_parses_and_every_element_is_closed_in_order(job_page):
    assert parse(job_page).problems == []


def test_a_job_has_all_sections_and_each_is_in_the_contents(job_page):
    tree = parse(job_page)
    assert sections(tree) == [
        "result",
        "scores",
        "funnel",
        "difficulty",
        "lengths",
        "training",
        "covariates",
        "traces",
        "answers",
        "cost",
        "lineage",
        "manifest",
    ]
    links = {a["href"] for a in tree.named("a")}
    assert {f"#{name}" for name in sections(tree)} <= links


def test_ids_are_unique_and_every_inner_link_and_label_has_its_target(job_page):
    tree = parse(job_page)
    assert len(tree.ids) == len(set(tree.ids))
    inner = [a["href"][1:] for a in tree.named("a") if a.get("href", "").startswith("#")]
    labels = [attributes["aria-labelledby"] for _, attributes in tree.elements if "aria-labelledby" in attributes]
    assert set(inner + labels) <= set(tree.ids)


def test_nothing_is_loaded_from_outside(job_page):
    tree = parse(job_page)
    for _, attributes in tree.elements:
        for name in ("src", "srcset", "data", "action", "poster", "xlink:href"):
            assert name not in attributes
        if "href" in attributes:
            assert attributes["href"].startswith(("#", "data:,"))
    style = re.search(r"<style>(.*?)</style>", job_page, re.S).group(1)
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"fetch\(|XMLHttpRequest|import\(|WebSocket", page._file("script.js"))


def test_the_security_policy_allows_only_the_pages_own_style_and_script(job_page):
    (policy,) = [m["content"] for m in parse(job_page).named("meta") if "http-equiv" in m]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        text = re.findall(rf"<{tag}>(.*?)</{tag}>", job_page, re.S)
        assert len(text) == 1
        digest = base64.b64encode(hashlib.sha256(text[0].encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy


def test_no_element_has_a_style_or_an_event_handler_which_the_policy_would_block(job_page):
    for _, attributes in parse(job_page).elements:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]


def test_every_drawing_is_described_or_hidden_from_readers(job_page):
    for svg in parse(job_page).named("svg"):
        nested = "preserveaspectratio" in svg
        assert svg.get("aria-label") or svg.get("aria-hidden") == "true" or svg.get("class") == "lineage" or nested
    for attributes in parse(job_page).elements:
        if attributes[1].get("role") == "img":
            assert attributes[1].get("aria-label")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_of_models_and_questions_is_inert(finished_job, text):
    shape = Shape(
        questions=4,
        benchmark_questions=3,
        steps=3,
        length=30,
        text=lambda tokens, right: f"<think>{text}</think>{text}",
        question=lambda row: f"{row} {text}",
    )
    harmless = parse(rendered(finished_job(SMALL)))
    context = finished_job(shape, samples=2, passAt=[])
    html = rendered(context)
    tree = parse(html)
    assert tree.problems == []
    assert len(tree.scripts) == len(harmless.scripts) == 2
    assert not tree.named("img")
    assert len(tree.named("h1")) == 1
    assert "onerror" not in {name for _, attributes in tree.elements for name in attributes}
    data = json.loads(tree.scripts[0][1])
    assert text in data["traces"][0]["responses"][0]["text"]
    assert text in data["answers"][0]["question"]


def test_the_script_never_makes_html_from_text():
    script = page._file("script.js")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", script)


def test_the_same_stages_give_the_same_bytes(finished_job):
    context = finished_job(SMALL)
    assert rendered(context) == rendered(context)


def test_the_page_says_whether_it_worked(job_page):
    words = parse(job_page).words
    assert "The student is better than the base" in words
    assert "excludes 0" in words


def test_stages_that_are_absent_leave_their_sections_out(finished_job):
    tree = parse(rendered(finished_job(SMALL, only={"prepare", "sample"})))
    assert tree.problems == []
    assert sections(tree) == ["lengths", "traces", "cost", "lineage", "manifest"]


def test_without_benchmarks_there_are_no_scores_and_no_headline(finished_job):
    tree = parse(rendered(finished_job(SMALL, benchmarks=[], passAt=[])))
    assert tree.problems == []
    assert "scores" not in sections(tree)
    assert "training" in sections(tree)
    assert "than the base" not in tree.words


def test_without_a_base_the_page_claims_no_change(finished_job):
    words = parse(rendered(finished_job(SMALL, only={"prepare", "sample", "train", "curate", "evaluate"}))).words
    assert "The student was scored, the base was not" in words


def test_a_probe_shows_its_candidates_the_best_student_first(finished_probe):
    tree = parse(rendered(finished_probe(SMALL)))
    assert tree.problems == []
    assert sections(tree)[:2] == ["result", "candidates"]
    assert "careless makes the best student" in tree.words
    data = json.loads(tree.scripts[0][1])
    assert {r["who"] for entry in data["traces"] for r in entry["responses"]} == {"careless", "terse"}


def test_a_probe_whose_candidates_are_not_all_done_still_has_a_page(finished_probe):
    only = {"prepare", "baseline", "sample-careless", "sample-terse", "curate-careless", "train-careless"}
    tree = parse(rendered(finished_probe(SMALL, only=only)))
    assert tree.problems == []
    assert "scores" not in sections(tree)
    assert "candidates" in sections(tree)


def test_the_traces_are_called_a_sample_where_they_are_one(monkeypatch, finished_job):
    monkeypatch.setattr(excerpts, "MAX_QUESTIONS", 5)
    words = parse(rendered(finished_job(SMALL))).words
    assert "This is a sample: 5 of 12 questions, 40 of 96 traces." in words


def test_the_page_of_many_long_traces_stays_small(finished_job):
    shape = Shape(questions=250, benchmark_questions=20, steps=5, length=900)
    html = rendered(finished_job(shape))
    assert len(html.encode()) < 5_000_000


def test_passwords_in_addresses_do_not_reach_the_page(finished_job):
    context = finished_job(SMALL)
    manifest = {"spec": {"teacher": {"endpoint": {"url": "http://me:secret@llm/v1", "model": "m"}}}}
    html = page.render(gather(context, manifest))
    assert "secret" not in html
    assert "http://llm/v1" in html
