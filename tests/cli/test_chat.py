"""`qkv chat`: scripted conversations with a run that was trained in seconds (conversations.yaml)."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from qkv.cli.explain import _look
from qkv.data.labelled import Labelled
from qkv.tasks.dialogue.store import Store
from qkv.tasks.folder import open_run
from qkv.tasks.scope import Scope

from .conftest import Invoke

SCRIPTS: dict[str, list[dict[str, Any]]] = yaml.safe_load(
    (Path(__file__).parent / "conversations.yaml").read_text(encoding="utf-8")
)
QUICK = (
    "data.simulated.dialogues=300",
    "training.max_steps=450",
    "model.encoder_only.stack.d_model=48",
    "task.dialogue_state.batch.tokens=512",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, invoke: Invoke) -> Path:
    folder = tmp_path_factory.mktemp("chat") / "run"
    result = invoke("train", "chat", *QUICK, "training.tensorboard=false", "--out", folder)
    assert result.exit_code == 0, result.output
    return folder


def parts(script: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The steps of each process: a kill ends one."""
    found: list[list[dict[str, Any]]] = [[]]
    for step in script:
        found[-1].append(step)
        if step.get("kill"):
            found.append([])
    return [part for part in found if part]


def talk(run: Path, store: Path, typed: list[str], invoke: Invoke) -> list[str]:
    result = invoke("chat", run, "--store", store, input="\n".join(typed) + "\n/quit\n")
    assert result.exit_code == 0, result.output
    return result.stdout.split("\n")


@pytest.mark.parametrize("name", [name for name in SCRIPTS if "kill" not in name])
def test_conversations(name: str, run: Path, invoke: Invoke, tmp_path: Path) -> None:
    """Each step in a process of its own as far as the session can tell: it goes on from the store alone."""
    for step in SCRIPTS[name]:
        answer = " ".join(talk(run, tmp_path / "talk.db", [step["user"]], invoke)[1:])
        check(step, answer, tmp_path / "talk.db")


def check(step: dict[str, Any], answer: str, store: Path) -> None:
    records = Store(store).records("main")
    state = records[-1].state
    assert state.values == step["known"], step
    assert step.get("reply", "") in answer, (step, answer)
    if "stack" in step:
        assert [frame.topic for frame in state.stack] == step["stack"], step


def test_a_conversation_survives_kills(run: Path, tmp_path: Path) -> None:
    store = tmp_path / "talk.db"
    for part in parts(SCRIPTS["resumed after a kill"]):
        command = [sys.executable, "-m", "qkv", "chat", str(run), "--store", str(store)]
        chat = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert chat.stdin is not None and chat.stdout is not None
        chat.stdout.readline()  # what was said last
        for step in part:
            print(step["user"], file=chat.stdin, flush=True)
            check(step, chat.stdout.readline(), store)
        chat.kill()
        chat.wait()


def test_commands_show_and_mend(run: Path, invoke: Invoke, tmp_path: Path) -> None:
    typed = ["a table please on monday", "no , tuesday", " /state ", "/help", "/dance", "/set drink tea", "/history"]
    result = invoke("chat", run, "--store", tmp_path / "t.db", "--session", "anna", input="\n".join(typed) + "\n")
    assert result.exit_code == 0, result.output
    assert "day = tuesday  (turn 2, " in result.stdout and "before: monday)" in result.stdout
    assert "food ?" in result.stdout and "take back the last turn" in result.stdout
    assert "no command /dance; there are /state" in result.stderr and "no slot 'drink'" in result.stderr
    history = json.loads(result.stdout[result.stdout.index("[\n") :])
    assert [turn["user"] for turn in history] == typed[:2]
    assert history[1]["state"]["stack"][0]["slots"]["table/day"]["before"] == ["monday"]
    again = invoke("chat", run, "--store", tmp_path / "t.db", "--session", "anna", input="/state\n")
    assert "going on with anna, 2 turns" in again.stderr and "day = tuesday" in again.stdout


def test_a_domain_file_names_questions_and_answers(run: Path, invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "domain.yaml").write_text(
        "topics:\n"
        "  - name: table\n"
        "    slots: [table/day, table/people, table/food]\n"
        "    required: [table/day, table/people]\n"
        '    questions: {table/people: "For how many?"}\n'
        '    answer: "{name} expects {people} on {day}."\n'
        "    rows: [{table/day: tuesday, name: The Anchor, phone: 1234}]\n"
    )
    typed = ["a table please on tuesday", "for four people", "what is the phone ?"]
    options = ("--domain", tmp_path / "domain.yaml", "--store", tmp_path / "t.db")
    result = invoke("chat", run, *options, input="\n".join(typed) + "\n")
    assert result.exit_code == 0, result.output
    replies = result.stdout.splitlines()[1:]
    expected = [
        "For how many?",
        "The Anchor expects four on tuesday. Anything else?",
        "The phone is 1234. Anything else?",
    ]
    assert replies == expected


def test_the_picture_shows_what_is_read_of_a_dialogue(run: Path) -> None:
    [picture], answer = _look(open_run(run), "a table please on Monday\tWhich food?\tno, tuesday")
    assert picture.columns == [
        *["<bos>", "which", "food", "?", "<eos>", "no", ","],
        "table/day@1",
        "taxi/day@1",
        "<eos>",
    ]
    assert answer == "table/day = tuesday"


@pytest.mark.parametrize("threshold", [None, math.inf, -math.inf], ids=["label", "all outside", "all inside"])
def test_a_classifier_tells_what_is_out_of_scope(
    threshold: float | None, run: Path, invoke: Invoke, tmp_path: Path
) -> None:
    """By its label for such texts; or by the scope fitted beside it, here cut where it refuses all or nothing."""
    days = ("monday", "tuesday", "friday", "sunday")
    kinds = {"table": ("a table on {}", "no , {}"), "taxi": ("a taxi for {}",), "oos": ("how is the weather on {} ?",)}
    rows = [(text.format(day), kind) for kind, texts in kinds.items() for text in texts for day in days]
    lines = ["text\tlabel", *map("\t".join, rows)]
    (tmp_path / "rows.tsv").write_text("\n".join(lines) + "\n")
    recipe = {
        "task": "classify",
        "data": {"train": str(tmp_path / "rows.tsv"), "dev": str(tmp_path / "rows.tsv")},
        "tokenizers": {"target": "words"},
        "model": {"encoder_only": {"stack": {"d_model": 32, "n_layers": 1, "position": "rotary"}}},
        "training": {"max_steps": 80, "learning_rate": 1e-2, "schedule": "constant", "tensorboard": False},
    }
    (tmp_path / "judge.yaml").write_text(yaml.safe_dump(recipe))
    assert invoke("train", tmp_path / "judge.yaml", "--out", tmp_path / "judge").exit_code == 0
    if threshold is not None:
        found = open_run(tmp_path / "judge")
        task: Any = found.recipe.task
        known, strange = ([Labelled(t, (k,)) for t, k in rows if (k == "oos") == out] for out in (False, True))
        fitted = Scope.fit(found.system, task, known, known, strange)
        replace(fitted, threshold=threshold).save(tmp_path / "judge")
    options = ("--scope", tmp_path / "judge", "--store", tmp_path / "t.db")
    result = invoke("chat", run, *options, input="a table on monday\nhow is the weather on friday ?\n/state\n")
    assert result.exit_code == 0, result.output
    refused = result.stdout.count("I can help with table, taxi only.")
    assert refused == {None: 1, math.inf: 2, -math.inf: 0}[threshold]
    assert ("day = monday" in result.stdout) == (threshold != math.inf)


def test_what_cannot_be_talked_to(run: Path, invoke: Invoke, text_run: Path, label_run: Path, tmp_path: Path) -> None:
    result = invoke("chat", text_run)
    assert result.exit_code == 2 and "tracks no dialogue; train a run of the task dialogue_state" in result.stderr
    result = invoke("chat", run, "--scope", text_run, "--store", tmp_path / "t.db")
    assert result.exit_code == 2 and "does not classify texts; train a run of the task classify" in result.stderr
    result = invoke("chat", run, "--scope", label_run, "--store", tmp_path / "t.db")
    assert result.exit_code == 2 and "has neither a scope nor the label 'oos'; fit one (qkv scope" in result.stderr
    result = invoke("chat", run, "--domain", tmp_path / "none.yaml", "--store", tmp_path / "t.db")
    assert result.exit_code == 2 and "cannot read the domain" in result.stderr
    result = invoke("chat", run, "--store", tmp_path / "none" / "t.db", input="hello\n")
    assert result.exit_code == 2 and "unable to open database file" in result.stderr
