"""Where each provider is, and how it renews the tokens of a grant."""

from dataclasses import dataclass

import httpx2
from pydantic import SecretStr

from providers.calendly import oauth as calendly_oauth
from providers.errors import AccessLost
from providers.google import oauth as google_oauth
from providers.microsoft import oauth as microsoft_oauth
from providers.model import Provider, Tokens
from runtime.settings import WorkerSettings
from worker.handler import TaskFailed


@dataclass(frozen=True, slots=True)
class Grants:
    """Calls the OAuth servers, as the clients that the settings name."""

    http: httpx2.AsyncClient
    settings: WorkerSettings

    def api_url(self, provider: Provider) -> str:
        """Where a provider's API is, or the twin that stands for it."""
        urls = {
            Provider.GOOGLE: self.settings.google_api_url,
            Provider.MICROSOFT: self.settings.microsoft_api_url,
            Provider.CALENDLY: self.settings.calendly_api_url,
            Provider.CALCOM: self.settings.calcom_api_url,
        }
        return str(urls[provider])

    async def refresh(self, provider: Provider, refresh_token: str) -> Tokens:
        """Get a fresh access token, and mostly a new refresh token with it.

        Raises:
            AccessLost: the grant is gone, or may be spent without an answer.
            Transient: nobody answered; the grant may be as good as ever.
        """
        settings = self.settings
        match provider:
            case Provider.GOOGLE:
                client_id, secret = _client(
                    "GOOGLE", settings.google_client_id, settings.google_client_secret
                )
                return await google_oauth.refresh(
                    self.http,
                    auth_url=str(settings.google_auth_url),
                    client_id=client_id,
                    client_secret=secret,
                    refresh_token=refresh_token,
                )
            case Provider.MICROSOFT:
                client_id, secret = _client(
                    "MICROSOFT",
                    settings.microsoft_client_id,
                    settings.microsoft_client_secret,
                )
                return await microsoft_oauth.refresh(
                    self.http,
                    auth_url=str(settings.microsoft_auth_url),
                    tenant=settings.microsoft_tenant,
                    client_id=client_id,
                    client_secret=secret,
                    refresh_token=refresh_token,
                )
            case Provider.CALENDLY:
                client_id, secret = _client(
                    "CALENDLY",
                    settings.calendly_client_id,
                    settings.calendly_client_secret,
                )
                return await calendly_oauth.refresh(
                    self.http,
                    auth_url=str(settings.calendly_auth_url),
                    client_id=client_id,
                    client_secret=secret,
                    refresh_token=refresh_token,
                )
            case Provider.CALCOM:
                raise AccessLost(provider, "token", reason="an API key is not renewed")


def _client(
    name: str, client_id: str | None, secret: SecretStr | None
) -> tuple[str, str]:
    if client_id is None or secret is None:
        raise TaskFailed(f"{name}_CLIENT_ID and {name}_CLIENT_SECRET are not set")
    return client_id, secret.get_secret_value()
