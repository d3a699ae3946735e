"""How long a server asks to be left alone: HTTP's Retry-After, RFC 9110 section 10.2.3."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds from `now` (UTC; default: the clock's), not below 0; None for no header and for nonsense.

    Both of the header's forms are read, seconds and a date; and fractions of a second, which some servers send.
    """
    text = (value or "").strip()
    if text.replace(".", "", 1).isdecimal():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    # A date without a zone, which RFC 9110 does not know, is taken for what the RFC demands: GMT.
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())
