"""Results of a study in, a page in the browser out, until it is stopped."""

import contextlib
import html
import os
import sys
import tempfile
import webbrowser
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mil.view.export import export_slide
from mil.view.routes import reply_to
from mil.view.server import ViewServer
from mil.view.shown import Shown
from mil.view.study import find_study


def serve(
    results: Path,
    *,
    dataset: str = "",
    slides_dir: Path | None = None,
    bags_dir: Path | None = None,
    port: int = 0,
    browser: bool = True,
) -> None:
    """Serve the page of a study until Ctrl-C; see `mil.view.study.find_study`.

    Args:
        results: Folder of the study.
        dataset: Name or yaml of the dataset; empty: that of the metrics.
        slides_dir: Folder of the slides; None: that of the dataset.
        bags_dir: Folder of precomputed bags; None: that of the dataset, or of the study.
        port: Port on the loopback interface; 0: a free one.
        browser: Whether to open the page.

    Raises:
        ConfigError: There is no study, or the port is in use.
    """
    study = find_study(results, dataset=dataset, slides_dir=slides_dir, bags_dir=bags_dir)
    shown = Shown(study)
    with contextlib.closing(shown), ViewServer(partial(reply_to, shown), port) as server:
        # Who can read the address may press Ctrl-C: from its first letter on it ends well.
        try:
            _serve(server, shown, browser=browser)
        except KeyboardInterrupt:
            print("view ended", flush=True)


def _serve(server: ViewServer, shown: Shown, *, browser: bool) -> None:
    print(f"view {server.url}   {len(shown.entries)} slides; Ctrl-C ends it", flush=True)
    for note in shown.study.notes:
        print(f"view {note}", flush=True)
    with _opened(server.url) if browser else contextlib.nullcontext():
        server.serve_forever(poll_interval=0.2)


@contextlib.contextmanager
def _opened(url: str) -> Iterator[None]:
    """Open a page in the browser of this desktop, if there is one.

    The browser gets a file that only this user can read and that leads to the page: the
    arguments of a process, and so the token, can be read by every user of the machine.
    """
    if not _has_desktop():
        yield
        return
    with tempfile.TemporaryDirectory(prefix="mil_view_") as folder:
        page = Path(folder) / "open.html"
        target = html.escape(url, quote=True)
        page.write_text(f'<!doctype html><meta http-equiv="refresh" content="0;url={target}">')
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(page.as_uri())
        yield


def _has_desktop() -> bool:
    # Without one a browser of text would take the terminal.
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def export(
    results: Path,
    out: Path,
    slide: str,
    *,
    dataset: str = "",
    slides_dir: Path | None = None,
    bags_dir: Path | None = None,
) -> None:
    """Write the page of one slide as one self-contained file; see `serve`.

    Args:
        results: Folder of the study.
        out: HTML file to write.
        slide: Id of the slide.
        dataset: Name or yaml of the dataset.
        slides_dir: Folder of the slides.
        bags_dir: Folder of precomputed bags.

    Raises:
        ConfigError: There is no study, or no such slide.
        FormatError: Nothing of the slide can be shown.
    """
    study = find_study(results, dataset=dataset, slides_dir=slides_dir, bags_dir=bags_dir)
    shown = Shown(study)
    try:
        export_slide(shown, slide, out)
    finally:
        shown.close()
