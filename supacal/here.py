"""Which database a command is about."""

import msgspec

from local_stack.facts import Facts
from local_stack.state import is_running, running_file
from runtime.settings import DatabaseSettings, SettingsError, StackSettings, read


def database_url() -> str:
    """Return DATABASE_URL, or else that of the local stack that runs here.

    Raises:
        SettingsError: there is neither.
    """
    settings = read(StackSettings)
    if settings.database_url is not None:
        return read(DatabaseSettings).database_url.get_secret_value()
    if not is_running(settings.supacal_state_dir):
        raise SettingsError(
            [
                "DATABASE_URL is missing, and no local stack runs here: set it, or "
                "start a stack with `supacal dev`"
            ]
        )
    running = running_file(settings.supacal_state_dir)
    return msgspec.json.decode(running.read_bytes(), type=Facts).database_url
