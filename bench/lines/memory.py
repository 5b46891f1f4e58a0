"""What receiver and worker hold in memory after all of this."""

from bench.ground import Ground
from bench.measure import Claim, NotMeasured, Result, Spread

NAME = "memory"
TITLE = "Resident memory, receiver and worker, after the bench"


async def measure(ground: Ground) -> Result:
    """Judge the largest of each, as noted when the lines before have ended."""
    result = Result(NAME, TITLE)
    if not all(ground.memory_mb.values()):
        raise NotMeasured(
            "it is what other lines leave: run it behind receiver, callback"
        )
    for program, megabytes in ground.memory_mb.items():
        result.claims.append(
            Claim(program, Spread.of([max(megabytes)]), at_most=120, unit="MB")
        )
    return result
