"""The site, built once, served on this machine only, and a browser to look at it. Run by `make test-book`."""

import functools
import http.server
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book"))


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Folder of the site, what Sphinx said, and the seconds it took."""
    folder, start = tmp_path_factory.mktemp("site") / "book", time.perf_counter()
    done = subprocess.run([sys.executable, ROOT / "book/build.py", folder], capture_output=True, text=True)
    seconds = time.perf_counter() - start
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout + done.stderr, seconds


@pytest.fixture(scope="session")
def site(built):
    return built[0]


@pytest.fixture(scope="session")
def address(site):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def chromium():
    from browser import browser

    with browser() as started:
        yield started


@pytest.fixture
def tab(chromium, address):
    """A page that notes every complaint and every request that leaves the site (and lets none out)."""
    with chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light") as context:
        page = context.new_page()
        page.complaints, page.foreign = [], []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))

        def note(message):
            if message.type in ("error", "warning"):
                page.complaints.append(f"{message.text} {message.location.get('url')}")

        page.on("console", note)

        def only_here(route):
            if route.request.url.startswith((address, "file:", "data:", "blob:")):
                route.continue_()
            else:
                page.foreign.append(route.request.url)
                route.abort()

        page.route("**/*", only_here)
        yield page
