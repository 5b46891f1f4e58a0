"""What the documentation says is so."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MIGRATIONS = sorted((ROOT / "supabase" / "migrations").glob("*.sql"))
PROGRAMS = ("worker", "webhook_api")
# An event's name is the first argument of the call that logs it.
LOGGED = re.compile(r'\(\s*"([a-z]+\.(?!json)[a-z_]+)"\s*[,)]')
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
MAKE = re.compile(r"^make (\w+)|`make (\w+)`", re.MULTILINE)


def pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")]


def logged_events() -> Iterator[str]:
    for program in PROGRAMS:
        for file in (ROOT / program).rglob("*.py"):
            yield from LOGGED.findall(file.read_text())


def test_every_log_event_is_explained() -> None:
    explained = (DOCS / "logs.md").read_text()
    events = set(logged_events())
    assert "task.finished" in events
    assert sorted(event for event in events if f"`{event}`" not in explained) == []


def test_no_log_event_is_explained_that_nobody_logs() -> None:
    table = re.findall(
        r"^\| (`[^|]*`) \|", (DOCS / "logs.md").read_text(), re.MULTILINE
    )
    explained = {event for cell in table for event in re.findall(r"`([^`]+)`", cell)}
    sources = "".join(
        file.read_text()
        for program in (*PROGRAMS, "runtime")
        for file in (ROOT / program).rglob("*.py")
    )
    assert sorted(one for one in explained if f'"{one}"' not in sources) == []


def test_every_sqlstate_of_ours_is_explained() -> None:
    raised = {
        code
        for file in MIGRATIONS
        for code in re.findall(r"errcode = '(CS\d{3})'", file.read_text())
    }
    page = (DOCS / "errors.md").read_text()
    explained = set(re.findall(r"^\| `(CS\d{3})`", page, re.MULTILINE))
    assert raised == explained


def test_every_alert_is_explained() -> None:
    raised = {
        kind
        for file in MIGRATIONS
        for kind in re.findall(r"raise_alert\(\s*'(\w+)'", file.read_text())
    }
    page = (DOCS / "errors.md").read_text().partition("## Alerts")[2]
    assert raised == set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE))


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = [one for one in LINK.findall(page.read_text()) if "://" not in one]
    missing = [one for one in targets if not (page.parent / one).exists()]
    assert missing == []


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    named = {
        name
        for page in pages()
        for pair in MAKE.findall(page.read_text())
        for name in pair
        if name
    }
    assert named <= targets


def test_every_decision_stands_in_the_list() -> None:
    listed = set(LINK.findall((DOCS / "decisions" / "README.md").read_text()))
    there = {file.name for file in (DOCS / "decisions").glob("0*.md")}
    assert there == listed


def test_no_page_names_a_machine_or_a_registry() -> None:
    forbidden = re.compile("py" r"pi\.org|npm" r"js\.|/(?:home|root)/")
    found = [page for page in pages() if forbidden.search(page.read_text())]
    assert found == []
