"""The page and the numbers of a study. Imports what an experiment finds."""

import base64
import html
import io
import json
import math
from pathlib import Path
from typing import Any

from .._utils.files import replacing
from ..plotting._common import pyplot
from ._study import Finding

_STYLE = """
body { font-family: system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem;
       line-height: 1.5; color: #222; }
img { max-width: 100%; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-size: 0.9rem; color: #555; }
th, td { padding: 0.15rem 0.7rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
.claim { color: #555; }
"""


def write_report(
    folder: Path, findings: list[Finding], about: dict[str, Any]
) -> tuple[Path, Path]:
    """Write ``report.html``, which needs no other file, and ``report.json``.

    Parameters
    ----------
    folder : Path
    findings : list of Finding
        Their figures are drawn and closed.
    about : dict
        What was run: settings, sections, seconds.

    Returns
    -------
    page, numbers : Path
    """
    folder.mkdir(parents=True, exist_ok=True)
    for finding in findings:
        for name in list(finding.figures):
            finding.pictures[name] = _png(finding.figures.pop(name))
    page, numbers = folder / "report.html", folder / "report.json"
    experiments = {
        f.key: {"title": f.title, "shown_in": f.shown_in, "claim": f.claim, "found": f.found}
        | {"numbers": f.numbers}
        for f in findings
    }
    with replacing(numbers) as scratch:
        content = _without_nan({"about": about, "experiments": experiments})
        scratch.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")
    with replacing(page) as scratch:
        scratch.write_text(_page(findings, about), encoding="utf-8")
    return page, numbers


def _page(findings: list[Finding], about: dict[str, Any]) -> str:
    items = "".join(f'<li><a href="#{f.key}">{html.escape(f.title)}</a></li>' for f in findings)
    facts = "".join(f"<li>{html.escape(f'{name}: {value}')}</li>" for name, value in about.items())
    title = "The paper’s experiments"
    body = "".join(_section(finding) for finding in findings)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>"
        "<p>Experiments of Zhou &amp; Du (2024), arXiv:2408.00911, by the paper’s recipe "
        "(<code>make_paper_pipeline</code>) and by the defaults of this package "
        "(<code>make_spatial_pipeline</code>). The disparity is that of Procrustes: 0 is best, 1 "
        f"is worst.</p><ul>{items}</ul><h2>What was run</h2><ul>{facts}</ul>{body}</body></html>\n"
    )


def _section(finding: Finding) -> str:
    found = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in finding.found)
    figures = "".join(
        f'<p><img alt="{html.escape(name)}" src="data:image/png;base64,{picture}"></p>'
        for name, picture in finding.pictures.items()
    )
    tables = "".join(_table(*table) for table in finding.tables)
    return (
        f'<h2 id="{finding.key}">{html.escape(finding.title)}</h2>'
        f'<p class="claim">{html.escape(finding.shown_in)} of the paper: '
        f"{html.escape(finding.claim)}</p>{found}{figures}{tables}"
    )


def _table(caption: str, head: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><caption>{html.escape(caption)}</caption>{line(head, 'th')}{body}</table>"


def _png(figure: Any) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    pyplot().close(figure)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def _without_nan(value: Any) -> Any:
    """JSON has no NaN; numbers that could not be computed are null."""
    if isinstance(value, dict):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
