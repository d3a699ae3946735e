"""A rate limit that the client keeps by itself. Pure: times in, waiting times out."""


class RateLimit:
    """At most `per_minute` units in a minute, spread evenly, with `burst_seconds` of them at once."""

    def __init__(self, per_minute: float, burst_seconds: float = 5.0) -> None:
        self._per_second = per_minute / 60
        self._burst = max(1.0, self._per_second * burst_seconds)
        self._level = self._burst
        self._at: float | None = None

    def take(self, amount: float, now: float) -> float:
        """Books `amount` and returns for how many seconds to wait before it is spent."""
        if self._at is not None:
            self._level = min(self._burst, self._level + (now - self._at) * self._per_second)
        self._at = now
        # More than a burst holds at once is booked too: the debt is waited for by those who come after.
        wait = max(0.0, (min(amount, self._burst) - self._level) / self._per_second)
        self._level -= amount
        return wait

    def settle(self, difference: float) -> None:
        """Books what was spent beyond what was taken (or gives back, where it is negative)."""
        self._level = min(self._burst, self._level - difference)
