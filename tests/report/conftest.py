from pathlib import Path

import pytest

PATIENCE = 180_000  # milliseconds until a browser counts as stuck, not as slow


@pytest.fixture
def opened(browser, html, tmp_path):
    """``open_page(width) -> (page, troubles)``; troubles fills up as the browser meets them."""
    path = tmp_path / "report.html"
    path.write_text(html, encoding="utf-8")
    pages = []

    def open_page(width: int = 1280, page_file: Path = path, script: str = ""):
        page, troubles = browser.new_page(viewport={"width": width, "height": 900}), []
        pages.append(page)
        page.set_default_timeout(PATIENCE)
        page.add_init_script(script)
        page.on("console", lambda said: troubles.append(said.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        page.on(
            "request",
            lambda sent: (
                None
                if sent.url.startswith(("file:", "data:", "blob:"))
                else troubles.append(sent.url)
            ),
        )
        page.goto(page_file.as_uri())
        return page, troubles

    yield open_page
    for page in pages:
        page.close()
