"""Pages as trees of elements, to be asked for what they show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

__all__ = ["Element", "elements_of", "text_of"]

#: Elements that have no end.
_VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})

#: Elements whose text nobody reads.
_SILENT = frozenset({"script", "style"})


@dataclass(slots=True)
class Element:
    """An element of a page; of an attribute without a value, the value is ""."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Element | str] = field(default_factory=list)

    def all(self, tag: str | None = None, **attributes: str) -> list[Element]:
        """Find the elements inside, in their order, by tag and attributes; `_` stands for `-`."""
        wanted = {name.strip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [
            one
            for one in self.descendants()
            if (tag is None or one.tag == tag) and wanted.items() <= one.attributes.items()
        ]

    def one(self, tag: str | None = None, **attributes: str) -> Element:
        """Find the only such element."""
        found = self.all(tag, **attributes)
        assert len(found) == 1, f"{len(found)} elements {tag} {attributes}"
        return found[0]

    @property
    def text(self) -> str:
        """Text inside, in one line; elements are apart by a space."""
        return " ".join(" ".join(self.own_texts()).split())

    @property
    def cells(self) -> dict[str, str]:
        """Texts of the cells of a row, by their names."""
        return {cell.attributes["data-name"]: cell.text for cell in self.all("td")}

    @property
    def figures(self) -> dict[str, str]:
        """Texts of the definitions inside, by their terms."""
        return {name.text: value.text for name, value in zip(self.all("dt"), self.all("dd"), strict=True)}

    @property
    def spans(self) -> list[str]:
        """Texts of the spans inside: states and badges."""
        return [one.text for one in self.all("span")]

    @property
    def links(self) -> list[str]:
        """Addresses of the links inside."""
        return [one.attributes["href"] for one in self.all("a") if "href" in one.attributes]

    @property
    def fields(self) -> dict[str, str]:
        """Values of the fields of a form that a browser would send, by their names."""
        values = {
            one.attributes["name"]: one.attributes.get("value", "on")
            for one in self.all("input")
            if "name" in one.attributes
            and (one.attributes.get("type") not in {"checkbox", "radio"} or "checked" in one.attributes)
        }
        # A browser drops the line break that a text begins with.
        values |= {
            one.attributes["name"]: "".join(one.own_texts()).removeprefix("\n")
            for one in self.all("textarea")
        }
        for select in self.all("select"):
            options = select.all("option")
            chosen = [one for one in options if "selected" in one.attributes] or options[:1]
            if chosen:
                values[select.attributes["name"]] = chosen[-1].attributes.get("value", chosen[-1].text)
        return values

    def descendants(self) -> Iterator[Element]:
        """Yield every element inside, in the order of the page."""
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child.descendants()

    def own_texts(self) -> Iterator[str]:
        """Yield the pieces of text inside that a browser shows."""
        for child in self.children:
            if isinstance(child, str):
                yield child
            elif child.tag not in _SILENT:
                yield from child.own_texts()


def elements_of(html: str) -> Element:
    """Parse a page, or a part of one; every element ends, and in the right order."""
    parser = _Parser()
    parser.feed(html)
    parser.close()
    assert len(parser.open) == 1, f"{parser.open[-1].tag} has no end"
    return parser.open[0]


def text_of(html: str) -> str:
    """Return what a page says, without its tags."""
    return elements_of(html).text


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in _VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        ended = self.open.pop()
        assert ended.tag == tag, f"<{ended.tag}> ends with </{tag}>"

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)
