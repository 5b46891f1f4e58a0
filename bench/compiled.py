"""Small C programs, compiled when the bench begins; without a compiler we go on."""

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
COMPILERS = ("cc", "gcc", "clang")


def compiled(source: str, into: Path, *options: str) -> Path | None:
    """Compile a file of this folder; None where no compiler is, or it will not."""
    found = [path for name in COMPILERS if (path := shutil.which(name))]
    if not found:
        return None
    target = into / Path(source).stem
    done = subprocess.run(  # noqa: S603
        [found[0], "-O2", *options, "-o", target, HERE / source, "-ldl"],
        capture_output=True,
        check=False,
    )
    return target if done.returncode == 0 else None
