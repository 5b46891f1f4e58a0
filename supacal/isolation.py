"""What keeps the programs apart in the database: roles taken, or their own logins."""

from collections.abc import AsyncIterator, Iterator

from runtime.pool import FAILURES, connect
from runtime.settings import DatabaseAccess, ReceiverSettings, WorkerSettings
from sql import queries
from supacal.findings import Finding


async def isolation(
    receiver: ReceiverSettings | None, worker: WorkerSettings | None
) -> AsyncIterator[Finding]:
    """Try each login, and say what else it could become."""
    for setting, role, access in _pools(receiver, worker):
        yield await _try(setting, role, access)


def _pools(
    receiver: ReceiverSettings | None, worker: WorkerSettings | None
) -> Iterator[tuple[str, str, DatabaseAccess]]:
    if receiver is not None:
        yield "RECEIVER_DATABASE_URL", "webhook_ingest", receiver.database
        # Who makes no connections needs no login for them.
        if receiver.connect_database_url or receiver.database_url:
            yield "CONNECT_DATABASE_URL", "webhook_connect", receiver.connect_database
    if worker is not None:
        yield "WORKER_DATABASE_URL", "sync_worker", worker.database


async def _try(setting: str, role: str, access: DatabaseAccess) -> Finding:
    is_shared = access.role is not None
    url = access.url.get_secret_value()
    try:
        connection = await connect(
            url, role=access.role, application_name="supacal doctor"
        )
    except FAILURES as failure:
        named = "DATABASE_URL" if is_shared else setting
        said = f"{named} cannot be used as {role} ({type(failure).__name__}): "
        return Finding(False, said + "mend the login, or grant it that role")
    try:
        found = await queries.doctor.session(connection, role=role)
    finally:
        await connection.close()
    login, more = found["login"], ", ".join(found["could_become"])
    if not found["may_be_role"]:
        said = f"{setting}: its login {login} may not do what {role} does: grant it"
        return Finding(False, said)
    if not more:
        said = f"{role} has a login of its own: {login} can become nothing else"
        return Finding(True, said)
    if is_shared:
        return Finding(
            True,
            f"{role} is taken by the login {login}, which could also become {more}; "
            f"{setting} with a login of its own would keep them apart",
        )
    return Finding(
        False,
        f"{setting}: its login {login} is not kept apart, for it can become {more}: "
        "revoke them",
    )
