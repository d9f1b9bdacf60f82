"""The guide pages: docs/ as HTML, rendered once by markdown-it, which escapes HTML in the Markdown."""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from markdown_it.token import Token

FOLDER = Path(__file__).parent.parent / "docs"
ADDRESS = "/docs/guide/"
COMMENT = re.compile(r"^<!--.*?-->\n", re.MULTILINE | re.DOTALL)
GROUPS = {
    "": "Guides",
    "clients": "Clients",
    "providers": "Providers",
    "operate": "Operation",
    "reference": "Reference",
}
"""The menu's names of the folders of docs/, in its order; other folders follow by their names."""
FIRST = ("quickstart", "pages", "routing", "models-yaml", "resilience")
"""The first pages of the menu; the others follow by their names."""


@dataclass(frozen=True, slots=True)
class Guide:
    """A page. `name` is its path in docs/ without the suffix; `html` is safe to show."""

    name: str
    title: str
    html: Markup

    @property
    def address(self) -> str:
        """The path at which it is served."""
        return f"{ADDRESS}{self.name}"


@cache
def guides() -> Mapping[str, Guide]:
    """All guides, by their names. Empty where docs/ was not installed."""
    names = sorted((path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.md")), key=_rank)
    return {name: _guide(name, frozenset(names)) for name in names}


@cache
def menu() -> Mapping[str, list[Guide]]:
    """The guides by the names of their groups."""
    groups: dict[str, list[Guide]] = {}
    for guide in guides().values():
        folder = posixpath.dirname(guide.name)
        groups.setdefault(GROUPS.get(folder, folder.capitalize()), []).append(guide)
    return groups


def _rank(name: str) -> tuple[int, int, str]:
    folders, folder = list(GROUPS), posixpath.dirname(name)
    group = folders.index(folder) if folder in folders else len(folders)
    place = FIRST.index(name) if name in FIRST else -1 if name.endswith("/index") else len(FIRST)
    return group, place, f"{folder}/{name}"


def _guide(name: str, names: Iterable[str]) -> Guide:
    from markdown_it import MarkdownIt  # noqa: PLC0415 - slow to load, and only these pages need it

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    tokens = parser.parse(COMMENT.sub("", text))
    title = next((each.content for each in tokens if each.type == "inline"), name)
    _name_headings(tokens)
    _rewrite_links(tokens, name, names)
    return Guide(name, title, Markup(parser.renderer.render(_wrap_tables(tokens), parser.options, {})))  # noqa: S704 - markdown-it escapes


def _name_headings(tokens: "Iterable[Token]") -> None:
    """Give headings the ids that GitHub gives them, which links in the pages use."""
    taken: set[str] = set()
    opening: Token | None = None
    for token in tokens:
        if opening is not None:
            words = re.sub(r"[^\w\- ]", "", token.content.lower()).replace(" ", "-")
            slug = next(each for each in _slug_candidates(words) if each not in taken)
            taken.add(slug)
            opening.attrSet("id", slug)
        opening = token if token.type == "heading_open" else None


def _slug_candidates(slug: str) -> Iterator[str]:
    yield slug
    number = 0
    while True:
        number += 1
        yield f"{slug}-{number}"


def _rewrite_links(tokens: "Iterable[Token]", name: str, names: Iterable[str]) -> None:
    """Rewrite links between the files as links between pages; remove the target of a link out of docs/."""
    for token in tokens:
        for child in token.children or ():
            key = {"link_open": "href", "image": "src"}.get(child.type)
            if key is None:
                continue
            target = str(child.attrGet(key) or "")
            path, _, fragment = target.partition("#")
            if not path or re.match(r"[a-z]+:", target):
                continue
            full = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
            page = full.removesuffix(".md")
            if child.type == "image" or page in names:
                child.attrSet(key, f"{ADDRESS}{page if page in names else full}{'#' * bool(fragment)}{fragment}")
            else:
                del child.attrs[key]


def _wrap_tables(tokens: "Iterable[Token]") -> "list[Token]":
    """Return the tokens with each table in a div that scrolls if the table is wider than the screen."""
    from markdown_it.token import Token  # noqa: PLC0415

    found = []
    for token in tokens:
        if token.type == "table_open":
            found.append(Token("div_open", "div", 1, attrs={"class": "wide", "tabindex": "0"}))
        found.append(token)
        if token.type == "table_close":
            found.append(Token("div_close", "div", -1))
    return found
