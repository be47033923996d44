from __future__ import annotations

import errno
import json
import os
import shutil

import pytest
import torch

from qkv.errors import UserError
from qkv.training import checkpoint, session
from qkv.training.fit import fit
from qkv.training.losses import TokenCrossEntropy
from qkv.training.weights import assign, load_weights, save_weights, swapped, weights

from . import kit


def put(root, step):
    tensors = {"model": {"w": torch.full((3,), float(step))}, "optimizer": {"step/w": torch.tensor(float(step))}}
    return checkpoint.write(root, step, tensors, {"step": step})


def test_what_was_written_is_read(tmp_path):
    tensors, state = checkpoint.read(put(tmp_path, 7))
    assert state == {"step": 7} and torch.equal(tensors["model"]["w"], torch.full((3,), 7.0))
    assert tensors["optimizer"]["step/w"].shape == ()


def test_no_file_needs_pickle(tmp_path):
    settings = kit.config(max_steps=2, ema_decay=0.9, tensorboard=True)
    fit(kit.model(), TokenCrossEntropy(), kit.Ragged(), settings, tmp_path)
    kinds = {p.suffix for p in tmp_path.rglob("*") if p.is_file() and "tfevents" not in p.name}
    assert kinds == {".safetensors", ".json", ".jsonl", ".yaml"}
    assert list((tmp_path / "tensorboard").glob("*tfevents*"))


DAMAGE = {
    "a flipped bit": lambda f: (f / "model.safetensors").write_bytes(b"x" + (f / "model.safetensors").read_bytes()[1:]),
    "a truncated file": lambda f: os.truncate(f / "optimizer.safetensors", 5),
    "a missing file": lambda f: (f / "model.safetensors").unlink(),
    "a missing manifest": lambda f: (f / "manifest.json").unlink(),
    "a manifest that is not JSON": lambda f: (f / "manifest.json").write_text("{"),
    "an empty manifest": lambda f: (f / "manifest.json").write_text("{}"),
    "another state": lambda f: (f / "state.json").write_text("{}"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_last_valid_one_wins(tmp_path, damage):
    for step in (2, 10, 9):
        put(tmp_path, step)
    assert checkpoint.latest_valid(tmp_path).name == "step-10"
    DAMAGE[damage](tmp_path / "step-10")
    with pytest.warns(UserWarning, match="step-10"):
        assert checkpoint.latest_valid(tmp_path).name == "step-9"


def test_no_checkpoint_at_all(tmp_path):
    assert checkpoint.latest_valid(tmp_path / "absent") is None


def test_pruning_keeps_the_last_and_the_spared(tmp_path):
    for step in (1, 2, 3, 4, 5):
        put(tmp_path, step)
    checkpoint.prune(tmp_path, 2, {2, None, 5})
    assert [checkpoint.step_of(f) for f in checkpoint.steps(tmp_path)] == [2, 4, 5]


@pytest.mark.parametrize("ema", [None, 0.9])
def test_what_was_just_written_is_not_read_again(tmp_path, monkeypatch, ema):
    read = []
    monkeypatch.setattr(session, "load_weights", lambda path: read.append(path.parent.name) or load_weights(path))
    settings = kit.config(max_steps=4, eval_every=2, checkpoint_every=1, ema_decay=ema)
    fit(kit.model(), TokenCrossEntropy(), kit.Ragged(), settings, tmp_path, evaluate=lambda m, step: {"loss": step})
    assert set(read) == {"step-2"}  # the best, once, at the end
    stored = tmp_path / "checkpoints/step-2"
    best = load_weights(stored / "model.safetensors") | (load_weights(stored / "ema.safetensors") if ema else {})
    kept = load_weights(tmp_path / "model.safetensors")
    assert kept.keys() == best.keys() and all(torch.equal(kept[name], best[name]) for name in best)


def test_a_full_disk_is_a_sentence_and_the_run_resumes(tmp_path, monkeypatch):
    whole = fit(kit.model(), TokenCrossEntropy(), kit.Ragged(), kit.config(checkpoint_every=2), tmp_path / "whole")
    flush, calls = checkpoint._flush, []

    def full(path):
        calls.append(path)
        if len(calls) == 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        flush(path)

    monkeypatch.setattr(checkpoint, "_flush", full)
    with pytest.raises(UserError, match=r"disk is full.*same command"):
        fit(kit.model(), TokenCrossEntropy(), kit.Ragged(), kit.config(checkpoint_every=2), tmp_path / "out")
    monkeypatch.setattr(checkpoint, "_flush", flush)
    assert checkpoint.latest_valid(tmp_path / "out/checkpoints").name == "step-2"
    again = fit(kit.model(), TokenCrossEntropy(), kit.Ragged(), kit.config(checkpoint_every=2), tmp_path / "out")
    assert (again.step, again.weights) == (whole.step, whole.weights)
    assert (tmp_path / "out/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    assert not list((tmp_path / "out/checkpoints").glob(".writing*"))


def test_only_a_full_disk_is_called_one(tmp_path):
    with pytest.raises(PermissionError), checkpoint.disk_errors(tmp_path):
        raise PermissionError(errno.EACCES, "no")


def test_weights_are_written_in_place(tmp_path):
    """safetensors' save_file would put a new file where the link is, whatever it points to."""
    (tmp_path / "link").symlink_to(tmp_path / "there")
    save_weights({"w": torch.ones(2)}, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and torch.equal(load_weights(tmp_path / "there")["w"], torch.ones(2))


def test_shared_weights_are_stored_once_and_come_back(tmp_path):
    model, other = kit.model(), kit.model()
    names = set(weights(model))
    assert len(names) < len(model.state_dict())
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1)
    save_weights(weights(model), tmp_path / "w.safetensors")
    assign(other, load_weights(tmp_path / "w.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert other.head.weight is other.decoder.embedding.token.weight


def test_weights_of_another_model_are_refused(tmp_path):
    tensors = {n: t.clone() for n, t in weights(kit.model()).items()}
    first, second, *_ = tensors
    del tensors[first]
    tensors[second] = torch.zeros(1)
    tensors["stray"] = torch.zeros(1)
    with pytest.raises(UserError) as error:
        assign(kit.model(), tensors)
    assert f"{first} is missing" in str(error.value) and "stray is left over" in str(error.value)
    assert f"{second} is [1]" in str(error.value)
    with pytest.raises(UserError, match="no weights here"):
        load_weights(tmp_path / "absent.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"12")
    with pytest.raises(UserError, match="cannot be read"):
        load_weights(tmp_path / "bad.safetensors")


def test_swapping_weights_is_undone_even_by_an_error():
    model = kit.model()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    with pytest.raises(ZeroDivisionError), swapped(model, {n: torch.zeros_like(p) for n, p in before.items()}):
        assert not any(p.any() for p in model.parameters())
        raise ZeroDivisionError
    assert all(torch.equal(before[n], p) for n, p in model.named_parameters())


def test_manifest_covers_every_file(tmp_path):
    folder = put(tmp_path, 1)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest) == {p.name for p in folder.iterdir()} - {"manifest.json"}
    shutil.rmtree(folder)
