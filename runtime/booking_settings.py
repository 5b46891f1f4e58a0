"""Settings of the providers that take bookings: Calendly and Cal.com."""

from datetime import timedelta

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from runtime.setting_types import BaseUrl, ClientSecret, Seconds, missing
from runtime.settings_reading import Settings


class CalendlyApp(Settings):
    """The OAuth app, for those who make connections and those who use them."""

    calendly_client_id: str | None = Field(
        None, description="The OAuth app that Calendly connections are made with."
    )
    calendly_client_secret: ClientSecret = Field(
        None, description="The secret of CALENDLY_CLIENT_ID."
    )


class BookingDeliveries(CalendlyApp):
    """How deliveries of bookings are verified, beside the keys that are derived."""

    calendly_webhook_signing_key: SecretStr | None = Field(
        None,
        description="The one key that Calendly signs with for the whole OAuth app, or "
        "that of webhooks made by hand. Required with CALENDLY_CLIENT_ID.",
    )
    calcom_webhook_secret: SecretStr | None = Field(
        None, description="The secret of Cal.com webhooks made by hand."
    )
    supacal_signature_tolerance_seconds: Seconds = Field(
        300,
        description="How old a signed delivery may be. A retry may repeat the time of "
        "the first attempt: what is older is refused, and its connection swept.",
    )

    @field_validator("calendly_webhook_signing_key")
    @classmethod
    def _of_an_app(
        cls, key: SecretStr | None, info: ValidationInfo
    ) -> SecretStr | None:
        """Webhooks made by an app are signed with its own key, and no other."""
        if key is None and info.data.get("calendly_client_id") is not None:
            raise missing("calendly_webhook_signing_key")
        return key

    @property
    def signature_tolerance(self) -> timedelta:
        """How old a signed delivery may be."""
        return timedelta(seconds=self.supacal_signature_tolerance_seconds)


class BookingCalls(CalendlyApp):
    """Where the APIs are, and what is asked of them."""

    calendly_webhook_signing_key: SecretStr | None = Field(
        None,
        description="As above: without it no webhook is made for an account that was "
        "connected through CALENDLY_CLIENT_ID, and an alert is open.",
    )
    calcom_api_key: SecretStr | None = Field(
        None,
        description="The API key of Cal.com connections that have none of their own.",
    )
    calendly_api_url: BaseUrl = Field(
        "https://api.calendly.com",
        description="Calendly's API, or a twin or proxy of it.",
    )
    calendly_auth_url: BaseUrl = Field(
        "https://auth.calendly.com/oauth",
        description="Calendly's OAuth server, or a twin of it: `/token` is added.",
    )
    calcom_api_url: BaseUrl = Field(
        "https://api.cal.com/v2",
        description="Cal.com's API v2, or a twin or proxy of it.",
    )
