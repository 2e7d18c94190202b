"""Hooks of MkDocs: pages made from the code, and links that lead out of docs/."""

import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # MkDocs starts without the repository's folder on the path

from docs.hooks.cli_page import cli_page  # noqa: E402  # needs the line above
from docs.hooks.config_page import config_page  # noqa: E402
from docs.hooks.python_pages import python_pages  # noqa: E402

# Files at the root of the repository that are pages too.
AT_ROOT = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and those at the root of the repository."""
    pages = {"reference/config.md": config_page(), "reference/cli.md": cli_page()}
    pages |= dict(python_pages())
    pages |= {to: (ROOT / at).read_text(encoding="utf-8") for at, to in AT_ROOT.items()}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to files at the root lead to their pages, and turn other files into text."""
    path = page.file.src_uri
    made_of = next((at for at, to in AT_ROOT.items() if to == path), None)
    folder = posixpath.dirname(made_of or f"docs/{path}")

    def resolved(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        in_repository = posixpath.normpath(posixpath.join(folder, target))
        if in_repository in AT_ROOT:
            in_repository = f"docs/{AT_ROOT[in_repository]}"
        if in_repository.startswith("docs/") and in_repository.endswith(".md"):
            start = posixpath.dirname(f"docs/{path}")
            return f"[{text}]({posixpath.relpath(in_repository, start)}{anchor})"
        if in_repository.startswith("docs/"):
            return match[0]
        if not (ROOT / in_repository).exists():
            raise PluginError(f"{made_of or path}: no file {in_repository} in the repository")
        return text if "`" in text else f"`{text}`"

    return LINK.sub(resolved, markdown)
