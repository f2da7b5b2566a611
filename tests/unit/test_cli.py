"""The `proa` command: every verb explains itself, and problems are one line."""

import importlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from proa.cli import _VERBS, cli, main


@pytest.mark.parametrize("verb", sorted(_VERBS))
def test_every_verb_explains_itself(verb: str) -> None:
    shown = CliRunner().invoke(cli, [verb, "--help"])
    assert shown.exit_code == 0, shown.output
    assert len(shown.output.splitlines()) > 3


def test_help_lists_the_verbs() -> None:
    shown = CliRunner().invoke(cli, ["--help"]).output
    assert all(f"  {verb} " in shown for verb in _VERBS)


def test_help_does_not_import_what_verbs_need(monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []
    monkeypatch.setattr(importlib, "import_module", imported.append)
    CliRunner().invoke(cli, ["--help"])
    assert imported == []


def test_an_unknown_cluster_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PROA_HOME", str(tmp_path))
    for verb in ("down", "status", "kubeconfig", "logs"):
        monkeypatch.setattr("sys.argv", ["proa", verb, "--name", "nobody"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 1
        assert capsys.readouterr().err.splitlines() == [
            "proa: there is no cluster 'nobody': see `proa list`, or make it: proa up --name nobody"
        ]


@pytest.mark.parametrize("name", ["Upper", "-a", "a_b", "a" * 33, "a.b"])
def test_bad_names_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["proa", "up", "--name", name])
    with pytest.raises(SystemExit):
        main()
    assert "is no cluster name" in capsys.readouterr().err
