"""The page and the scripts it loads: our own, and Bokeh's from its installed package."""

from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from mil.errors import ConfigError

SCRIPT = "text/javascript; charset=utf-8"
STYLE = "text/css; charset=utf-8"
# Scripts of Bokeh: models and views, and its interface for scripts.
BOKEH = ("bokeh.min.js", "bokeh-api.min.js")
# Our scripts in the order in which they are loaded.
SCRIPTS = ("base.js", "list.js", "panels.js", "side.js", "heads.js", "keys.js", "main.js")
# Those of the page of a single slide.
EXPORT_SCRIPTS = ("base.js", "panels.js", "side.js", "export.js")
STYLES = ("view.css",)


def page_html() -> str:
    """The page. It names nothing of the study: that comes as data, and is shown as text."""
    return own_file("page.html")


@cache
def static_file(name: str) -> tuple[str, bytes] | None:
    """Media type and content of a script or style; None: there is no such file.

    Args:
        name: Name of the file, looked up in a table.
    """
    if name in BOKEH:
        return SCRIPT, bokeh_script(name).encode()
    if name in SCRIPTS:
        return SCRIPT, own_file(name).encode()
    if name in STYLES:
        return STYLE, own_file(name).encode()
    return None


def bokeh_script(name: str) -> str:
    """Text of one of `BOKEH`, from the installed package.

    Raises:
        ConfigError: Bokeh is not installed, or without its scripts.
    """
    # Located, not imported: that takes longer than all else here.
    package = find_spec("bokeh")
    folder = Path(package.origin).parent if package and package.origin else Path()
    path = folder / "server" / "static" / "js" / name
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        raise ConfigError(
            f"{name}: not in the installed package bokeh; install it: pip install 'bokeh>=3.4'"
        ) from None


def own_file(name: str) -> str:
    """Text of a file of `mil/view/static`."""
    return (files("mil.view") / "static" / name).read_text(encoding="utf-8")
