"""The same promises for every provider: on its twin, and by `make live` on itself."""

import os

import pytest

LIVE = {
    "google": "LIVE_GOOGLE_ACCESS_TOKEN",
    "microsoft": "LIVE_MICROSOFT_ACCESS_TOKEN",
    "calendly": "LIVE_CALENDLY_TOKEN",
    "calcom": "LIVE_CALCOM_API_KEY",
}


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out, by name, the real providers that nobody gave credentials for."""
    asked = config.option.markexpr == "live"
    given = {name for name, variable in LIVE.items() if os.environ.get(variable)}
    if asked and not given:
        raise pytest.UsageError(
            f"No credentials: set one or more of {', '.join(LIVE.values())} "
            "(docs/providers/README.md says what each is)."
        )
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        mark = item.get_closest_marker("live")
        is_left_out = mark is not None and (not asked or mark.args[0] not in given)
        (dropped if is_left_out else kept).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept
