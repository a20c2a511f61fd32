"""What a run of ann.py leaves: a table in Markdown at equal recall, JSON with every number, CSV, and curves in SVG."""
import csv
import json
import math
from html import escape

RECALLS = (0.90, 0.95, 0.99)
COLOURS = {"myriops": "#c2410c", "hnswlib": "#2563eb", "faiss-flat": "#15803d", "faiss-sq8": "#65a30d", "svs": "#6b7280"}


def rate_at(curve, recall):
    """Queries a second at a recall, between the measured points on a logarithmic scale; None beyond them."""
    points = sorted((p["recall"], p["qps"]) for p in curve)
    for (low, fast), (high, slow) in zip(points, points[1:]):
        if low <= recall <= high and high > low:
            share = (recall - low) / (high - low)
            return math.exp((1 - share) * math.log(fast) + share * math.log(slow))
    return None


def cell(value, reference):
    if value is None:
        return "–"
    return f"{value:,.0f}" + (f" ({value / reference:.2f}×)" if reference else "")


def markdown(document):
    engines, reference = document["engines"], document["engines"].get(document["reference"])
    lines = ["| engine | index, MB | points/s built | " + " | ".join(f"queries/s at {r:.2f}" for r in RECALLS) + " |",
             "|---|---:|---:|" + "---:|" * len(RECALLS)]
    for name, result in engines.items():
        base = reference["build_points_per_s"] if reference else None
        size, peer = result.get("index_bytes"), reference and reference.get("index_bytes")
        cells = [f"{size / 1e6:,.0f} ({size / peer:.2f}×)" if size and peer else "–",
                 cell(result["build_points_per_s"], base)]
        cells += [cell(rate_at(result["curve"], r), rate_at(reference["curve"], r) if reference else None) for r in RECALLS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    head = (f"{document['dataset']}, {document['metric']}, recall@{document['k']}, {document['threads']} thread(s), "
            f"{document['machine']['processor']}, {document['date']}; in brackets the ratio to {document['reference']}.")
    return "\n".join([head, "", *lines])


def write_csv(document, path):
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["engine", "threads", "build_points_per_s", "ef", "recall", "qps", "lowest_round", "highest_round"])
        for name, result in document["engines"].items():
            for p in result["curve"]:
                rows.writerow([name, document["threads"], f"{result['build_points_per_s']:.0f}", p["ef"], f"{p['recall']:.4f}",
                               f"{p['qps']:.0f}", f"{min(p['rounds']):.0f}", f"{max(p['rounds']):.0f}"])


WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 760, 480, 70, 60, 30, 130


def chart(document):
    """Recall to the right, queries a second upwards on a logarithmic scale; up and right is better."""
    points = [p for result in document["engines"].values() for p in result["curve"]]
    least = max(0.5, min(p["recall"] for p in points))
    low, high = (math.log10(f(p["qps"] for p in points)) for f in (min, max))
    low, high = math.floor(low * 4) / 4, math.ceil(high * 4) / 4
    x = lambda recall: LEFT + (recall - least) / (1 - least) * (WIDTH - LEFT - RIGHT)
    y = lambda qps: TOP + (high - math.log10(qps)) / (high - low) * (HEIGHT - TOP - BOTTOM)
    parts = []
    for tick in [t / 100 for t in range(math.ceil(least * 100), 101) if t % (5 if least < 0.8 else 2) == 0]:
        parts.append(f'<line x1="{x(tick):.1f}" y1="{TOP}" x2="{x(tick):.1f}" y2="{HEIGHT - BOTTOM}" stroke="#ddd"/>'
                     f'<text x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:.2f}</text>')
    for decade in range(math.floor(low), math.ceil(high) + 1):
        for factor in (1, 2, 5):
            rate = factor * 10 ** decade
            if low <= math.log10(rate) <= high:
                parts.append(f'<line x1="{LEFT}" y1="{y(rate):.1f}" x2="{WIDTH - RIGHT}" y2="{y(rate):.1f}" stroke="#ddd"/>'
                             f'<text x="{LEFT - 6}" y="{y(rate) + 4:.1f}" text-anchor="end">{rate:,}</text>')
    for i, (name, result) in enumerate(document["engines"].items()):
        shown = [p for p in sorted(result["curve"], key=lambda p: p["recall"]) if p["recall"] >= least]
        line = " ".join(f"{x(p['recall']):.1f},{y(p['qps']):.1f}" for p in shown)
        colour = COLOURS.get(name, "black")
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(p["recall"]):.1f}" cy="{y(p["qps"]):.1f}" r="3" fill="{colour}"/>' for p in shown]
        parts.append(f'<text x="{WIDTH - RIGHT + 14}" y="{TOP + 14 + 18 * i}" fill="{colour}">{escape(name)}</text>')
    title = (f"{document['dataset']}: queries a second (upwards) by recall@{document['k']}, {document['threads']} thread(s), "
             f"{document['machine']['processor']}")
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 14}" font-size="12">{escape(title)}</text>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
            f'font-size="11"><rect width="100%" height="100%" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n")


def write(document, path):
    """path.json, and beside it .csv, .md and .svg."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
    write_csv(document, path.with_suffix(".csv"))
    path.with_suffix(".md").write_text(markdown(document) + "\n")
    path.with_suffix(".svg").write_text(chart(document))
