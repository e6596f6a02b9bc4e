"""Links of pages, translated to the site."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from release.site_pages import linked_path, links, page_text, site_link, with_links


@pytest.mark.parametrize(
    ("page", "target", "expected"),
    [
        ("docs/concepts.md", "formats.md#the-store", "formats.md#the-store"),
        ("docs/concepts.md", "../rstar/search/tree.py", "repository/rstar/search/tree.py.md"),
        ("docs/concepts.md", "../services/policy", "repository/services/policy/README.md"),
        ("docs/concepts.md", "../rstar/verify", "repository/rstar/verify/index.md"),
        ("docs/results/node.md", "../limits.md", "../limits.md"),
        ("docs/results/node.md", "autoscaling.svg", "autoscaling.svg"),
        ("README.md", "docs/limits.md", "limits.md"),
        ("README.md", "CONTRIBUTING.md", "repository/CONTRIBUTING.md"),
        ("services/policy/README.md", "../../docs/limits.md#x", "../../../limits.md#x"),
        ("services/policy/README.md", "../../README.md", "../../../index.md"),
        ("docs/concepts.md", "https://arxiv.org/abs/2501.04519", "https://arxiv.org/abs/2501.04519"),
        ("docs/concepts.md", "#glossary", "#glossary"),
    ],
)
def test_a_link_leads_to_the_page_of_the_site(page: str, target: str, expected: str) -> None:
    assert site_link(PurePosixPath(page), target) == expected


@pytest.mark.parametrize("target", ["../../outside.md", "no-such-page.md", "/etc/passwd"])
def test_a_link_out_of_the_project_or_to_nothing_is_left_to_mkdocs(target: str) -> None:
    assert linked_path(PurePosixPath("docs/concepts.md"), target) is None


@pytest.mark.parametrize(
    "code",
    ["```\n[a](b.md)\n```\n", "~~~yaml\n[a](b.md)\n~~~\n", "`[a](b.md)`", "``[a](`b.md)``", "text\n\n    [a](b.md)\n"],
)
def test_code_has_no_links(code: str) -> None:
    assert links(code) == []
    assert with_links(code, lambda _: "changed") == code


def test_links_around_code_are_changed() -> None:
    text = "[`x`](a.md) and `code` and ![](b.svg)\n\n```\n[c](d)\n```\n[e](f.md)\n"
    assert links(text) == ["a.md", "b.svg", "f.md"]
    assert with_links(text, str.upper).count(".MD") == 2


def test_a_file_with_fences_is_one_block_of_code() -> None:
    text = page_text(PurePosixPath("release/site_pages.py"))
    assert text.startswith("# release/site_pages.py\n\n````python\n")
