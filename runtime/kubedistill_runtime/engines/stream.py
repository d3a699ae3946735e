"""A chat completion that arrives in pieces, as server-sent events, put together again.

The events are those of OpenAI's API: `data: {…}` with a delta of the message each, `data: [DONE]` at the end. vLLM adds
the token ids of each piece, and those of the prompt to the first.
"""

import json
from array import array
from collections.abc import Iterator
from io import StringIO
from typing import Any

DONE = "[DONE]"
REASONING = ("reasoning", "reasoning_content")
"""What servers call the field of the reasoning; vLLM and others renamed it, and both are in use."""


class Broken(ValueError):
    """What arrived is no stream of a chat completion, or ended too early."""


class Events:
    """Cuts bytes, however they are split, into the data of events."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[str]:
        """The data of the events that are whole now. Comments, which keep a connection alive, are skipped."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            name, _, value = line.rstrip(b"\r").partition(b":")
            if name == b"data":
                yield value.removeprefix(b" ").decode(errors="replace")


class Assembly:
    """Collects the pieces of one answer with one choice. A piece is a token or so, and many answers are under way."""

    def __init__(self) -> None:
        self.error: dict[str, Any] | None = None
        """An event that says that the server failed, whole."""
        self._texts = {name: StringIO(newline="") for name in ("content", *REASONING)}
        self._token_ids = array("q")
        self._prompt_token_ids: list[int] | None = None
        self._finish_reason: str | None = None
        self._usage: dict[str, Any] | None = None

    def add(self, data: str) -> None:
        """One event. Raises Broken."""
        if data == DONE:
            return
        try:
            piece = json.loads(data)
            if "error" in piece:
                self.error = piece
                return
            self._usage = piece.get("usage") or self._usage
            self._prompt_token_ids = piece.get("prompt_token_ids") or self._prompt_token_ids
            for choice in piece.get("choices") or ():  # the one with the usage has none
                delta = choice.get("delta") or {}
                for name, text in self._texts.items():
                    text.write(delta.get(name) or "")
                self._token_ids.extend(choice.get("token_ids") or ())
                self._finish_reason = choice.get("finish_reason") or self._finish_reason
        except (ValueError, TypeError, AttributeError) as error:
            raise Broken(f"an event that is no piece of a chat completion: {data[:200]}") from error

    def answer(self) -> dict[str, Any]:
        """The answer as it would have come in one piece. Raises Broken where it has no end."""
        if self._finish_reason is None:
            raise Broken("the answer broke off in the middle")
        message = {name: text.getvalue() for name, text in self._texts.items()}
        return {
            "choices": [{"message": message, "finish_reason": self._finish_reason, "token_ids": self._token_ids}],
            "usage": self._usage,
            "prompt_token_ids": self._prompt_token_ids,
        }
