"""Tables of a measurement: in the terminal with rich, and as Markdown beside the JSON files."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.results_file import newest
from bench.stats import agreement, geometric_mean, ratio

REFERENCE = "Hugging Face"  # the contender whose decoded tokens the others' are compared with


def rows(cell: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The header and the lines of one cell's table: a line a contender, a ratio column for each of our rows."""
    contenders = [entry for entry in cell["contenders"] if entry["rates"]]
    ours = [entry for entry in contenders if entry["role"] == "ours"]
    outputs = {entry["name"]: entry["output"] for entry in contenders if entry["output"]}
    header = ["contender", "tokens/s", *(f"{entry['name']} ÷ it" for entry in ours), "parameters", "peak MB"]
    if outputs:
        header.append(f"same output as {REFERENCE}")
    lines = []
    for entry in contenders:
        line = [entry["name"] + (" (information)" if entry["role"] == "information" else "")]
        line.append(f"{median(entry['rates']):,.0f}")
        line += ["" if mine is entry else str(ratio(mine["rates"], entry["rates"])) for mine in ours]
        line += [f"{entry['parameters']:,}", f"{entry['peak_bytes'] / 1e6:,.0f}"]
        if outputs:
            known = entry["name"] in outputs and REFERENCE in outputs
            line.append(str(agreement(outputs[entry["name"]], outputs[REFERENCE])) if known else "")
        lines.append(line)
    return header, lines


def verdicts(cells: list[dict[str, Any]]) -> list[str]:
    """The sentences that answer the targets: the best peer in training, Hugging Face in decoding."""
    sentences = []
    against_reference = []
    for cell in cells:
        by_name = {entry["name"]: entry for entry in cell["contenders"] if entry["rates"]}
        peers = [entry for entry in by_name.values() if entry["role"] == "peer"]
        if "qkv" not in by_name or not peers:
            continue
        mine = by_name["qkv"]["rates"]
        if cell["cell"]["kind"] == "decoding" and REFERENCE in by_name:
            against_reference.append(ratio(mine, by_name[REFERENCE]["rates"]).median)
        best = max(peers, key=lambda entry: median(entry["rates"]))
        sentences.append(f"{cell['name']}: qkv ÷ best peer ({best['name']}) = {ratio(mine, best['rates'])}")
    if against_reference:
        sentences.append(
            f"decoding, {len(against_reference)} cells: qkv ÷ {REFERENCE} = {geometric_mean(against_reference):.2f} "
            f"in the geometric mean (target 1.6), {min(against_reference):.2f} in the worst cell (target 1.2)"
        )
    return sentences


def show(cell: dict[str, Any], console: Console) -> None:
    """Prints one cell."""
    header, lines = rows(cell)
    table = Table(title=cell["name"])
    for index, column in enumerate(header):
        table.add_column(column, justify="left" if index == 0 else "right")
    for line in lines:
        table.add_row(*line)
    console.print(table)
    for missing in cell["absent"]:
        console.print(f"  without {missing['name']}: {missing['reason']}", markup=False)


def conditions(record: dict[str, Any], cell: dict[str, Any]) -> str:
    """Where, when and with what a cell was measured, in one line."""
    versions: dict[str, str] = {}
    for entry in cell["contenders"]:
        versions |= entry["versions"]
    packages = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    processor = record["processor"]
    machine = f"{processor['model']}, {record['cores']} cores, {' '.join(processor['instructions'])}"
    return (
        f"{record['date']}, commit {record['commit']}, {machine}, {record['threads']} thread(s), "
        f"{record['rounds']} rounds, load before {record['load_before']}; Python {record['python']}, {packages}"
    )


def markdown(measured: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """The whole report: verdicts first, then a table a cell under the conditions that it was measured in."""
    text = [
        "# Results\n",
        "Written by `python -m bench`; the method is in [../README.md](../README.md). Tokens/s are medians over the "
        "rounds. A ratio is formed within each round; shown are its median and, in brackets, its least and greatest "
        "value. Above 1, qkv is faster.\n",
        *(f"- {sentence}" for sentence in verdicts([cell for _, cell in measured])),
    ]
    said = ""
    for record, cell in measured:
        now = conditions(record, cell)
        text.append(f"\n## {cell['name']}\n")
        if now != said:
            text.append(f"{now}\n")
            said = now
        header, lines = rows(cell)
        text.append("| " + " | ".join(header) + " |")
        text.append("|---|" + "---:|" * (len(header) - 1))
        text += ["| " + " | ".join(line) + " |" for line in lines]
        text += [f"\nWithout {missing['name']}: {missing['reason']}" for missing in cell["absent"]]
    return "\n".join(text) + "\n"


def rewrite(folder: Path) -> Path:
    """Renders the newest measurement of every cell in the folder into its README."""
    path = folder / "README.md"
    path.write_text(markdown(newest(folder)))
    return path
