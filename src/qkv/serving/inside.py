"""A trained run looked into: attention by layer and head, the search step by step, predictions without a part."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from qkv.decoding import Beam, Forbidden, Hypothesis, generate
from qkv.errors import UserError
from qkv.models import EncoderDecoder, EncoderOnly, Memory, Reader
from qkv.nn import Tokens
from qkv.probe.ablation import stacks, without_head, without_layer
from qkv.probe.attention import Picture, pictures
from qkv.probe.search import Recorded, path
from qkv.tasks.folder import CONFIG, WEIGHTS, Run, open_run, read_recipe

LONGEST, MOST_NEW, WIDEST, SHOWN = 64, 40, 8, 8
"""Tokens of a text that is looked into; tokens of an answer; the widest beam; next tokens that are named."""
EXAMPLES = {
    "cmudict": "nightingale",
    "multi30k": "A dog runs through the snow.",
    "shakespeare": "ROMEO: But soft, what",
}


def finished(root: Path) -> list[Path]:
    """The finished run folders in `root`."""
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return [folder for folder in folders if (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()]


def checked(folders: Sequence[Path]) -> list[Path]:
    """The folders, if each is a finished run. Raises UserError for the first that is none."""
    for folder in folders:
        read_recipe(folder)
        if not (folder / WEIGHTS).is_file():
            raise UserError(f"{folder} has no {WEIGHTS} yet: its training is not finished; resume it with qkv train")
    return list(folders)


@dataclass(frozen=True)
class Look:
    """One text and what the model made of it. source: ids that the encoder read. prompt: what the decoder began with,
    and written: what it added, of the best hypothesis. ended: whether it ended by itself."""

    source: list[int]
    prompt: list[int]
    written: list[int]
    ended: bool
    hypotheses: list[Hypothesis]
    search: Recorded | None

    @property
    def steps(self) -> int:
        """How many tokens were written, the end counted."""
        return len(self.written) + self.ended


class Opened:
    """A run in memory; one look at a time, because hooks are set on its model."""

    def __init__(self, folder: Path):
        self.run: Run = open_run(folder)
        self.lock = Lock()
        self.model, self.tokenizers = self.run.system.model, self.run.system.tokenizers
        self.begun = lru_cache(maxsize=4)(self._begin)

    @torch.inference_mode()
    def _begin(self, text: str, width: int) -> Look:
        """Read a text and search for its answer."""
        tokenizers, model = self.tokenizers, self.model
        reader = tokenizers.source or tokenizers.target
        ids = reader.encode(text)
        bound = LONGEST if model.max_length is None else min(LONGEST, model.max_length - 2)
        if len(ids) > bound:
            raise UserError(f"the text has {len(ids)} tokens, and {bound} can be looked into at once; shorten it")
        if not ids:
            raise UserError("the text is empty for this model's tokenizer; give at least one character that it knows")
        if isinstance(model, EncoderOnly | Reader):
            return Look([], ids, [], False, [], None)
        search, limit = Recorded(Beam(width, n_best=width)), MOST_NEW
        memory, source = None, []
        if isinstance(model, EncoderDecoder):
            source, ids = [*ids, tokenizers.source_eos], [tokenizers.bos]
            memory = model.encode(*_row(source))
        elif getattr(self.run.recipe.task, "packing", None) is not None:
            ids = [tokenizers.bos, *ids]
        if model.max_length is not None:
            limit = min(limit, model.max_length - len(ids))
        [found] = generate(
            model,
            *_row(ids),
            memory=memory,
            chooser=search,  # type: ignore[arg-type]
            max_new=limit,
            eos=tokenizers.eos,
            constraints=(Forbidden(tokenizers.unwritten),),
        )
        best = found[0]
        return Look(source, ids, best.ids, best.finished, found, search)

    def pictures(self, look: Look) -> list[Picture]:
        """Attention at every site, while the text and its answer are read once."""
        target, source = self.tokenizers.target, self.tokenizers.source
        ids = [*look.prompt, *look.written]
        if source is None or not look.source:
            return pictures(self.model, ids, target.tokens(ids))
        ids += [self.tokenizers.eos] if look.ended else []
        return pictures(self.model, ids, target.tokens(ids), look.source, source.tokens(look.source))

    @torch.inference_mode()
    def next_token(self, look: Look, step: int) -> Tensor:
        """The log-probabilities [V] of the token of that step, counted from 0."""
        memory: Memory | None = None
        if isinstance(self.model, EncoderDecoder):
            memory = self.model.encode(*_row(look.source))
        assert not isinstance(self.model, EncoderOnly | Reader)
        hidden = self.model.decode(*_row([*look.prompt, *look.written[:step]]), memory)
        return self.model.head(hidden[0, -1]).log_softmax(-1)

    def parts(self) -> Iterator[tuple[str, int, int | None, AbstractContextManager[None]]]:
        """Everything that can be taken out: (site, layer, head or None for the whole layer, its removal)."""
        for side, stack in stacks(self.model).items():
            heads = stack.config.block.attention.heads.n
            for layer in range(stack.config.n_layers):
                yield side, layer, None, without_layer(self.model, side, layer)
                for where in (side, "cross") if stack.cross else (side,):
                    for head in range(heads):
                        yield where, layer, head, without_head(self.model, where, layer, head)


class Inside:
    """The runs that may be looked into, by name; each is opened when it is first asked for."""

    def __init__(self, folders: Sequence[Path]):
        self.folders = _named(folders)
        self._opened = lru_cache(maxsize=4)(lambda name: Opened(self.folders[name]))
        self._opening = Lock()

    def listed(self) -> list[dict[str, str]]:
        """name and an example to begin with, of every run."""
        return [{"name": name, "example": _example(folder)} for name, folder in self.folders.items()]

    def look(self, name: str, text: str, width: int) -> dict[str, Any]:
        """Attention and search. Raises UserError for an unknown run and a text that cannot be read."""
        opened = self._open(name, width)
        with opened.lock:
            look = opened.begun(text, width)
            sites = [_site(picture) for picture in opened.pictures(look)]
        target, eos = opened.tokenizers.target, opened.tokenizers.eos
        label = _labels(target.tokens, eos)
        found: dict[str, Any] = {"sites": sites, "text": text, "hypotheses": [], "search": None}
        if look.search is not None:
            steps = look.search.steps
            found["hypotheses"] = [
                {"text": target.decode(h.ids), "score": h.score, "logp": h.logp, "finished": h.finished}
                for h in look.hypotheses
            ]
            found["search"] = {
                "steps": [
                    {
                        "nodes": [{**vars(node), "token": label(node.token)} for node in step.nodes],
                        "candidates": {
                            str(place): [[label(token), logp] for token, logp in candidates]
                            for place, candidates in step.candidates.items()
                        },
                    }
                    for step in steps
                ],
                "best": path(steps, look.written, look.ended, eos),
            }
        return found

    def without(self, name: str, text: str, width: int, step: int) -> dict[str, Any]:
        """The next token's distribution at a step (from 0), and how it moves without each part: KL(intact ‖ cut)."""
        opened = self._open(name, width)
        label = _labels(opened.tokenizers.target.tokens, opened.tokenizers.eos)
        with opened.lock:
            look = opened.begun(text, width)
            if not 0 <= step < look.steps:
                raise UserError(f"step {step + 1} is not there: the answer has {look.steps}")
            intact = opened.next_token(look, step)
            parts = []
            for site, layer, head, removal in opened.parts():
                with removal:
                    cut = opened.next_token(look, step)
                named = dict.fromkeys([*intact.topk(_few(intact)).indices.tolist(), *cut.topk(3).indices.tolist()])
                rows = [[label(i), float(intact[i].exp()), float(cut[i].exp())] for i in named]
                divergence = float((intact.exp() * (intact - cut)).nan_to_num(0.0).sum().clamp_min(0.0))
                parts.append({"site": site, "layer": layer, "head": head, "kl": divergence, "rows": rows})
        return {"step": step, "parts": parts}

    def _open(self, name: str, width: int) -> Opened:
        if name not in self.folders:
            raise UserError(f"there is no run {name!r}; choose one of {', '.join(self.folders)}")
        if not 1 <= width <= WIDEST:
            raise UserError(f"a beam of {width} cannot be shown; choose 1 to {WIDEST}")
        with self._opening:
            return self._opened(name)


def _row(ids: list[int]) -> tuple[Tensor, Tokens]:
    """A batch of one."""
    return torch.tensor([ids]), Tokens.arange(1, len(ids))


def _few(scores: Tensor) -> int:
    return min(SHOWN, len(scores))


def _labels(tokens: Callable[[list[int]], list[str]], eos: int) -> Callable[[int], str]:
    """What a token is called on the page."""
    return lambda i: "<eos>" if i == eos else tokens([i])[0]


def _site(picture: Picture) -> dict[str, Any]:
    """Weights [L,H,T,S] as one byte each, 255 for 1: a page shows hundredths, and a text of 64 tokens stays small."""
    layers, heads = picture.weights.shape[:2]
    data = (picture.weights * 255).round().to(torch.uint8).contiguous().numpy().tobytes()
    return {
        "where": picture.where,
        "rows": picture.rows,
        "columns": picture.columns,
        "layers": layers,
        "heads": heads,
        "weights": base64.b64encode(data).decode(),
    }


def _named(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders by the tails of their paths, as long as it takes to tell them apart."""
    paths = list(dict.fromkeys(folder.resolve() for folder in folders))
    for length in range(1, max((len(p.parts) for p in paths), default=0) + 1):
        found = {"/".join(p.parts[-length:]): p for p in paths}
        if len(found) == len(paths):
            return found
    return {}


def _example(folder: Path) -> str:
    """A text to begin with, where it is known what the run was trained on."""
    config = (folder / CONFIG).read_text(encoding="utf-8")
    return next((text for name, text in EXAMPLES.items() if name in config), "")
