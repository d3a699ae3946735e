"""Tasks of the lm-evaluation-harness: asked through our engines, judged by the harness.

`lm_eval` is an extra of the package and is imported where a benchmark names a task, and nowhere else.
"""
