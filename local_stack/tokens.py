"""JSON Web Tokens as Supabase Auth shapes them, signed with a secret all know."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import jwt

# What every local Supabase signs with: no secret, and never to be one.
JWT_SECRET = "super-secret-jwt-token-with-at-least-32-characters-long"  # noqa: S105
KEY_LIFETIME = timedelta(days=3650)
SESSION_LIFETIME = timedelta(days=7)  # a demo left running; hosted ones last an hour


def anon_key(*, secret: str = JWT_SECRET, now: datetime | None = None) -> str:
    """Return the key of a frontend whose user is not signed in."""
    return _key("anon", secret, now)


def service_role_key(*, secret: str = JWT_SECRET, now: datetime | None = None) -> str:
    """Return the key of a server: it goes past row-level security."""
    return _key("service_role", secret, now)


def user_token(
    user_id: UUID | str,
    email: str,
    *,
    secret: str = JWT_SECRET,
    issuer: str = "http://127.0.0.1:54321/auth/v1",
    now: datetime | None = None,
    lifetime: timedelta = SESSION_LIFETIME,
) -> str:
    """Return the access token of a signed-in user."""
    issued_at = now or datetime.now(UTC)
    claims = {
        "iss": issuer,
        "sub": str(user_id),
        "aud": "authenticated",
        "iat": int(issued_at.timestamp()),
        "exp": int((issued_at + lifetime).timestamp()),
        "email": email,
        "phone": "",
        "app_metadata": {"provider": "email", "providers": ["email"]},
        "user_metadata": {"email": email, "email_verified": True},
        "role": "authenticated",
        "aal": "aal1",
        "amr": [{"method": "password", "timestamp": int(issued_at.timestamp())}],
        # No session_id: @supabase/lite would look for a session of its own making.
        "is_anonymous": False,
    }
    return jwt.encode(claims, secret, algorithm="HS256")


def _key(role: str, secret: str, now: datetime | None) -> str:
    issued_at = now or datetime.now(UTC)
    claims = {
        "iss": "supabase-demo",
        "role": role,
        "iat": int(issued_at.timestamp()),
        "exp": int((issued_at + KEY_LIFETIME).timestamp()),
    }
    return jwt.encode(claims, secret, algorithm="HS256")
