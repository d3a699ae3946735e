"""A file that changes under its name is not taken for the one that a result was made from."""

import json
import os
import subprocess
import sys
from pathlib import Path

from kubedistill_api.stage import PrepareParams, StageSpec


def prepare(folder: Path) -> subprocess.CompletedProcess[str]:
    params = PrepareParams.model_validate(
        {
            "questions": [{"uri": str(folder / "questions.jsonl")}],
            "benchmarks": [],
            "decontamination": {},
            "verification": {},
        }
    )
    spec = StageSpec(
        resource="DistillationJob/a/b", stage="prepare", digest="d", params=params, output_uri=str(folder / "out")
    )
    path = folder / "spec.json"
    path.write_text(spec.model_dump_json(by_alias=True))
    return subprocess.run(
        [sys.executable, "-m", "kubedistill_runtime.stages", str(path)], capture_output=True, text=True, timeout=120
    )


def test_a_result_is_found_again_until_its_source_changes(tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps({"question": "Compute 1+1.", "answer": "2"}) + "\n")
    assert prepare(tmp_path).returncode == 0
    spec = StageSpec.model_validate_json((tmp_path / "out" / "spec.json").read_bytes())
    result = tmp_path / "out" / "result.json"
    os.utime(result, (1, 1))
    assert spec == StageSpec.model_validate_json((tmp_path / "spec.json").read_bytes()), "it stays with what is made"
    assert prepare(tmp_path).returncode == 0
    assert result.stat().st_mtime > 1, "what is used again is young again"
    questions.write_text(json.dumps({"question": "Compute 1+2.", "answer": "3"}) + "\n")
    changed = prepare(tmp_path)
    assert changed.returncode == 65
    assert f"{questions} was changed since" in changed.stderr
