"""The table of bad inputs: what is typed. The sentences that come back are in sentences.yaml, by the same names.

In both, {toy}, {run}, {text}, {labels} and {tmp} stand for the toy's folder, its run, its language model, its
classifier and an empty folder. `prepare` makes what a case needs in the empty folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Prepare = Callable[[Path, Path], None]


@dataclass(frozen=True)
class Case:
    """arguments: as typed. prepare: makes the files it needs. stdin: what is piped in."""

    name: str
    arguments: list[str]
    prepare: Prepare | None = None
    stdin: bytes | None = None


def file(name: str, content: str | bytes) -> Prepare:
    """A file in the empty folder."""
    data = content.encode() if isinstance(content, str) else content

    def make(tmp: Path, run: Path) -> None:
        (tmp / name).write_bytes(data)

    return make


def copy_of_run(change: Callable[[Path], None]) -> Prepare:
    """A changed copy of the toy run at {tmp}/copy."""

    def make(tmp: Path, run: Path) -> None:
        shutil.copytree(run, tmp / "copy", ignore=shutil.ignore_patterns("checkpoints"))
        change(tmp / "copy")

    return make


def _version(folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("format_version: 1", "format_version: 9"))


def _test_file(folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("test: ''", "test: none.tsv"))


def _wider(folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("d_ff: 64", "d_ff: 65"))


def _halved(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return change


def _removed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _garbled(folder: Path) -> None:
    (folder / "config.yaml").write_text("task: [translate\nmodel: {\n")


def _hugging_face(tmp: Path, run: Path) -> None:
    (tmp / "hf").mkdir()
    (tmp / "hf" / "config.json").write_text(json.dumps({"model_type": "gpt2"}))


def train(*settings: str) -> list[str]:
    return ["train", "{toy}/toy.yaml", *settings, "--out", "{tmp}/out"]


def on(path: str) -> list[str]:
    return train(f"data.train={path}", "data.dev={toy}/dev.tsv")


def tokenizer(kind: str, *options: str) -> list[str]:
    return ["data", "tokenizer", "{toy}/text.txt", "--kind", kind, *options]


RECIPES = [
    Case("unknown recipe", ["train", "dmeo"]),
    Case("recipe file missing", ["train", "{tmp}/none.yaml"]),
    Case("recipe not YAML", ["train", "{tmp}/r.yaml"], file("r.yaml", "task: {translate\ndata: x")),
    Case("recipe not a mapping", ["train", "{tmp}/r.yaml"], file("r.yaml", "- task")),
    Case("recipe not UTF-8", ["train", "{tmp}/r.yaml"], file("r.yaml", b"task: \xff")),
    Case(
        "part missing",
        ["train", "{tmp}/r.yaml"],
        file("r.yaml", "task: translate\ndata: cmudict"),
    ),
    Case("override without value", train("training.max_steps")),
    Case("unknown key", train("training.max_step=5")),
    Case("unknown table entry", train("training.schedule=cosin")),
    Case("wrong type", train("training.max_steps=many")),
    Case("negative steps", train("training.max_steps=-5")),
    Case("both budgets", train("training={max_steps: 5, max_minutes: 3}")),
    Case("no budget", train("training.max_steps=null")),
    Case("unknown task", train("task=translat")),
    Case("unknown dataset", train("data=cmudct")),
    Case("dataset of another kind", train("data=tinyshakespeare")),
    Case("unknown preset", train("model={preset: vaswanni}")),
    Case("unknown preset size", train("model.size=huge")),
    Case("unknown model field", train("model.encoder.n_layer=3")),
    Case("heads do not divide", train("model.encoder.d_model=30", "model.decoder.d_model=30")),
    Case(
        "odd rotary width",  # refused before the data are looked for
        [
            *train("model.encoder.position=rotary", "model.encoder.block.attention.d_head=7"),
            "data={train: none.tsv, dev: none.tsv}",
        ],
    ),
    Case("stacks of two widths", train("model.encoder.d_model=64")),
    Case("shared embedding, two tokenizers", train("model.shared_embedding=true", "tokenizers.target=words")),
    Case("shared and single tokenizers", train("tokenizers.shared=characters")),
    Case("vocabulary too small", train("tokenizers.target={bpe: {vocab_size: 3}}")),
    Case("tokenizer file missing", train("tokenizers.target={file: {path: none.json}}")),
    Case("unknown device", train("training.device=tpu")),
    Case("window too long", ["train", "{toy}/text.yaml", "task.language_model.windows.length=17"]),
    Case("accumulate refused", train("model.encoder.block.norm=batch_norm", "training.accumulate=2")),
    Case("averaging twice", train("training.ema_decay=0.9", "training.average_last=2")),
]

DATA = [
    Case("data file missing", on("{tmp}/none.tsv")),
    Case("data file empty", on("{tmp}/d.tsv"), file("d.tsv", "")),
    Case("ragged TSV", on("{tmp}/d.tsv"), file("d.tsv", "ab\tba\nabc\n")),
    Case("empty cell", on("{tmp}/d.tsv"), file("d.tsv", "ab\tba\nabc\t \n")),
    Case("not UTF-8", on("{tmp}/d.tsv"), file("d.tsv", b"ab\tba\ncaf\xe9\tx\n")),
    Case("broken JSON", on("{tmp}/d.jsonl"), file("d.jsonl", '{"source": "a", "target": "b"}\n{"source": "a"')),
    Case("JSON of another type", on("{tmp}/d.jsonl"), file("d.jsonl", '{"source": 5, "target": "b"}\n')),
    Case("column missing", on("{tmp}/d.jsonl"), file("d.jsonl", '{"source": "a"}\n')),
    Case("unknown format", on("{tmp}/d.csv"), file("d.csv", "a,b\n")),
    Case("damaged gzip", on("{tmp}/d.tsv.gz"), file("d.tsv.gz", b"\x1f\x8bnonsense")),
    Case("over-long example", on("{tmp}/d.tsv"), file("d.tsv", "ab\tba\n" + "a" * 700 + "\tb\n")),
    Case("text too short", ["train", "{toy}/text.yaml", "data.train={tmp}/d.txt"], file("d.txt", "short")),
    Case("no network", ["data", "get", "multi30k", "--mirror", "file://{tmp}"]),
    Case("get an unknown dataset", ["data", "get", "multi31k"]),
    Case("show an unknown dataset", ["data", "show", "nothing"]),
    Case("unknown tokenizer kind", tokenizer("bpee")),
    Case("tokenizer vocabulary too small", tokenizer("byte-bpe", "--vocab-size", "9")),
]

RUNS = [
    Case("run missing", ["evaluate", "{tmp}/none"]),
    Case("run empty", ["predict", "{tmp}", "abc"]),
    Case("run without weights", ["predict", "{tmp}/copy", "abc"], copy_of_run(_removed("model.safetensors"))),
    Case("weights damaged", ["predict", "{tmp}/copy", "abc"], copy_of_run(_halved("model.safetensors"))),
    Case("weights of another model", ["predict", "{tmp}/copy", "abc"], copy_of_run(_wider)),
    Case("tokenizer damaged", ["predict", "{tmp}/copy", "abc"], copy_of_run(_halved("tokenizers/target.json"))),
    Case("tokenizer missing", ["predict", "{tmp}/copy", "abc"], copy_of_run(_removed("tokenizers/target.json"))),
    Case("config damaged", ["predict", "{tmp}/copy", "abc"], copy_of_run(_garbled)),
    Case("config of another version", ["predict", "{tmp}/copy", "abc"], copy_of_run(_version)),
    Case("Hugging Face folder without weights", ["predict", "{tmp}/hf", "abc"], _hugging_face),
    Case("changed config on resume", ["train", "{toy}/toy.yaml", "training.seed=7", "--out", "{run}"]),
    Case("out is a file", ["train", "{toy}/toy.yaml", "--out", "{tmp}/out"], file("out", "")),
    Case("out below a file", ["train", "{toy}/toy.yaml", "--out", "{tmp}/out/run"], file("out", "")),
    Case("init missing", train("--init", "{tmp}/none")),
    Case("init of another task", train("--init", "{text}")),
]

ANSWERS = [
    Case("empty text", ["predict", "{run}", "abc", " "]),
    Case("empty line", ["predict", "{run}"], stdin=b"\n"),
    Case("no input", ["predict", "{run}"], stdin=b""),
    Case("input not UTF-8", ["predict", "{run}"], stdin=b"\xff\n"),
    Case("over-long text", ["predict", "{run}", "a" * 1100]),
    Case("over-long prompt", ["predict", "{text}", "the cat sat on the"]),
    Case("texts twice", ["predict", "{run}", "abc", "--file", "{toy}/dev.tsv"]),
    Case("input file missing", ["predict", "{run}", "--file", "{tmp}/none.txt"]),
    Case("beam of width 0", ["predict", "{run}", "abc", "beam.width=0"]),
    Case("temperature 0", ["predict", "{run}", "abc", "sample.temperature=0"]),
    Case("temperature negative", ["predict", "{run}", "abc", "sample.temperature=-1"]),
    Case("top_p out of range", ["predict", "{run}", "abc", "sample.top_p=1.5"]),
    Case("unknown decoding field", ["predict", "{run}", "abc", "beam.widht=3"]),
    Case("unknown chooser", ["predict", "{run}", "abc", "decoding=beem"]),
    Case("nbest 0", ["predict", "{run}", "abc", "--nbest", "0"]),
    Case("nbest above the beam", ["predict", "{run}", "abc", "--nbest", "9", "beam.width=2"]),
    Case("nbest without a beam", ["predict", "{run}", "abc", "--nbest", "2"]),
    Case("device missing", ["predict", "{run}", "abc", "--device", "cuda:7"]),
    Case("output not writable", ["predict", "{run}", "abc", "--output", "{toy}/toy.yaml/out"]),
    Case("unknown split", ["evaluate", "{run}", "--split", "validation"]),
    Case("split without a file", ["evaluate", "{run}", "--split", "test"]),
    Case("test file of the run missing", ["evaluate", "{tmp}/copy"], copy_of_run(_test_file)),
    Case("evaluate without references", ["evaluate", "{run}", "--data", "{toy}/text.txt"]),
    Case("explain an empty text", ["explain", "{run}", ""]),
    Case("explain layer out of range", ["explain", "{run}", "abc", "--layer", "3"]),
    Case("explain head out of range", ["explain", "{run}", "abc", "--head", "-1"]),
    Case("explain unknown site", ["explain", "{run}", "abc", "--site", "self"]),
    Case("explain a site that is not there", ["explain", "{text}", "the cat", "--site", "cross"]),
    Case("explain an over-long text", ["explain", "{text}", "the cat sat on the mat"]),
]


def classify(*settings: str) -> list[str]:
    return ["train", "{toy}/labels.yaml", *settings, "--out", "{tmp}/out"]


CLASSIFY = [
    Case("label empty", classify("data.train={tmp}/d.tsv"), file("d.tsv", "text\tlabel\na film\t \n")),
    Case("one label only", classify("data.train={tmp}/d.tsv"), file("d.tsv", "text\tlabel\na film\tx\nfilm\tx\n")),
    Case("no label column", classify("data.train={tmp}/d.jsonl"), file("d.jsonl", '{"text": "a film"}\n')),
    Case(
        "several labels for one",
        classify("data.train={tmp}/d.jsonl"),
        file("d.jsonl", '{"text": "a", "label": ["x", "y"]}\n{"text": "b", "label": "y"}\n'),
    ),
    Case("dev label unknown", classify("data.dev={tmp}/d.tsv"), file("d.tsv", "text\tlabel\na film\tgod\n")),
    Case("decoder for classify", classify("model={preset: gpt2}")),
    Case("convolution for translate", train("model={convolution: {}}")),
    Case("convolution without windows", classify("model={convolution: {stack: {widths: []}}}")),
    Case("beta out of range", classify("task={classify: {output: {choice: {effective: 1}}}}")),
    Case("power with several labels", classify("task={classify: {output: several, power: 0.5}}")),
    Case("longest too short", classify("task.classify.longest=2")),
    Case("classify an empty text", ["predict", "{labels}", ""]),
    Case("evaluate with an unknown label", ["evaluate", "{labels}", "--data", "{tmp}/d.tsv"], file("d.tsv", "a\tz\n")),
]


def scope(*options: str, run: str = "{labels}") -> list[str]:
    return ["scope", run, *options]


def _half_a_scope(tmp: Path, run: Path) -> None:
    shutil.copytree(run.parent / "label_run", tmp / "copy", ignore=shutil.ignore_patterns("checkpoints"))
    written = {"format_version": 1, "score": "energy", "costs": {}, "threshold": 0, "margin": 0}
    (tmp / "copy" / "scope.json").write_text(json.dumps({**written, "names": [], "measured": {}}))


def _no_scope(tmp: Path, run: Path) -> None:
    _half_a_scope(tmp, run)
    (tmp / "copy" / "scope.json").write_text("{}")


SCOPE = [
    Case("scope of no run", scope("--refused", "0.1", run="{tmp}/none")),
    Case("scope of an empty folder", scope("--refused", "0.1", run="{tmp}")),
    Case("scope of another task", scope("--refused", "0.1", run="{run}")),
    Case("scope without texts outside", scope()),
    Case("scope with both", scope("--refused", "0.1", "--outside", "{tmp}/o.txt"), file("o.txt", "a dog\n")),
    Case("scope refusing too much", scope("--refused", "2")),
    Case("unknown score", scope("--refused", "0.1", "--score", "mahalanobi")),
    Case("share of none outside", scope("--refused", "0.1", "--share", "0")),
    Case("texts outside missing", scope("--outside", "{tmp}/o.txt")),
    Case("texts outside empty", scope("--outside", "{tmp}/o.txt"), file("o.txt", "")),
    Case("texts outside without texts", scope("--outside", "{tmp}/o.jsonl"), file("o.jsonl", '{"words": "a dog"}\n')),
    Case("scope without its tensors", ["predict", "{tmp}/copy", "a film"], _half_a_scope),
    Case("scope damaged", ["predict", "{tmp}/copy", "a film"], _no_scope),
]


def audit(rows: str, *options: str, name: str = "d.tsv") -> dict[str, Any]:
    return {"arguments": ["data", "audit", f"{{tmp}}/{name}", *options], "prepare": file(name, rows)}


FILMS = "text\tlabel\n" + "".join(f"the film {i}\t{'xy'[i % 2]}\n" for i in range(4))
AUDIT = [
    Case("audit of no file", ["data", "audit", "{tmp}/none.tsv"]),
    Case("audit of an empty file", **audit("")),
    Case("audit of a header", **audit("text\tlabel\n")),
    Case("audit of plain text", **audit("a film\n", name="d.txt")),
    Case("audit without labels", **audit("text\tkind\na film\tx\n")),
    Case("audit of an empty label", **audit("text\tlabel\na film\t \n")),
    Case("audit of several labels", **audit('{"text": "a film", "label": ["x", "y"]}\n', name="d.jsonl")),
    Case("audit of one label", **audit("text\tlabel\na film\tx\nfilm\tx\n")),
    Case("audit of a lone text", **audit(FILMS.replace("y", "x", 1) + "the end\tz\n", "--folds", "2")),
    Case("audit in one fold", **audit(FILMS, "--folds", "1")),
    Case("audit in too many folds", **audit(FILMS)),
    Case("audit by an unknown method", **audit(FILMS, "--method", "by-rat")),
    Case("audit with an unknown judge", **audit(FILMS, "--with", "tfdif")),
    Case("audit with another task", **audit(FILMS, "--with", "{toy}/toy.yaml")),
    Case("audit into plain text", **audit(FILMS, "--folds", "2", "--output", "{tmp}/out.txt")),
]

CHAT = [
    Case("chat with no run", ["chat", "{tmp}/none"]),
    Case("chat with an empty folder", ["chat", "{tmp}"]),
    Case("chat with another task", ["chat", "{labels}"]),
    Case("chat with unknown device", ["chat", "{labels}", "--device", "tpu"]),
]

CASES = RECIPES + DATA + RUNS + ANSWERS + CLASSIFY + SCOPE + AUDIT + CHAT
