"""Who a client is: the JWT it brings, read the way the Realtime server reads it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
import msgspec

MISSING_FIELDS = "Fields `role` and `exp` are required in JWT"
NOT_A_JWT = "The token provided is not a valid JWT"
BAD_SIGNATURE = "Failed to validate JWT signature"
_OPAQUE_KEY_LIFE_S = 3650 * 86_400


@dataclass(frozen=True)
class Claims:
    """A verified token: what it says, and the text it came as."""

    token: str
    values: Mapping[str, Any]

    @property
    def role(self) -> str:
        return str(self.values["role"])

    @property
    def json(self) -> str:
        return msgspec.json.encode(self.values).decode()

    @property
    def expires_at_s(self) -> float:
        return float(self.values["exp"])


class TokenRefused(Exception):
    """A token that is not accepted, in the three wordings the server has for it.

    Args:
        code: the error code of a refused join.
        message: its text, also that of an `access_token` event.
        handshake: the text of a refused handshake.
    """

    def __init__(self, code: str, message: str, *, handshake: str | None = None):
        super().__init__(message)
        self.code = code
        self.message = message
        self.handshake = handshake or message


class SignatureRefused(TokenRefused):
    """Signed with a key that is not ours."""

    def __init__(self) -> None:
        super().__init__("JwtSignatureError", BAD_SIGNATURE)
        self.refresh_message = ":signature_error"


class Tokens:
    """Verifies tokens against the project's secret."""

    def __init__(self, secret: str, opaque_keys: Mapping[str, str] | None = None):
        self._secret = secret
        self._opaque_keys = dict(opaque_keys or {})

    def verify(self, token: str) -> Claims:
        """Return the claims of a token; TokenRefused says why there are none."""
        role = self._opaque_keys.get(token)
        if role is not None:
            return Claims(token, {"role": role, "exp": _in(_OPAQUE_KEY_LIFE_S)})
        values = self._decode(token)
        expires_at = values.get("exp")
        if expires_at is not None and not _is_number(expires_at):
            raise TokenRefused("InvalidJWTToken", MISSING_FIELDS)
        if expires_at is not None and expires_at <= time.time():
            ago = int(time.time() - expires_at)
            raise TokenRefused(
                "InvalidJWTToken",
                f"Token has expired {ago} seconds ago",
                handshake="Token has expired",
            )
        if expires_at is None or not isinstance(values.get("role"), str):
            raise TokenRefused("InvalidJWTToken", MISSING_FIELDS)
        return Claims(token, values)

    def _decode(self, token: str) -> dict[str, Any]:
        options: Any = {
            "verify_exp": False,
            "verify_aud": False,
            "verify_iat": False,
            "verify_nbf": False,
            "verify_iss": False,
            "verify_sub": False,
            "verify_jti": False,
        }
        try:
            return jwt.decode(
                token,
                self._secret,
                algorithms=["HS256", "HS384", "HS512"],
                options=options,
            )
        except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError) as error:
            raise SignatureRefused from error
        except jwt.InvalidTokenError as error:
            raise TokenRefused("MalformedJWT", NOT_A_JWT) from error


def _in(seconds: int) -> int:
    return int(time.time()) + seconds


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
