"""The site builds without a warning, and its search works from a folder, without a server."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.long
def test_the_site_is_whole_and_searches_offline(tmp_path: Path) -> None:
    built = tmp_path / "site"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-d", str(tmp_path / "trees")]
    done = subprocess.run([*command, str(ROOT / "docs"), str(built)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("index", "language/forms", "diagnostics", "api/functions", "spaces/hrnas"):
        assert (built / f"{name}.html").is_file()
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.goto(f"{(built / 'search.html').as_uri()}?q=fuse")
        page.wait_for_selector("#search-results li a")
        assert any("Forms" in one for one in page.locator("#search-results li a").all_inner_texts())
        for name in ("index", "language/forms", "language/searches", "diagnostics", "spaces"):
            page.goto((built / f"{name}.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
        browser.close()
