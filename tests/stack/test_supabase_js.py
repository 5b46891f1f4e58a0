"""Judge: supabase-js, unchanged, in Node."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from local_stack.facts import Facts
from local_stack.node import install_packages
from tests.support.stacks import CHECKOUT

JUDGE = Path(__file__).with_name("judge.mjs")


@pytest.fixture(scope="session")
def seen(facts: Facts) -> dict[str, Any]:
    """What supabase-js saw when people of two organizations and nobody used it."""
    node = install_packages(CHECKOUT, judges=True, say=lambda _: None)
    ran = subprocess.run(
        [node.executable, JUDGE],
        env=node.environment | {"FACTS": facts.as_json()},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def test_a_member_reads_and_writes_through_supabase_js(seen: dict[str, Any]) -> None:
    assert seen["added"]["name"] == "Grace"
    assert seen["updated"] == seen["added"] | {
        "name": "Hopper",
        "updated_at": seen["updated"]["updated_at"],
    }
    assert "T" in seen["added"]["created_at"]


def test_supabase_js_hears_each_broadcast_with_its_record(seen: dict[str, Any]) -> None:
    told = {one["operation"]: one for one in seen["broadcasts"]}
    assert set(told) == {"INSERT", "UPDATE", "DELETE"}
    assert told["INSERT"]["record"]["name"] == "Grace"
    assert told["UPDATE"]["record"]["name"] == "Hopper"
    assert told["UPDATE"]["old_record"]["name"] == "Grace"
    assert told["DELETE"]["record"] is None


def test_supabase_js_hears_each_postgres_change_with_its_row(
    seen: dict[str, Any],
) -> None:
    told = {one["eventType"]: one for one in seen["changes"]}
    assert set(told) == {"INSERT", "UPDATE", "DELETE"}
    assert told["INSERT"]["new"] == seen["added"]
    assert told["UPDATE"]["new"]["name"] == "Hopper"
    assert told["DELETE"]["old"] == {"id": seen["added"]["id"]}


def test_supabase_js_shows_nothing_of_another_organization(
    seen: dict[str, Any],
) -> None:
    assert seen["states"] == ["SUBSCRIBED"] * 4
    assert (seen["seenByBen"], seen["changedByBen"]) == ([], [])
    assert (seen["addedByBen"], seen["seenByNobody"]) == ("42501", "42501")
    # A DELETE is told to every subscriber: row-level security can't be asked of a row
    # that is gone. Who may not read the table learns not even its key.
    others = [one for one in seen["heardByOthers"] if one.get("eventType") != "DELETE"]
    assert others == []
    assert all(row == {} for row in seen["heardByNobody"])


def test_supabase_js_cannot_join_another_organization_s_topic(
    seen: dict[str, Any],
) -> None:
    assert "Unauthorized" in seen["intruder"]
    assert seen["heardByIntruder"] == []
