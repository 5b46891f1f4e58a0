"""Tokens of the local stack look like Supabase Auth's."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import jwt
import pytest

from local_stack.tokens import JWT_SECRET, anon_key, service_role_key, user_token

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)


def claims(token: str, secret: str = JWT_SECRET) -> dict[str, object]:
    read: dict[str, object] = jwt.decode(
        token,
        secret,
        algorithms=["HS256"],
        audience="authenticated",
        options={"verify_exp": False, "require": ["exp", "role"], "verify_aud": False},
    )
    return read


def test_a_key_names_its_role_and_lasts_for_years() -> None:
    for key, role in (
        (anon_key(now=NOW), "anon"),
        (service_role_key(now=NOW), "service_role"),
    ):
        read = claims(key)
        assert read["role"] == role
        assert read["exp"] == (NOW + timedelta(days=3650)).timestamp()


def test_a_user_s_token_says_who_they_are_and_until_when() -> None:
    user_id = uuid4()
    read = claims(
        user_token(user_id, "ada@example.com", now=NOW, lifetime=timedelta(hours=1))
    )
    assert (read["sub"], read["email"]) == (str(user_id), "ada@example.com")
    assert (read["role"], read["aud"]) == ("authenticated", "authenticated")
    assert read["exp"] == (NOW + timedelta(hours=1)).timestamp()
    assert read["is_anonymous"] is False


def test_a_token_of_another_secret_is_not_ours() -> None:
    other = "another-secret-of-at-least-32-characters"
    with pytest.raises(jwt.InvalidSignatureError):
        claims(anon_key(secret=other))
    assert claims(anon_key(secret=other), other)["role"] == "anon"
