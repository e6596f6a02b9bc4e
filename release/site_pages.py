"""A hook of mkdocs: pages of the site from files outside docs/, so that every link of a page stays in the site.

The pages of docs/ link to code, charts, examples and the READMEs beside them. In the site a README is a page like
those of docs/, and any other file is a page with its text. Pages are added as links lead to them, from docs/ on. The
README of the project is the site's first page.
"""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, Final

from mkdocs.structure.files import File, Files

ROOT: Final = Path(__file__).parent.parent
HOME: Final = "README.md"
OUTSIDE: Final = "repository"
"""The folder of the site for all that is outside docs/."""

_CODE_OR_LINK: Final = re.compile(
    r"(?P<code>^ {0,3}(?P<fence>```+|~~~+).*?^ {0,3}(?P=fence)[^\S\n]*$|(?:(?<=\n\n)|\A)(?: {4}[^\n]*\n)+|(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`))"
    r"|\]\((?P<target>[^)\s]+)\)",
    re.MULTILINE | re.DOTALL,
)
"""Code, which is left alone, or the end of a link or an image."""


def on_files(files: Files, config: Any) -> Files:
    """Add every page that a link leads to."""
    waiting = [path for file in files.documentation_pages() if (path := _source(file))]
    waiting.append(PurePosixPath(HOME))
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        if not path.is_relative_to("docs"):
            files.append(File.generated(config, site_page(path), content=page_text(path)))
        if path.suffix == ".md":
            linked = {found for target in links(_text(path)) if (found := linked_path(path, target))}
            waiting += sorted(linked - seen)
            seen |= linked
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let the links of a page lead to the pages of the site."""
    path = _source(page.file)
    if path is None or path.suffix != ".md":
        return markdown
    return with_links(markdown, lambda target: site_link(path, target))


def site_page(path: PurePosixPath) -> str:
    """Return the name of the page of ``path``, a path from the project's root, below docs_dir."""
    if path == PurePosixPath(HOME):
        return "index.md"
    if path.is_relative_to("docs"):
        return str(path.relative_to("docs"))
    if path.suffix == ".md":
        return f"{OUTSIDE}/{path}"
    return f"{OUTSIDE}/{path}/index.md" if (ROOT / path).is_dir() else f"{OUTSIDE}/{path}.md"


def site_link(page: PurePosixPath, target: str) -> str:
    """Return what ``target``, a link on ``page``, is in the site. Links to other hosts and within a page stay."""
    path = linked_path(page, target)
    if path is None:
        return target
    _, hash_sign, anchor = target.partition("#")
    here = posixpath.dirname(site_page(page))
    file = str(path.relative_to("docs")) if path.suffix in {".svg", ".png"} else site_page(path)
    return posixpath.relpath(file, here or ".") + hash_sign + anchor


def linked_path(page: PurePosixPath, target: str) -> PurePosixPath | None:
    """Return the file or folder that ``target`` means, from the project's root; a folder with a README means that.

    None for other hosts, for places on the page, and for what does not exist: mkdocs then reports the link.
    """
    name = target.partition("#")[0]
    if not name or "://" in target or target.startswith(("/", "mailto:")):
        return None
    path = PurePosixPath(os.path.normpath(page.parent / name))
    if path.is_relative_to("..") or not (ROOT / path).exists():
        return None
    readme = path / "README.md"
    return readme if (ROOT / readme).is_file() else path


def page_text(path: PurePosixPath) -> str:
    """Return the Markdown of a page outside docs/: a page's own, a file's text as code, a folder's files as a list."""
    if path.suffix == ".md":
        return _text(path)
    if (ROOT / path).is_dir():
        return f"# {path}\n\n" + "".join(f"- `{name}`\n" for name in _tracked(path))
    text = _text(path)
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"# {path}\n\n{fence}{_LANGUAGES.get(path.suffix, '')}\n{text}\n{fence}\n"


_LANGUAGES: Final = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".proto": "protobuf", ".json": "json"}


def links(markdown: str) -> list[str]:
    """Return the targets of all links and images outside code."""
    return [target for found in _CODE_OR_LINK.finditer(markdown) if (target := found["target"])]


def with_links(markdown: str, change: Callable[[str], str]) -> str:
    """Return ``markdown`` with each target of a link or image outside code replaced by ``change`` of it."""

    def replaced(found: re.Match[str]) -> str:
        return f"]({change(found['target'])})" if found["target"] else found[0]

    return _CODE_OR_LINK.sub(replaced, markdown)


def _source(file: File) -> PurePosixPath | None:
    """Return the path of the page's text, from the project's root."""
    if file.src_uri == "index.md":
        return PurePosixPath(HOME)
    if file.src_uri.startswith(f"{OUTSIDE}/"):
        path = PurePosixPath(file.src_uri).relative_to(OUTSIDE)
        return path if (ROOT / path).is_file() else None
    return PurePosixPath("docs") / file.src_uri


def _text(path: PurePosixPath) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _tracked(folder: PurePosixPath) -> list[str]:
    """Return the files of a folder that belong to the project, relative to it."""
    listed = subprocess.run(
        ["git", "ls-files", "--", str(folder)], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    return [str(PurePosixPath(name).relative_to(folder)) for name in listed]
