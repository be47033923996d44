"""Adapters: training begins at the old function, moves nothing old, and leaves a run that opens as any other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from qkv.compress.lora import LowRank
from qkv.data.labelled import Labelled
from qkv.errors import UserError
from qkv.interop.huggingface import to_state_dict
from qkv.models import EncoderOnlyConfig, build
from qkv.nn import Bottleneck
from qkv.tasks import adapters
from qkv.tasks import recipe as recipes
from qkv.tasks.calibration import calibrate
from qkv.tasks.classify import LABEL
from qkv.tasks.folder import Run, open_run
from qkv.tasks.incremental import Incremental
from qkv.tasks.model import fresh, resolve
from qkv.tasks.train import built, train
from qkv.training.optim import Muon
from qkv.training.weights import assign

STACK = {"d_model": 16, "n_layers": 2, "position": "rotary", "block": {"feedforward": {"feed_forward": {"d_ff": 24}}}}
MODEL = {"encoder_only": {"stack": STACK}}
LOW_RANK, BOTTLENECK = {"low_rank": {"rank": 2, "alpha": 4.0}}, {"bottleneck": 3}
BOTH = pytest.mark.parametrize("adapter", [LOW_RANK, BOTTLENECK], ids=["low_rank", "bottleneck"])
OLD = [f"the {word} film {i}\t{label}" for i in range(6) for word, label in (("good", "yes"), ("bad", "no"))]
NEW = [f"the {word} song {i}\t{label}" for i in range(6) for word, label in (("loud", "high"), ("bad", "low"))]
TEXTS = [Labelled(line.split("\t")[0], (line.split("\t")[1],)) for line in (*OLD, *NEW)]


def recipe(folder: Path, lines: list[str], incremental: dict | None = None, model=MODEL, **training) -> recipes.Recipe:
    path = folder / f"{len(lines)}-{lines[0][:8].replace(' ', '_')}.tsv"
    path.write_text("text\tlabel\n" + "\n".join(lines) + "\n")
    settings = {"max_steps": 12, "learning_rate": 1e-2, "schedule": "constant", "threads": 1, "tensorboard": False}
    parts = {"task": "classify", "data": {"train": str(path), "dev": str(path)}, "tokenizers": {"target": "words"}}
    settings |= {"checkpoint_every": 4, "keep_checkpoints": 9, **training}
    return recipes.from_data({**parts, "model": model, "training": settings, "incremental": incremental})


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("first")
    train(recipe(folder, OLD), folder / "run", say=lambda _: None)
    return open_run(folder / "run")


@pytest.fixture(scope="module")
def second(first: Run, tmp_path_factory) -> dict[str, Path]:
    """A finished run by each adapter, on other labels."""
    found = {}
    for adapter in (LOW_RANK, BOTTLENECK):
        name = next(iter(adapter))
        folder = tmp_path_factory.mktemp(name)
        train(recipe(folder, NEW, {"adapter": adapter}), folder / "run", say=lambda _: None, start=first)
        found[name] = folder / "run"
    return found


def further(start: Run, folder: Path, incremental: dict | None, name: str = "run", **more) -> Run:
    made = recipe(folder, NEW, incremental, **more)
    train(made, folder / name, say=lambda _: None, start=start)
    return open_run(folder / name)


def scores(model: nn.Module, run: Run) -> dict[str, torch.Tensor]:
    """The logits of every text by label."""
    batch = run.recipe.task.batches(TEXTS[:12], run.system.tokenizers).load(list(range(12)))
    table = model.eval()(batch.ids, batch.tokens)[LABEL]
    names = run.system.tokenizers.labels[LABEL].names
    return {name: table[:, i].detach() for i, name in enumerate(names) if name in ("yes", "no")}


@BOTH
def test_training_begins_at_the_old_function(first: Run, second: dict[str, Path], adapter) -> None:
    run = open_run(second[next(iter(adapter))])
    model = built(run.recipe, run.system.tokenizers, first)
    assert any(isinstance(part, LowRank) for part in model.modules()) == ("low_rank" in adapter)
    old, new = scores(first.system.model, first), scores(model, run)
    for name in ("yes", "no"):
        torch.testing.assert_close(new[name], old[name], rtol=0, atol=1e-6)


@BOTH
def test_only_the_adapter_and_the_outputs_change(first: Run, second: dict[str, Path], adapter) -> None:
    old = first.system.model.state_dict()
    stored = load_file(second[next(iter(adapter))] / "model.safetensors")
    own = {name.replace(".linear.", ".") if name.startswith("encoder") else name: t for name, t in stored.items()}
    beside = [name for name in own if name not in old]
    endings = ("down", "up") if "low_rank" in adapter else ("down", "up", "down_bias", "up_bias")
    per_layer = 4 if "low_rank" in adapter else 2
    assert len(beside) == 2 * per_layer * len(endings) and all(name.endswith(endings) for name in beside)
    assert all(own[name].any() for name in beside)
    for name, tensor in old.items():
        if name.startswith("encoder"):
            assert torch.equal(own[name], tensor), name
    labels = open_run(second[next(iter(adapter))]).system.tokenizers.labels[LABEL]
    for name in ("yes", "no"):
        number = first.system.tokenizers.labels[LABEL].number(name)
        moved = own[f"outputs.{LABEL}.linear.bias"][labels.number(name)] - old[f"outputs.{LABEL}.linear.bias"][number]
        assert moved != 0


@BOTH
def test_an_opened_run_is_the_trained_model(first: Run, second: dict[str, Path], adapter) -> None:
    run = open_run(second[next(iter(adapter))])
    model = built(run.recipe, run.system.tokenizers, first)
    assign(model, load_file(run.folder / "model.safetensors"))
    for name, expected in scores(model, run).items():
        torch.testing.assert_close(scores(run.system.model, run)[name], expected, rtol=0, atol=1e-5)
        assert float((expected - scores(first.system.model, first)[name]).abs().max()) > 1e-2
    plain = fresh(run.recipe.model_config, run.system.tokenizers, run.recipe.task)
    assert run.system.model.state_dict().keys() == plain.state_dict().keys()
    assert all(p.requires_grad for p in run.system.model.parameters())
    assert isinstance(run.recipe.model_config, EncoderOnlyConfig)
    assert run.recipe.model_config.stack.block.bottleneck == (Bottleneck(3) if "bottleneck" in adapter else None)


@BOTH
def test_a_calibrated_run_opens_again(second: dict[str, Path], tmp_path: Path, adapter) -> None:
    whole, out = second[next(iter(adapter))], tmp_path / "run"
    shutil.copytree(whole, out)
    fitted, name = calibrate(open_run(out)), f"outputs.{LABEL}.temperature"
    assert fitted != 1 and float(open_run(out).system.model.state_dict()[name]) == pytest.approx(fitted)
    before, after = (load_file(folder / "model.safetensors") for folder in (whole, out))
    assert before.keys() == after.keys()
    assert {n for n in before if not torch.equal(before[n], after[n])} == {name}


@BOTH
@pytest.mark.parametrize("left", [4, 12], ids=["in the middle", "before it was finished"])
def test_an_interrupted_run_ends_the_same(first: Run, second: dict[str, Path], tmp_path: Path, adapter, left) -> None:
    whole, out = second[next(iter(adapter))], tmp_path / "run"
    shutil.copytree(whole, out)
    for name in ("run.json", "card.md", *(["model.safetensors"] if left < 12 else [])):
        (out / name).unlink()
    for step in (8, 12):
        if step > left:
            shutil.rmtree(out / "checkpoints" / f"step-{step}")
    made = recipe(whole.parent, NEW, {"adapter": adapter})
    assert train(made, out, say=lambda _: None, start=first).step == 12
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    (out / "card.md").unlink()  # killed after the last weights, before the card
    train(made, out, say=lambda _: None, start=first)
    parameters = [
        next(line for line in (f / "card.md").read_text().split("\n") if "Model" in line) for f in (whole, out)
    ]
    assert parameters[0] == parameters[1]


@BOTH
def test_rows_of_new_tokens_learn_and_those_of_old_ones_stay(first: Run, tmp_path: Path, adapter) -> None:
    how = {"adapter": adapter, "vocabulary": "learned", "replay": 0.2}
    run = further(first, tmp_path, how)
    begun = built(run.recipe, run.system.tokenizers, first)
    before, after = (m.encoder.embedding.token.weight.detach() for m in (begun, run.system.model))
    old, new = (r.system.tokenizers.target.backend.get_vocab() for r in (first, run))
    assert "song" not in old
    for token, number in new.items():
        assert torch.equal(before[number], after[number]) == (token not in ("song", "loud")), token
    decaying = {"optimizer": {"adam_w": {"weight_decay": 0.1}}}
    with pytest.raises(UserError, match="weight_decay to 0"):
        further(first, tmp_path, how, "decays", **decaying)
    further(first, tmp_path, {"adapter": adapter}, "kept", **decaying)


def test_it_goes_on_from_runs_with_adapters(second: dict[str, Path], tmp_path: Path) -> None:
    narrow, low = open_run(second["bottleneck"]), open_run(second["low_rank"])
    name = "encoder.blocks.0.attention_residual.bottleneck.up"

    def at(run: Run) -> torch.Tensor:
        return run.system.model.state_dict()[name]

    ways = {"all": {}, "same": {"adapter": BOTTLENECK}, "low rank": {"adapter": LOW_RANK}}
    runs = {way: further(narrow, tmp_path, how, way) for way, how in ways.items()}
    assert {way: torch.equal(at(run), at(narrow)) for way, run in runs.items()} == {
        "all": False, "same": False, "low rank": True
    }  # fmt: skip
    for way, run in runs.items():
        begun = scores(built(run.recipe, run.system.tokenizers, narrow), run)
        for label, expected in scores(narrow.system.model, narrow).items():
            torch.testing.assert_close(begun[label], expected, rtol=0, atol=1e-5, msg=way)
    plain = further(narrow, tmp_path, None, "plain")  # its outputs are fresh, its encoder is the old run's
    for path, weight in built(plain.recipe, plain.system.tokenizers, narrow).encoder.state_dict().items():
        assert torch.equal(weight, narrow.system.model.encoder.state_dict()[path]), path
    with pytest.raises(UserError, match="set bottleneck: 3"):
        further(narrow, tmp_path, {"adapter": {"bottleneck": 4}}, "other")
    again = further(low, tmp_path, {"adapter": LOW_RANK}, "again")
    assert again.system.model.state_dict().keys() == low.system.model.state_dict().keys()
    begun = scores(built(again.recipe, again.system.tokenizers, low), again)
    torch.testing.assert_close(begun["yes"], scores(low.system.model, low)["yes"], rtol=0, atol=1e-5)


def test_every_shape_takes_both() -> None:
    model = {"encoder_decoder": {side: {"d_model": 8, "n_layers": 1} for side in ("encoder", "decoder")}}
    sizes = {"embedding": {"vocab_size": 11}}
    for side in model["encoder_decoder"].values():
        side |= sizes
    config = resolve(model)
    corrected = adapters.corrected(build(config), adapters.LowRank(2))
    found = {name for name, part in corrected.named_modules() if isinstance(part, LowRank)}
    layer = ("attention.query_key_value", "attention.out", "feedforward.up", "feedforward.down")
    cross = ("cross.query", "cross.key_value", "cross.out")
    expected = {f"encoder.blocks.0.{n}" for n in layer} | {f"decoder.blocks.0.{n}" for n in (*layer, *cross)}
    assert found == expected
    assert {part.scale for part in corrected.modules() if isinstance(part, LowRank)} == {16.0 / 2}
    Muon().build(corrected, 0.1)
    names = [
        n for n, _ in build(adapters.shaped(config, Bottleneck(2))).named_parameters() if n.endswith("bottleneck.up")
    ]
    assert len(names) == 2 + 3
    one = resolve({"decoder_only": {"stack": {"d_model": 8, "n_layers": 1, **sizes}}})
    assert adapters.shaped(one, Bottleneck(2)).stack.block.bottleneck == Bottleneck(2)  # type: ignore[union-attr]
    with pytest.raises(UserError, match="bottleneck"):
        to_state_dict(
            build(adapters.shaped(resolve({"preset": "gpt2", "n_layers": 1, "vocab_size": 11}), Bottleneck(2)))
        )


def test_what_reads_the_stack_gets_no_correction() -> None:
    both = nn.ModuleDict({side: nn.ModuleDict({"out": nn.Linear(4, 4)}) for side in ("encoder", "outputs")})
    names = {
        name
        for name, part in adapters.corrected(both, adapters.LowRank(2)).named_modules()
        if isinstance(part, LowRank)
    }
    assert names == {"encoder.out"}


def test_what_cannot_be_is_refused(first: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="set strength to 0"):
        Incremental(strength=1.0, adapter=Bottleneck())
    for adapter, message in (({"low_rank": {"rank": 0}}, "rank is 0"), ({"low_rank": {"alpha": 0}}, "alpha is 0"),
                             ({"bottleneck": 0}, "size is 0"), ("prefix", "valid: low_rank, bottleneck")):  # fmt: skip
        with pytest.raises(UserError, match=message):
            recipe(tmp_path, NEW, {"adapter": adapter})
    with pytest.raises(UserError, match=r"low_rank: rank is 17; a matrix of \[48, 16\] takes 1 to 16"):
        further(first, tmp_path, {"adapter": {"low_rank": {"rank": 17}}})
    with pytest.raises(UserError, match="--init RUN"):
        train(recipe(tmp_path, NEW, {"adapter": "low_rank"}), tmp_path / "none", say=lambda _: None)
    convolution = resolve({"convolution": {"stack": {"filters": 2}}})
    with pytest.raises(UserError, match="no Transformer"):
        adapters.shaped(convolution, Bottleneck())


def test_a_recipe_names_one_on_a_line_and_reads_back() -> None:
    made = recipes.load("trec", ["incremental.adapter.low_rank.rank=4"])
    assert made.adapter == adapters.LowRank(4)
    assert recipes.from_data(yaml.safe_load(yaml.safe_dump(made.plain()))).adapter == made.adapter
    assert recipes.load("trec", ["incremental.adapter=bottleneck"]).adapter == Bottleneck(16)
    assert recipes.load("trec").adapter is None


def test_a_folder_from_before_these_keys_is_still_its_own(first: Run, tmp_path: Path) -> None:
    shutil.copytree(first.folder, tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    del config["incremental"], config["model"]["encoder_only"]["stack"]["block"]["bottleneck"]
    path.write_text(yaml.safe_dump(config))
    said: list[str] = []
    train(recipe(first.folder.parent, OLD), tmp_path / "run", say=said.append)
    assert "is finished" in said[-1]
    with pytest.raises(UserError, match=r"started with another training\.max_steps"):
        train(recipe(first.folder.parent, OLD, max_steps=13), tmp_path / "run", say=said.append)
