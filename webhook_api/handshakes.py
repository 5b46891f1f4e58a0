"""What is answered to who asks an endpoint whether it works."""

from collections.abc import Mapping

from providers.model import Provider
from runtime.settings import ReceiverSettings
from webhook_api.answers import Answer

# What a provider needs to be told of us, and we of it, before deliveries can come.
REQUIRED: Mapping[Provider, tuple[str, ...]] = {
    Provider.GOOGLE: (
        "supacal_secret_keys",
        "supacal_public_url",
        "google_client_id",
        "google_client_secret",
    ),
    Provider.MICROSOFT: (
        "supacal_secret_keys",
        "supacal_public_url",
        "microsoft_client_id",
        "microsoft_client_secret",
    ),
    # By a personal token or an API key, of which each connection has its own.
    Provider.CALENDLY: ("supacal_secret_keys", "supacal_public_url"),
    Provider.CALCOM: ("supacal_secret_keys", "supacal_public_url"),
}


def self_test(provider: Provider, settings: ReceiverSettings, *, path: str) -> Answer:
    """Make what answers GET: that it is reached, and which settings are missing.

    Names of settings only: whoever asks is a stranger.
    """
    missing = [
        name.upper() for name in REQUIRED[provider] if getattr(settings, name) is None
    ]
    public_url = settings.supacal_public_url
    return Answer(
        200,
        {
            "status": "reachable",
            "provider": provider.value,
            "configured": not missing,
            "missing": missing,
            "url": public_url and public_url + path,
        },
    )
