"""Hold the migrations against the real Supabase CLI: `python -m local_stack.check_cli`.

It reads supabase/config.toml, applies the migrations to a fresh Supabase database of
the stack's own, and its advisors look at the result. No Docker, no account.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from local_stack.errors import StackError
from local_stack.migrate import MigrationError, migrate
from local_stack.node import Node, install_packages
from local_stack.postgres import Postgres

CHECKOUT = Path(__file__).parents[1]
CLI_LIMIT_S = 120


class SupabaseCli:
    """The npm package `supabase`, always aimed at one database by its address."""

    def __init__(self, node: Node, home: Path, url: str) -> None:
        self.words = [str(CHECKOUT / "node_modules" / ".bin" / "supabase")]
        self.remote = f"--remote={url}?sslmode=disable"
        # It keeps notes in HOME: not in the developer's.
        self.environment = node.environment | {
            "HOME": str(home),
            "SUPABASE_HOME": str(home),
        }

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command; its exit code is for the caller."""
        return subprocess.run(  # noqa: S603
            [*self.words, *words, self.remote],
            cwd=CHECKOUT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CLI_LIMIT_S,
            check=False,
        )


def main() -> int:
    """Run the checks; return the exit code."""
    try:
        node = install_packages(CHECKOUT, judges=True, say=_say)
        with tempfile.TemporaryDirectory(prefix="supacal-check-") as scratch:
            directory = Path(scratch)
            directory.chmod(0o711)  # as root, the server runs as somebody else
            with Postgres(directory / "stack", port=0, durable=False) as postgres:
                postgres.install_surface()
                cli = SupabaseCli(node, directory / "home", postgres.url)
                problems = _problems(cli, postgres.url)
    except (StackError, MigrationError) as error:
        _say(str(error))
        return 1
    for problem in problems:
        _say(problem)
    _say("Supabase CLI: " + ("failed" if problems else "migrations and advisors agree"))
    return 1 if problems else 0


def _problems(cli: SupabaseCli, url: str) -> list[str]:
    """Return what the CLI minds, in words; nothing is good."""
    applied = cli.run("migration", "up", "--yes")
    if applied.returncode:
        return [f"supabase migration up:\n{applied.stdout}{applied.stderr}"]
    if again := migrate(url, CHECKOUT / "supabase" / "migrations"):
        return [f"The CLI did not see what `supacal migrate` does: {', '.join(again)}"]
    types = cli.run("gen", "types", "--lang", "typescript")
    if types.returncode:
        return [f"supabase gen types:\n{types.stdout}{types.stderr}"]
    words = ("--level", "info", "--fail-on", "warn", "--output-format", "json")
    looked = cli.run("db", "advisors", *words)
    try:
        findings = json.loads(looked.stdout)["results"]
    except (ValueError, KeyError):
        return [f"supabase db advisors:\n{looked.stdout}{looked.stderr}"]
    problems = [_described(finding) for finding in findings if not _meant(finding)]
    if looked.returncode and not problems:
        problems.append(f"supabase db advisors:\n{looked.stdout}{looked.stderr}")
    return problems


def _meant(finding: dict[str, Any]) -> bool:
    """Whether a remark is about something that is meant to be so."""
    if finding["name"] == "unused_index":
        return True  # nobody has used a database that was made a second ago
    # The engine's tables are not exposed; without a policy they are closed twice.
    schema = finding.get("metadata", {}).get("schema")
    return (finding["name"], schema) == ("rls_enabled_no_policy", "sync")


def _described(finding: dict[str, Any]) -> str:
    return f"{finding['level']} {finding['name']}: {finding['detail']}"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
