"""Times as the catalogue keeps them: UTC, ISO 8601 to the second."""

from datetime import UTC, datetime, timedelta


def now() -> str:
    """The present."""
    return days_ago(0)


def days_ago(days: float) -> str:
    """So many days before the present."""
    return (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")
