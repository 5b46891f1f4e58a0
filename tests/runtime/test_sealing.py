import os
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.sealing import (
    InvalidToken,
    Keyring,
    MalformedKeys,
    Sealed,
    Tampered,
    UnknownKey,
    connection_context,
)

OLD, NEW = Keyring.generate("old"), Keyring.generate("new")
KEYRING = Keyring.parse(f"{NEW},{OLD}")
CONTEXT = connection_context(UUID(int=1))


@given(plaintext=st.binary(max_size=300), context=st.text(max_size=50))
def test_what_was_sealed_opens_in_its_context(plaintext: bytes, context: str) -> None:
    sealed = KEYRING.seal(plaintext, context=context)
    assert KEYRING.open(sealed, context=context) == plaintext


@given(
    plaintext=st.binary(max_size=100), position=st.integers(0), bit=st.integers(0, 7)
)
def test_one_changed_bit_is_noticed(plaintext: bytes, position: int, bit: int) -> None:
    sealed = KEYRING.seal(plaintext, context=CONTEXT)
    changed = bytearray(sealed.ciphertext)
    changed[position % len(changed)] ^= 1 << bit
    with pytest.raises(Tampered):
        KEYRING.open(Sealed(sealed.key_id, bytes(changed)), context=CONTEXT)


@pytest.mark.parametrize("kept", [0, 5, 12, 20, 27])
def test_a_value_cut_short_is_noticed(kept: int) -> None:
    sealed = KEYRING.seal(b"", context=CONTEXT)
    with pytest.raises(Tampered):
        KEYRING.open(Sealed("new", sealed.ciphertext[:kept]), context=CONTEXT)


def test_tokens_moved_to_another_connection_do_not_open() -> None:
    sealed = KEYRING.seal(b"tokens", context=connection_context(UUID(int=1)))
    with pytest.raises(Tampered):
        KEYRING.open(sealed, context=connection_context(UUID(int=2)))


def test_the_same_value_is_never_sealed_alike_twice() -> None:
    assert KEYRING.seal(b"x", context="c") != KEYRING.seal(b"x", context="c")


def test_after_a_rotation_the_old_opens_and_the_new_key_seals() -> None:
    before = Keyring.parse(OLD)
    sealed, token = before.seal(b"x", context="c"), before.channel_token(UUID(int=7))

    assert KEYRING.open(sealed, context="c") == b"x"
    assert KEYRING.verify_channel_token(token) == UUID(int=7)
    assert KEYRING.seal(b"x", context="c").key_id == "new"
    assert KEYRING.channel_token(UUID(int=7)).startswith("v1.new.")


def test_a_key_that_left_the_ring_opens_and_verifies_nothing() -> None:
    after = Keyring.parse(NEW)
    with pytest.raises(UnknownKey):
        after.open(Keyring.parse(OLD).seal(b"x", context="c"), context="c")
    with pytest.raises(InvalidToken):
        after.verify_channel_token(Keyring.parse(OLD).channel_token(uuid4()))


@given(channel_id=st.uuids())
def test_a_channel_token_brings_back_its_channel(channel_id: UUID) -> None:
    token = KEYRING.channel_token(channel_id)
    assert KEYRING.verify_channel_token(token) == channel_id
    # Google takes 256 characters, Graph 128.
    assert len(token) <= 128


@given(data=st.data())
def test_a_channel_token_changed_anywhere_is_refused(data: st.DataObject) -> None:
    token = KEYRING.channel_token(UUID(int=9))
    position = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda letter: letter != token[position]))
    with pytest.raises(InvalidToken):
        KEYRING.verify_channel_token(token[:position] + other + token[position + 1 :])


@given(st.text())
def test_no_text_passes_for_a_channel_token(text: str) -> None:
    with pytest.raises(InvalidToken):
        KEYRING.verify_channel_token(text)


def test_a_mac_cannot_be_carried_to_another_channel_or_key() -> None:
    version, key_id, _, mac = KEYRING.channel_token(UUID(int=1)).split(".")
    for forged in (
        f"{version}.{key_id}.{UUID(int=2)}.{mac}",
        f"{version}.old.{UUID(int=1)}.{mac}",
        f"v2.{key_id}.{UUID(int=1)}.{mac}",
    ):
        with pytest.raises(InvalidToken):
            KEYRING.verify_channel_token(forged)


def test_a_channel_has_a_signing_key_of_each_key_newest_first() -> None:
    channel, other = uuid4(), uuid4()
    keys = KEYRING.signing_keys(channel)
    assert keys == [
        *Keyring.parse(NEW).signing_keys(channel),
        *Keyring.parse(OLD).signing_keys(channel),
    ]
    assert len({*keys, *KEYRING.signing_keys(other)}) == 4


def test_a_signing_key_is_not_part_of_a_channels_token() -> None:
    channel = uuid4()
    assert KEYRING.signing_keys(channel)[0] not in KEYRING.channel_token(channel)


def test_a_ring_shows_its_keys_ids_and_nothing_else() -> None:
    assert repr(KEYRING) == "Keyring(new, old)"
    assert KEYRING.key_ids == ["new", "old"]


def test_generated_keys_differ() -> None:
    assert Keyring.generate() != Keyring.generate()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "there is no key"),
        (" , ", "there is no key"),
        ("nocolon", "key 1 has no id"),
        ("a b:xx", "key 1 has no id"),
        ("k1:!!!", "key 1 is not base64url"),
        (f"{NEW},k2:c2hvcnQ", "key 2 has 5 bytes, not 32"),
        (f"{NEW},{NEW}", "two keys have the same id"),
    ],
    ids=["nothing", "commas", "no colon", "bad id", "no base64", "short", "twice"],
)
def test_a_malformed_ring_names_the_key_and_quotes_none(
    text: str, problem: str
) -> None:
    with pytest.raises(MalformedKeys, match=problem) as refused:
        Keyring.parse(text)
    secrets = [part.partition(":")[2] for part in text.split(",")]
    assert not any(secret and secret in str(refused.value) for secret in secrets)


def test_a_key_with_padding_is_as_good() -> None:
    sealed = KEYRING.seal(os.urandom(8), context="c")
    assert Keyring.parse(f"{NEW}=").open(sealed, context="c")
