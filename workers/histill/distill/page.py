"""HTML parts of a page that needs nothing else; every text is escaped here."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_STYLE = """
:root{color-scheme:light}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;max-width:66rem;margin:0 auto;padding:1rem;
color:#1a1a1a;background:#fff;overflow-wrap:break-word}
h1{font-size:1.7rem;margin:.5rem 0}h2{font-size:1.25rem;margin:2.2rem 0 .6rem;
border-bottom:2px solid #0072b2;padding-bottom:.2rem}h3{font-size:1rem;margin:1.2rem 0 .4rem}
p{max-width:46rem;margin:.5rem 0}.note{color:#555;font-size:.9rem}
nav{display:flex;flex-wrap:wrap;gap:.2rem 1rem;font-size:.9rem}a{color:#00598c}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.92rem}
td,th{padding:.3rem .8rem .3rem 0;border-bottom:1px solid #ddd;text-align:left;
vertical-align:top}thead th{border-bottom:2px solid #999}tbody th{font-weight:600}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.d{font-family:ui-monospace,monospace;font-size:.8rem;word-break:break-all}
figure{margin:0;break-inside:avoid}figcaption{font-size:.85rem;color:#444}
img{width:100%;height:auto;display:block}
.grid{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr))}
.half{max-width:34rem}.broad{max-width:46rem}.half,.broad{margin-top:1rem}
.row{display:grid;gap:.6rem;grid-template-columns:repeat(4,minmax(0,1fr))}
@media(max-width:40rem){.row{grid-template-columns:repeat(2,minmax(0,1fr))}}
.key{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;list-style:none;padding:0;margin:.6rem 0;
font-size:.9rem}.key i{display:inline-block;width:.9em;height:.9em;margin-right:.4em;
border:1px solid #555;vertical-align:-.1em;print-color-adjust:exact;
-webkit-print-color-adjust:exact}
pre{background:#f5f5f5;padding:1rem;overflow-x:auto;font-size:.82rem;white-space:pre-wrap}
@media print{body{max-width:none;padding:0;font-size:10pt}nav{display:none}
h2,h3{break-after:avoid}tr,.row{break-inside:avoid}pre{background:none;border:1px solid #ccc}}
"""


def page(title: str, head: str, sections: Mapping[str, str]) -> str:
    """A whole document.

    Args:
        title: Plain text.
        head: HTML above the first section.
        sections: HTML by heading, a plain text.
    """
    links = "".join(
        f'<a href="#s{number}">{html.escape(name)}</a>' for number, name in enumerate(sections)
    )
    body = "\n".join(
        f'<section><h2 id="s{number}">{html.escape(name)}</h2>\n{content}</section>'
        for number, (name, content) in enumerate(sections.items())
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{html.escape(title)}</h1>\n{head}\n<nav>{links}</nav>\n{body}</body></html>\n"
    )


def paragraph(text: str, *, note: bool = False) -> str:
    """A paragraph; as a note in smaller letters."""
    kind = ' class="note"' if note else ""
    return f"<p{kind}>{html.escape(text)}</p>"


def heading(text: str) -> str:
    """A heading within a section."""
    return f"<h3>{html.escape(text)}</h3>"


def code(text: str) -> str:
    """Preformatted text."""
    return f"<pre>{html.escape(text)}</pre>"


def pairs(rows: Mapping[str, object], *, digests: bool = False) -> str:
    """A table of names and values."""
    kind = ' class="d"' if digests else ""
    cells = "".join(
        f'<tr><th scope="row">{html.escape(str(name))}</th>'
        f"<td{kind}>{html.escape(str(value))}</td></tr>"
        for name, value in rows.items()
    )
    return f'<div class="wide"><table><tbody>{cells}</tbody></table></div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: range) -> str:
    """A table with a row of headings; the columns in ``numbers`` are set to the right."""
    kinds = [' class="n"' if i in numbers else "" for i in range(len(head))]

    def row(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{kind}>{html.escape(cell)}</{tag}>"
            for cell, kind in zip(cells, kinds, strict=True)
        )

    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    return (
        f'<div class="wide"><table><thead><tr>{row(head, "th")}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def picture(data: bytes, *, kind: str, alt: str, caption: str = "") -> str:
    """A figure that carries its own bytes.

    Args:
        data: The file.
        kind: Its media type.
        alt: What it shows, for those who cannot see it.
        caption: Below it.
    """
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    source = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return f'<figure><img alt="{html.escape(alt)}" src="{source}">{below}</figure>'


def legend(entries: Mapping[str, tuple[int, int, int]]) -> str:
    """Names with the colours that stand for them."""
    items = "".join(
        f'<li><i style="background:rgb{color}"></i>{html.escape(name)}</li>'
        for name, color in entries.items()
    )
    return f'<ul class="key">{items}</ul>'


def boxes(parts: Iterable[str], kind: str) -> str:
    """Figures beside each other: ``grid``, ``row`` of four, ``half`` the page, ``broad``."""
    return f'<div class="{kind}">{"".join(parts)}</div>'
