"""The page's script, where there is a node to run it."""

import json
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

NODE = shutil.which("node")
SCRIPT = resources.files("kubedistill_runtime.report").joinpath("script.js")
pytestmark = pytest.mark.skipif(NODE is None, reason="no node here")


def response(index: int, text: str) -> dict[str, Any]:
    return {
        "index": index, "who": "", "correct": True, "error": "", "method": "rules", "tokens": 9, "truncated": False,
        "kept": True, "stage": "kept", "reason": "kept", "note": "", "text": text, "cut": 0,
    }  # fmt: skip


def clicked(texts: list[str], *clicks: int) -> list[dict[str, Any]]:
    """What the comparison shows after each click on the `compare` button of a response."""
    entry = {
        "group": "", "id": "q", "question": "Q?", "gold": "3", "facts": {"passRate": 0.5}, "note": "",
        "responses": [response(at, text) for at, text in enumerate(texts)],
    }  # fmt: skip
    excerpts = json.dumps({"traces": [entry], "answers": []})
    stub = Path(__file__).with_name("dom_stub.js")
    command = [str(NODE), str(stub), str(SCRIPT), excerpts, ",".join(map(str, clicks))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_two_responses_are_shown_beside_each_other_with_their_common_beginning_faint():
    texts = ["we add one and two. It is 3", "we add one and three. It is 4", "we add one and two. It is 3"]
    first, second, third, fourth = clicked(texts, 0, 1, 2, 2)
    assert first == {"pressed": [0], "said": None}
    assert second["said"] == "Both begin with the same 4 words."
    assert second["same"] == ["we add one and "] * 2, "half a word that is the same does not count"
    assert second["texts"] == texts[:2]
    assert (third["pressed"], third["texts"]) == ([1, 2], texts[1:]), "the last two are shown"
    assert fourth == {"pressed": [1], "said": None}


def test_texts_that_are_equal_or_differ_from_the_start_say_so():
    assert clicked(["a b", "a b"], 0, 1)[-1]["said"] == "Both are the same."
    assert clicked(["abc d", "abd d"], 0, 1)[-1]["said"] == "They differ from the first word on."
    for one in ("a", "a ", "a c"):
        assert clicked([one, "a b"], 0, 1)[-1]["said"] == "Both begin with the same 1 word."


def test_a_single_response_has_nothing_to_be_compared_with():
    assert clicked(["alone"]) == []
