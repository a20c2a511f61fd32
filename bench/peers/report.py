"""What a run of the benchmark leaves: a table in Markdown, JSON with every number, CSV, and a chart in SVG."""
import csv
import json
from html import escape

COLOURS = {"myriops": "#c2410c", "onnxruntime": "#2563eb", "openvino": "#6b7280"}
SHADES = {"f32": 1.0, "bf16": 0.7, "int8": 0.45}


def figure(result):
    """Pictures a second of an engine, or None where there is no valid one."""
    return None if result is None else result.get("images_per_s")


def cell(result, reference):
    rate = figure(result)
    if rate is None:
        return "–"
    text = f"{rate:.0f}" if rate >= 100 else f"{rate:.1f}"
    return f"{text} ({rate / reference:.2f}×)" if reference else text


def markdown(document):
    engines = document["engines"]
    lines = ["| network | " + " | ".join(engines) + " |", "|---|" + "---:|" * len(engines)]
    notes = []
    for name, results in document["networks"].items():
        reference = figure(results.get(document["reference"]))
        lines.append(f"| {name} | " + " | ".join(cell(results.get(engine), reference) for engine in engines) + " |")
        notes += [f"- {name}, {engine}: {results[engine]['reason']}" for engine in engines
                  if engine in results and "reason" in results[engine]]
    head = (f"Images a second, batch {document['batch']}, {document['threads']} thread(s); in brackets the ratio to "
            f"{document['reference']}. {document['machine']['processor']}.")
    return "\n".join([head, "", *lines] + (["", "No figure:", "", *notes] if notes else []))


def write_csv(document, path):
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["network", "engine", "threads", "batch", "images_per_s", "lowest_round", "highest_round",
                       "ratio", "cosine", "error_of_spread", "reason"])
        for name, results in document["networks"].items():
            reference = figure(results.get(document["reference"]))
            for engine, result in results.items():
                rate, rounds = figure(result), result.get("rounds", [])
                rows.writerow([name, engine, document["threads"], document["batch"], f"{rate:.2f}" if rate else "",
                               f"{min(rounds):.2f}" if rate else "", f"{max(rounds):.2f}" if rate else "",
                               f"{rate / reference:.3f}" if rate and reference else "",
                               *(f"{result[key]:.6f}" if key in result else "" for key in ("cosine", "error_of_spread")),
                               result.get("reason", "")])


# ---- the chart -----------------------------------------------------------------------------------------------------

BAR, GAP, LEFT, WIDTH = 12, 14, 150, 900


def bar(x, y, length, engine, text):
    name, precision = engine.rsplit("-", 1)
    return (f'<rect x="{x}" y="{y}" width="{length:.1f}" height="{BAR - 2}" fill="{COLOURS[name]}" '
            f'fill-opacity="{SHADES[precision]}"/>'
            f'<text x="{x + length + 4:.1f}" y="{y + BAR - 3}" font-size="10">{escape(text)}</text>')


def chart(document):
    """Bars of the ratio to the reference, a group for each network."""
    engines, groups = document["engines"], []
    for name, results in document["networks"].items():
        reference = figure(results.get(document["reference"]))
        rates = [(engine, figure(results.get(engine))) for engine in engines]
        if reference:
            groups.append((name, [(engine, rate, rate / reference) for engine, rate in rates if rate]))
    longest = max([ratio for _, bars in groups for _, _, ratio in bars] or [1])
    scale = (WIDTH - LEFT - 130) / longest
    parts, y = [], 40
    for position, engine in enumerate(engines):
        parts.append(bar(20 + position * (WIDTH - 40) // len(engines), 14, 12, engine, engine))
    for name, bars in groups:
        parts.append(f'<text x="{LEFT - 8}" y="{y + BAR * len(bars) / 2 + 4:.0f}" text-anchor="end">{escape(name)}</text>')
        for engine, rate, ratio in bars:
            parts.append(bar(LEFT, y, ratio * scale, engine, f"{rate:.0f}/s, {ratio:.2f}×"))
            y += BAR
        y += GAP
    line = LEFT + scale
    parts.append(f'<line x1="{line:.1f}" y1="34" x2="{line:.1f}" y2="{y - GAP}" stroke="black" stroke-dasharray="3,3"/>')
    caption = (f"Images a second against {document['reference']} (dashed), {document['threads']} thread(s), batch "
               f"{document['batch']}; {document['machine']['processor']}")
    parts.append(f'<text x="20" y="{y + 8}" font-size="11">{escape(caption)}</text>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 20}" font-family="sans-serif" '
            f'font-size="12"><rect width="100%" height="100%" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n")


def write(document, path):
    """path.json, and beside it .csv, .md and .svg."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
    write_csv(document, path.with_suffix(".csv"))
    path.with_suffix(".md").write_text(markdown(document) + "\n")
    path.with_suffix(".svg").write_text(chart(document))
