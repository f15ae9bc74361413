"""Rows of results as tables of Markdown."""


def written(value):
    if isinstance(value, dict):
        return f"{value['median']:.2f} ({value['low']:.2f} to {value['high']:.2f})"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else value


def table(rows):
    head = list(rows[0])
    lines = [head, ["---"] * len(head)]
    lines += [[written(row[key]) for key in head] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def in_markdown(part, rows):
    return f"### {part}\n\n{table(rows)}\n"
