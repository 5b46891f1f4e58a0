"""Which database a command is about."""

import msgspec

from local_stack.facts import Facts
from local_stack.state import running_file
from runtime.settings import DatabaseSettings, StackSettings, read


def database_url() -> str:
    """Return DATABASE_URL, or else that of the local stack that runs here.

    Raises:
        SettingsError: there is neither.
    """
    settings = read(StackSettings)
    running = running_file(settings.supacal_state_dir)
    if settings.database_url is None and running.exists():
        return msgspec.json.decode(running.read_bytes(), type=Facts).database_url
    return read(DatabaseSettings).database_url.get_secret_value()
