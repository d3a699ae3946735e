"""Judging responses while sampling goes on: rules for math, a sandbox for code, a judge model for the rest.

`pool.VerifierPool` is the entrance. The modules that run in child processes import nothing beyond the standard library
and math-verify, so a child starts fast; this file stays empty for the same reason.
"""
