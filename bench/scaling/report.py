"""What a run of scaling.py leaves: JSON, CSV, a chart a task, and a page; and the parts of it that simulate shares."""
import csv
import json
import math
from html import escape

COLOURS = {"strong": "#2457c5", "weak": "#c2410c"}
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 400, 60, 56, 40, 110
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;color:#1b1f24}
table{border-collapse:collapse;margin:1rem 0}td,th{border-bottom:1px solid #dfe3e8;padding:.3rem .7rem;text-align:right}
td:first-child,th:first-child{text-align:left}.bar{display:flex;height:14px;width:260px;border-radius:3px;overflow:hidden}
.bad{color:#b42318}figure{margin:0}svg{max-width:100%}.pair{display:grid;grid-template-columns:1fr 1fr}"""
PHASES = {"read": "#94a3b8", "prepare": "#f59e0b", "infer": "#2457c5", "partition": "#f59e0b", "exchange": "#7c3aed",
          "graph": "#2457c5", "write": "#64748b", "route": "#f59e0b", "search": "#2457c5", "merge": "#15803d", "wait": "#e11d48",
          "other": "#a16207", "outside": "#cbd5e1"}


def begin(title):
    return [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
            f'<text x="{LEFT}" y="24" font-size="16" font-weight="bold">{escape(title)}</text>']


def name_axes(below, beside):
    return [f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 14}" text-anchor="middle">{escape(below)}</text>',
            f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
            f'{escape(beside)}</text>']


def short(number):
    """1234567 as 1.23M."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def curves(title, below, beside, series, unit="/s"):
    """Curves through points, both axes by powers. series: name, colour, dashed or not, points (x, y) with x, y > 0."""
    points = [point for _, _, _, line in series for point in line]
    x_from, x_to = (pick(math.log2(x) for x, _ in points) for pick in (min, max))
    y_from, y_to = math.floor(min(math.log10(y) for _, y in points)), math.ceil(max(math.log10(y) for _, y in points))
    x_to, y_to = max(x_to, x_from + 1), max(y_to, y_from + 1)

    def x(value):
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log2(value) - x_from) / (x_to - x_from)

    def y(value):
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (math.log10(value) - y_from) / (y_to - y_from)

    out = begin(title)
    for power in range(math.ceil(x_from), math.floor(x_to) + 1, 1 if x_to - x_from < 7 else 2):
        out.append(f'<text x="{x(2 ** power):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{2 ** power:,}</text>'
                   f'<line x1="{x(2 ** power):.1f}" x2="{x(2 ** power):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#eef1f4"/>')
    for power in range(y_from, y_to + 1):
        out.append(f'<text x="{LEFT - 8}" y="{y(10 ** power) + 4:.1f}" text-anchor="end">{short(10 ** power)}</text>'
                   f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(10 ** power):.1f}" y2="{y(10 ** power):.1f}" stroke="#dfe3e8"/>')
    out += name_axes(below, beside)
    for i, (name, colour, is_dashed, line) in enumerate(series):
        dash = ' stroke-dasharray="6 4"' if is_dashed else ""
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in line)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        out += [f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3.5" fill="{colour}"><title>{escape(name)}, {a:,}: {short(b)}{unit}</title></circle>'
                for a, b in line]
        at = TOP + 20 * i + 10
        out.append(f'<line x1="{WIDTH - RIGHT + 10}" x2="{WIDTH - RIGHT + 30}" y1="{at - 4}" y2="{at - 4}" stroke="{colour}" '
                   f'stroke-width="2"{dash}/><text x="{WIDTH - RIGHT + 36}" y="{at}">{escape(name)}</text>')
    return "\n".join([*out, "</svg>"])


def page(title, body):
    return (f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
            f"<h1>{escape(title)}</h1>{body}\n</html>\n")


def chart(rows, task):
    """Workers to the right, rate against that of one worker upwards; the dashed line is perfect."""
    most = max(row["ranks"] * row["threads"] for row in rows)
    alone = {kind: min((row for row in rows if row["kind"] == kind), key=lambda row: row["ranks"] * row["threads"])
             for kind in COLOURS if any(row["kind"] == kind for row in rows)}

    def x(workers):
        return LEFT + (WIDTH - LEFT - RIGHT) * workers / most

    def y(speedup):
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * speedup / (most * 1.05)

    out = begin(task)
    ticks = sorted({row["ranks"] * row["threads"] for row in rows})
    for n in ticks:
        out.append(f'<text x="{x(n):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{n}</text>'
                   f'<text x="{LEFT - 8}" y="{y(n) + 4:.1f}" text-anchor="end">{n}</text>'
                   f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(n):.1f}" y2="{y(n):.1f}" stroke="#dfe3e8"/>')
    out.append(f'<line x1="{x(0):.1f}" y1="{y(0):.1f}" x2="{x(most):.1f}" y2="{y(most):.1f}" stroke="#94a3b8" '
               'stroke-dasharray="5 4"/>')
    out += name_axes("ranks x threads", "times one worker")
    for i, (kind, first) in enumerate(alone.items()):
        unit = first["rate"] / (first["ranks"] * first["threads"])
        for row in rows:
            if row["kind"] != kind:
                continue
            n, speedup = row["ranks"] * row["threads"], row["rate"] / unit
            name = f"{row['ranks']} ranks x {row['threads']} threads: {row['rate']:.0f}/s, {row['efficiency']:.2f}"
            shape = (f'<circle cx="{x(n):.1f}" cy="{y(speedup):.1f}" r="5"' if row["ranks"] > 1 or n == 1
                     else f'<rect x="{x(n) - 5:.1f}" y="{y(speedup) - 5:.1f}" width="10" height="10"')
            out.append(f'{shape} fill="{COLOURS[kind]}" fill-opacity=".7"><title>{name}</title></{shape[1:].split()[0]}>')
        out.append(f'<text x="{WIDTH - RIGHT + 20}" y="{TOP + 20 * i + 10}" fill="{COLOURS[kind]}">{kind}</text>')
    out.append(f'<text x="{WIDTH - RIGHT + 20}" y="{TOP + 70}" fill="#5b6470">○ ranks</text>'
               f'<text x="{WIDTH - RIGHT + 20}" y="{TOP + 90}" fill="#5b6470">□ threads</text></svg>')
    return "\n".join(out)


def bar(phases):
    total = sum(phases.values()) or 1
    return '<div class="bar">' + "".join(
        f'<i title="{escape(name)}: {value:.3f} s" style="width:{100 * value / total:.2f}%;background:{PHASES.get(name, "#999")}"></i>'
        for name, value in phases.items()) + "</div>"


def spent(phases):
    return ", ".join(f'<span style="color:{PHASES.get(name, "#999")}">■</span> {name} {value:.2f}' for name, value in phases.items())


def table(rows):
    out = ["<table><tr><th>ranks x threads</th><th>scaling</th><th>work</th><th>rate, /s</th><th>efficiency</th>"
           "<th>imbalance</th><th>bytes sent</th><th>recall</th><th>seconds of a rank</th></tr>"]
    for row in rows:
        shape = f"<td>{row['ranks']} x {row['threads']}</td><td>{row['kind']}</td>"
        if not row["valid"]:
            out.append(f'<tr>{shape}<td colspan="7" class="bad">invalid: {escape(row["why"])}</td></tr>')
            continue

        def cell(name, form):
            return f"<td>{row[name]:{form}}</td>" if row.get(name) is not None else "<td>–</td>"
        out.append(f"<tr>{shape}{cell('work', ',')}{cell('rate', ',.0f')}{cell('efficiency', '.2f')}{cell('imbalance', '.2f')}"
                   f"<td>{short(row['sent_bytes'])}</td>{cell('recall', '.4f')}<td>{bar(row['phases'])}{spent(row['phases'])}</td></tr>")
    return "\n".join([*out, "</table>"])


def write_csv(rows, path):
    names = sorted({name for row in rows for name in row.get("phases", {})})
    columns = ["task", "kind", "ranks", "threads", "share", "valid", "work", "seconds", "rate", "efficiency", "imbalance",
               "sent_bytes", "probes_per_query", "recall"]
    with open(path, "w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(columns + [f"{name}_s" for name in names])
        for row in rows:
            lines.writerow([row.get(name, "") for name in columns] + [row.get("phases", {}).get(name, "") for name in names])


def write(document, folder):
    rows, sections = document["rows"], []
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scaling.json").write_text(json.dumps(document, indent=1) + "\n")
    write_csv(rows, folder / "scaling.csv")
    for task in dict.fromkeys(row["task"] for row in rows):
        mine = [row for row in rows if row["task"] == task]
        valid = [row for row in mine if row["valid"]]
        picture = chart(valid, task) if valid else ""
        if valid:
            (folder / f"{task}.svg").write_text(picture + "\n")
        sections.append(f"<h2>{task}</h2>\n<figure>{picture}</figure>\n{table(mine)}")
    machine = document["machine"]
    head = (f"{document['date']}, {machine['host']}: {machine['processor']}, {machine['cpus']} CPUs; best of "
            f"{document['rounds']} rounds; " + ", ".join(f"{k} {v}" for k, v in document["settings"].items()))
    (folder / "index.html").write_text(page(
        "How Myriops scales", f"<p>{escape(head)}</p><p>Strong: the same work for every shape. Weak: as much work for "
        "each thread. Efficiency: the rate of a worker, rank x thread, to that of the smallest shape's. Imbalance: the "
        "seconds in which the busiest rank worked (embed), built and wrote (index), searched (query), to the mean rank's. Results that were "
        "not those of the first shape, or found too little, bear no numbers.</p>\n" + "\n".join(sections)))
