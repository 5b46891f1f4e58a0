"""The operations on subscriptions: each validates addresses before it answers."""

from dataclasses import dataclass

from local_stack.twins.guarded import Answer
from local_stack.twins.microsoft.calls import Call, Operation, told
from local_stack.twins.microsoft.errors import invalid
from local_stack.twins.microsoft.push import PushSender
from local_stack.twins.microsoft.state import Json
from local_stack.twins.microsoft.subscriptions import Subscription, Subscriptions

SCOPES = ("Calendars.Read", "Calendars.ReadWrite")


@dataclass(frozen=True)
class SubscriptionApi:
    """What the API does with subscriptions, without HTTP."""

    subscriptions: Subscriptions
    sender: PushSender

    def operations(self) -> list[Operation]:
        """Return every operation, with its path below `/v1.0`."""
        all_, one = "/subscriptions", "/subscriptions/{subscription_id}"
        again = f"{one}/reauthorize"
        table = (
            ("subscriptions.list", "GET", all_, self.list_),
            ("subscriptions.create", "POST", all_, self.create),
            ("subscriptions.get", "GET", one, self.get),
            ("subscriptions.update", "PATCH", one, self.update),
            ("subscriptions.delete", "DELETE", one, self.delete),
            ("subscriptions.reauthorize", "POST", again, self.reauthorize),
        )
        return [
            Operation(n, method, path, SCOPES, run) for n, method, path, run in table
        ]

    async def create(self, call: Call) -> Answer:
        made = self.subscriptions.read(
            call.grant, call.body, immutable=call.wishes.immutable
        )
        await self.sender.validate(made.notification_url)
        if made.lifecycle_url is not None:
            await self.sender.validate(made.lifecycle_url)
        self.subscriptions.keep(made)
        return told(_entity(call, made.answer()), status=201)

    def list_(self, call: Call) -> Answer:
        mine = self.subscriptions.listed(call.grant)
        # The secret is shown to who creates, and to nobody later.
        value = [one.answer(with_state=False) for one in mine]
        context = f"{call.root}/v1.0/$metadata#subscriptions"
        return told({"@odata.context": context, "value": value})

    def get(self, call: Call) -> Answer:
        return told(_entity(call, self._one(call).answer(with_state=False)))

    async def update(self, call: Call) -> Answer:
        one = self._one(call)
        if "lifecycleNotificationUrl" in call.body:
            raise invalid(
                "lifecycleNotificationUrl cannot be changed.", "InvalidRequest"
            )
        if "expirationDateTime" in call.body:
            one.expires_at = self.subscriptions.expiry(call.body["expirationDateTime"])
        address = call.body.get("notificationUrl")
        if address is not None:
            await self.sender.validate(address)
            one.notification_url = address
        return told(_entity(call, one.answer(with_state=False)))

    def delete(self, call: Call) -> Answer:
        self.subscriptions.remove(self._one(call).id)
        return Answer(status=204)

    def reauthorize(self, call: Call) -> Answer:
        self._one(call)
        return Answer(status=204)

    def _one(self, call: Call) -> Subscription:
        return self.subscriptions.of(call.grant, call.path["subscription_id"])


def _entity(call: Call, answer: Json) -> Json:
    context = f"{call.root}/v1.0/$metadata#subscriptions/$entity"
    return {"@odata.context": context, **answer}
