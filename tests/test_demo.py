"""The main job, shortened: every command of it runs, and none spoils what another wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasdsl.cli import main


def test_the_main_job_runs_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--out", "job", "--epochs", "0.1"]) == 0
    out = capsys.readouterr().out
    assert "shrunk  mIoU" in out
    assert "thinned evenly  mIoU" in out
    for name in ("found.space", "found.safetensors", "found.py", "found.py.safetensors", "thinned.space"):
        assert (tmp_path / "job" / name).exists(), name
    assert main(["eval", "job/found.space"]) == 0  # after the export too
