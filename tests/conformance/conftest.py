"""The same promises for every provider: on its twin, and by `make live` on itself."""

import os

import pytest

LIVE = {
    "google": "LIVE_GOOGLE_ACCESS_TOKEN",
    "microsoft": "LIVE_MICROSOFT_ACCESS_TOKEN",
    "calendly": "LIVE_CALENDLY_TOKEN",
    "calcom": "LIVE_CALCOM_API_KEY",
}
# Where a webhook_api answers; who gives it wants channels made and ended, too.
WEBHOOKS = "LIVE_WEBHOOKS_URL"


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out, by name, the real providers that nobody gave credentials for.

    A second word of the mark is a variable without which it is left out as well.
    """
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
        is_wanted = mark is None or (asked and _is_possible(*mark.args, given=given))
        (kept if is_wanted else dropped).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


def _is_possible(provider: str, *variables: str, given: set[str]) -> bool:
    return provider in given and all(os.environ.get(name) for name in variables)
