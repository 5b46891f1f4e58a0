"""What stories of anything that may happen share: how many, and in which calendars."""

import os
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings

OWN = Path(__file__).parents[1] / "data" / "calendars"
REAL = Path(os.environ.get("SUPACAL_SHARED", "../shared")) / "data" / "calendars"
CALENDARS = [*sorted(OWN.glob("*.ics")), *sorted(REAL.glob("*.ics"))]

# `EXPLORE=1` tells other stories each time, and does not make a failing one shorter.
ANYTHING = settings(
    deadline=None,
    derandomize="EXPLORE" not in os.environ,
    phases=[Phase.generate] if "EXPLORE" in os.environ else list(Phase),
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
