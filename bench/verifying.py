"""The receiver without a database: it verifies, and says that it has stored.

What it answers a second is the ceiling of the real one. Run as a program with the
receiver's settings.
"""

from runtime.settings import ReceiverSettings, read
from webhook_api import answers, receive, server
from webhook_api.answers import Answer
from webhook_api.deliveries import Delivery


async def _store_nothing(self: receive.Endpoint, deliveries: list[Delivery]) -> Answer:
    return answers.ACCEPTED


if __name__ == "__main__":
    receive.Endpoint._store = _store_nothing  # type: ignore[method-assign]
    server.serve(read(ReceiverSettings))
