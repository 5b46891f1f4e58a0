"""Small C programs, compiled when the bench begins; nothing breaks without a compiler."""

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
COMPILERS = ("cc", "gcc", "clang")


def compiled(source: str, into: Path, *options: str) -> Path | None:
    """Compile a file of this folder; None where no compiler is, or it will not."""
    compiler = next(
        (found for name in COMPILERS if (found := shutil.which(name))), None
    )
    if compiler is None:
        return None
    target = into / Path(source).stem
    done = subprocess.run(  # noqa: S603
        [compiler, "-O2", *options, "-o", target, HERE / source, "-ldl"],
        capture_output=True,
        check=False,
    )
    return target if done.returncode == 0 else None
