"""MkDocs hook: links of a page to files outside of docs/ lead to copies of these files in the book.

`[configs/paired.py](../configs/paired.py)` works in the repository as it stands; in the book it opens a page with the
file's text. A link to a file that does not exist stays as it is, and `mkdocs build --strict` refuses it.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(((?:\.\./)+)([\w./-]+)((?:#[\w-]+)?)\)")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".sh": "bash", ".json": "json"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add one page for every file that a page links to."""
    linked = set()
    for page in files.documentation_pages():
        linked |= {name for up, name, _ in LINK.findall(page.content_string) if _outside(page.src_uri, up)}
    for name in sorted(linked):
        if (ROOT / name).is_file():
            files.append(File.generated(config, _place(name), content=_text(name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files outside of docs/ into links to their pages."""

    def to_page(link: re.Match[str]) -> str:
        up, name, anchor = link.groups()
        if not _outside(page.file.src_uri, up) or files.get_file_from_path(_place(name)) is None:
            return link.group(0)
        return f"]({'../' * page.file.src_uri.count('/')}{_place(name)}{anchor})"

    return markdown if page.file.src_uri.startswith("files/") else LINK.sub(to_page, markdown)


def _outside(page: str, up: str) -> bool:
    return up.count("../") == page.count("/") + 1


def _place(name: str) -> str:
    return f"files/{name}" if name.endswith(".md") else f"files/{name}.md"


def _text(name: str) -> str:
    text = (ROOT / name).read_text()
    if name.endswith(".md"):
        return re.sub(r"\[([^\]]+)\]\((?!https?:|#)[^)]*\)", r"\1", text)  # its own links lead out of the book
    return f"# {name}\n\n````{LANGUAGES.get(Path(name).suffix, 'text')}\n{text}\n````\n"
