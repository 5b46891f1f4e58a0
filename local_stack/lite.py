"""REST and Auth of the local stack: @supabase/lite on our Postgres.

It wants a folder and a configuration of its own, and knows only its own `sb_` keys:
`local_stack.door` stands in front and translates.
"""

import secrets
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import msgspec
import psycopg

from local_stack.children import Child
from local_stack.node import Node
from local_stack.ports import LOOPBACK

ROLE = "local_stack_rest"
SETUP = Path(__file__).with_suffix(".sql")
PROGRAM = Path("node_modules/@supabase/lite/dist/cli/index.js")


def prepare_database(admin_url: str) -> None:
    """Let it log in to a database with the Supabase surface, as `ROLE`."""
    with psycopg.connect(admin_url) as database:
        database.execute(SETUP.read_bytes())


@dataclass(frozen=True)
class Lite:
    """Where it listens, and the keys it takes for anon and service_role."""

    port: int
    publishable_key: str = field(
        default_factory=lambda: f"sb_publishable_{secrets.token_hex(12)}"
    )
    secret_key: str = field(
        default_factory=lambda: f"sb_secret_{secrets.token_hex(12)}"
    )

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def child(
        self,
        node: Node,
        checkout: Path,
        *,
        folder: Path,
        database_url: str,
        jwt_secret: str,
        log: Path,
    ) -> Child:
        """Write its configuration to the folder; return it, not yet started."""
        (folder / "supabase").mkdir(parents=True, exist_ok=True)
        config: dict[str, dict[str, str | int | bool]] = {
            "api": {"port": self.port},
            "db": {"driver": "postgres", "url": database_url},
            "db.migrations": {"enabled": False},
            "auth": {
                "jwt_secret": jwt_secret,
                "publishable_key": self.publishable_key,
                "secret_key": self.secret_key,
            },
        }
        file = folder / "supabase" / "config.toml"
        file.touch(mode=0o600)
        file.write_text(_toml(config))
        command = [str(node.executable), str(checkout / PROGRAM), "start", "--no-admin"]
        return Child(
            "REST and Auth",
            command,
            log=log,
            # It keeps notes in HOME: not in the developer's, which may not be writable.
            environment=node.environment | {"HOME": str(folder)},
            directory=folder,
        )

    async def answers(self) -> bool:
        """Whether it is up."""
        try:
            async with httpx2.AsyncClient(base_url=self.url) as client:
                answer = await client.get(
                    "/rest/v1/", headers={"apikey": self.secret_key}
                )
        except httpx2.TransportError:
            return False
        return answer.status_code < 500


def _toml(config: dict[str, dict[str, str | int | bool]]) -> str:
    # A JSON string is a TOML basic string.
    lines: list[str] = []
    for section, values in config.items():
        lines.append(f"[{section}]")
        lines += [
            f"{key} = {msgspec.json.encode(value).decode()}"
            for key, value in values.items()
        ]
    return "\n".join(lines) + "\n"
