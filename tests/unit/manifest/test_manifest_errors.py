"""What is wrong in a manifest: all of it, with line, field, problem and fix."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kubedistill_api.manifest import FieldError, ManifestError, load

JOB = """\
apiVersion: kubedistill.io/v1alpha1
kind: DistillationJob
metadata: {name: small}
spec:
  questions:
  - uri: q.jsonl
  student: {uri: s}
  teacher:
    model: {uri: t}
"""
SPEC_LINE = len(JOB.splitlines()) + 1
"""Line of the first field that `job` adds."""


def job(*lines: str) -> str:
    return JOB + "".join(f"  {line}\n" for line in lines)


def errors(text: str) -> list[FieldError]:
    with pytest.raises(ManifestError) as caught:
        load(text)
    return caught.value.errors


def problems(text: str) -> list[FieldError]:
    """The errors, or none where the text is a manifest. Anything else that is raised is a defect."""
    try:
        load(text)
    except ManifestError as error:
        return error.errors
    return []


def only(text: str) -> FieldError:
    (error,) = errors(text)
    return error


def test_an_unknown_field_names_the_one_that_was_meant() -> None:
    error = only(job("training: {epoch: 3}"))
    assert (error.line, error.path, error.problem) == (SPEC_LINE, "spec.training.epoch", "unknown field")
    assert error.fix.startswith("did you mean epochs?")
    assert "learningRate" in error.fix


def test_snake_case_is_refused_as_in_a_cluster_and_translated() -> None:
    error = only(job("training: {learning_rate: 1e-5}"))
    assert error.fix.startswith("did you mean learningRate?")


def test_a_right_field_at_the_wrong_level_is_led_home() -> None:
    error = only(JOB + "    samples: 4\n")
    assert error.path == "spec.teacher.samples"
    assert "there is spec.teacher.sampling.samples" in error.fix


def test_an_unknown_field_that_resembles_nothing_lists_what_there_is() -> None:
    error = only(job("output: {uri: x, zzz: 1}"))
    assert error.fix == "fields here: uri"


def test_a_wrong_value_lists_the_allowed_ones() -> None:
    error = only(job("curation: {quality: {think: stric}}"))
    assert error.path == "spec.curation.quality.think"
    assert error.problem == "'stric' is not allowed"
    assert error.fix == "did you mean strict? allowed: strict, any, off"


@pytest.mark.parametrize(
    ("line", "path", "fix"),
    [
        ("training: {epochs: 0}", "spec.training.epochs", "give a value from 1 to 1000"),
        ("training: {learningRate: -1}", "spec.training.learningRate", "give a value above 0 and at most 1"),
        ("evaluation: {samples: 2000}", "spec.evaluation.samples", "give a value from 1 to 1024"),
        ("evaluation: {temperature: .nan}", "spec.evaluation.temperature", "give a value from 0 to 2"),
        ("training: {maxSteps: 0}", "spec.training.maxSteps", "give a value of at least 1"),
    ],
)
def test_a_value_out_of_range_names_the_range(line: str, path: str, fix: str) -> None:
    error = only(job(line))
    assert (error.path, error.fix) == (path, fix)


@pytest.mark.parametrize(
    ("line", "problem", "fix"),
    [
        ('training: {epochs: "3"}', "'3' is text", "remove the quotes: 3"),
        ("training: {epochs: 2.5}", "2.5 is a number", "give a whole number from 1 to 1000, for example 10"),
        ("training: {epochs: true}", "true is a boolean", "give a whole number from 1 to 1000, for example 10"),
        ("training: {epochs: [3]}", "[3] is a list", "give a whole number from 1 to 1000, for example 10"),
        ("training: {epochs: }", "has no value", "give a whole number, or remove the line"),
        ('suspend: "true"', "'true' is text", "remove the quotes: true"),
        ("output: pvc://x/y", "'pvc://x/y' is text", 'write output: {uri: "pvc://x/y"}'),
        ("priorityClassName: 7", "7 is a number", 'quote it: "7"'),
        ("priorityClassName: yes", "true is a boolean", 'quote it: "true"'),
        (
            "evaluation: {benchmarks: {name: a, uri: b}}",
            "{'name': 'a', 'uri': 'b'} is a mapping",
            "start each entry with '- '",
        ),
    ],
)
def test_a_wrong_type_says_what_it_is_and_how_to_write_it(line: str, problem: str, fix: str) -> None:
    error = only(job(line))
    assert (error.problem, error.fix) == (problem, fix)


def test_a_missing_field_is_looked_for_where_it_belongs() -> None:
    error = only(JOB.replace("  student: {uri: s}\n", "  student:\n    revision: main\n"))
    assert (error.line, error.path, error.problem) == (7, "spec.student.uri", "is missing")
    assert error.fix.startswith("add uri: text (`hf://org/name`")


def test_a_rule_of_several_fields_points_at_the_field_it_speaks_of() -> None:
    error = only(JOB + "    sampling:\n      samples: 4\n      stopAfterVerified: 9\n")
    assert (error.line, error.path) == (12, "spec.teacher.sampling.stopAfterVerified")
    assert error.fix == "lower stopAfterVerified or raise samples"


def test_a_rule_across_the_spec_points_at_the_nested_field() -> None:
    error = only(JOB + "    sampling: {maxTokens: 512}\n    engine: {maxModelLen: 256}\n")
    assert (error.line, error.path) == (10, "spec.teacher.sampling.maxTokens")


def test_exactly_one_teacher_is_asked_for() -> None:
    error = only(JOB.replace("    model: {uri: t}\n", "    sampling: {samples: 2}\n"))
    assert error.path == "spec.teacher"
    assert "exactly one of model, endpoint and probeRef (got none)" in error.problem


def test_a_key_given_twice_is_an_error_and_hides_no_other() -> None:
    found = errors(job("training:", "  epochs: 3", "  epochs: 4", "  warmup: 1"))
    assert [(e.line, e.path, e.problem) for e in found] == [
        (SPEC_LINE + 2, "spec.training.epochs", f"given twice, first on line {SPEC_LINE + 1}"),
        (SPEC_LINE + 3, "spec.training.warmup", "unknown field"),
    ]


def test_all_errors_of_all_documents_come_at_once_in_the_order_of_lines() -> None:
    text = job("training: {epochs: 0}", "sudent: {}") + "---\n" + job("evaluation: {samples: 0}").replace("small", "b")
    found = errors(text)
    assert [e.path for e in found] == ["spec.training.epochs", "spec.sudent", "spec.evaluation.samples"]
    assert [e.line for e in found] == sorted(e.line for e in found)


def test_an_unknown_kind_and_version_name_the_known_ones() -> None:
    found = errors("apiVersion: kubedistill.io/v1\nkind: DistilationJob\nmetadata: {name: a}\n")
    assert [e.path for e in found] == ["apiVersion", "kind"]
    assert found[0].fix == "write apiVersion: kubedistill.io/v1alpha1"
    assert found[1].fix.startswith("did you mean DistillationJob? kinds: ")
    assert "TeacherProbe" in found[1].fix


def test_a_document_without_kind_says_so() -> None:
    found = errors("metadata: {name: a}\n")
    assert [(e.path, e.problem) for e in found] == [("apiVersion", "is missing"), ("kind", "is missing")]


def test_the_same_resource_twice_is_an_error() -> None:
    error = only(JOB + "---\n" + JOB)
    assert error.path == "metadata.name"
    assert "given twice, first on line 1" in error.problem


@pytest.mark.parametrize(
    ("text", "line", "fix"),
    [
        ("a: b: c", 1, "quote the value that contains ': '"),
        ("a:\n\tb: c", 2, "indent with spaces"),
        ("a: [1, 2\nb: 3", 2, "bracket"),
        ("a: *b", 1, "quote values that start with *"),
        ("a: 'b", 1, "quote"),
        ("a: 1\n---\nb: \x01", 3, "remove it"),
    ],
)
def test_yaml_that_cannot_be_read_is_located(text: str, line: int, fix: str) -> None:
    error = next(e for e in errors(text) if "YAML" in e.problem)
    assert error.line == line
    assert fix in error.fix


@pytest.mark.parametrize("text", ["", "---\n---\n", "# nothing\n"])
def test_a_file_without_a_resource_says_how_to_start(text: str) -> None:
    assert "start with 'apiVersion: kubedistill.io/v1alpha1'" in only(text).fix


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {b: *a}",
        "a: &a [x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"b{i}: &b{i} [{','.join([f'*{p}'] * 8)}]\n"
            for i, p in enumerate(["a", "b0", "b1", "b2", "b3", "b4", "b5", "b6"])
        ),
        "a: " + "[" * 5000,
    ],
)
def test_hostile_nesting_is_refused_at_once(text: str) -> None:
    assert errors(text)


def test_python_objects_are_not_made() -> None:
    error = only("a: !!python/object/apply:os.system [x]")
    assert "not a type of manifests" in error.problem


def test_an_error_reads_like_one_of_a_compiler(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(job("training: {epochs: 0}"))
    with pytest.raises(ManifestError) as caught:
        load(path)
    first, second = str(caught.value).splitlines()
    assert first == f"{path}:{SPEC_LINE}: spec.training.epochs: 0 is out of range"
    assert second == "    give a value from 1 to 1000"


@settings(deadline=None)
@given(st.text(alphabet=" \n\t:-[]{}'\"#&*!|>abc01.,", max_size=80))
def test_no_text_makes_anything_but_a_manifest_error(text: str) -> None:
    assert all(error.problem for error in problems(text))


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_paths = st.sampled_from(
    [
        *("metadata", "spec", "spec.teacher", "spec.teacher.model", "spec.teacher.sampling", "spec.questions"),
        *("spec.training", "spec.output", "spec.student.engine", "spec.curation.verification.judge"),
        "spec.evaluation.benchmarks",
    ]
)


@settings(deadline=None)
@given(_paths, _values)
def test_any_value_in_any_place_is_explained(path: str, value: object) -> None:
    data = yaml.safe_load(JOB)
    target = data
    *parents, last = path.split(".")
    for parent in parents:
        target = target.setdefault(parent, {})
    target[last] = value
    assert all(error.problem and error.line >= 1 for error in problems(yaml.safe_dump(data)))
