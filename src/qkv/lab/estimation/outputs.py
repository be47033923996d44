"""What inference maximises or samples: the output, while the weights stay (A82)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.decoding import Chooser, Greedy, Sample, generate
from qkv.lab import figures, small
from qkv.lab.checks import below, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import DecoderOnly
from qkv.nn import Tokens


@dataclass(frozen=True)
class Outputs:
    """n_symbols: the vocabulary. rows: how many times the same prompt is continued. sharpness: factor on the head of
    untrained weights, which hardly prefer anything."""

    n_symbols: Annotated[int, within(3, 50)] = 8
    rows: Annotated[int, within(100, 10000)] = 1500
    sharpness: Annotated[float, within(0.5, 10)] = 2.0


def model_of(params: Outputs) -> DecoderOnly:
    """Untrained, with a sharper head."""
    model = small.decoder(params.n_symbols, d_model=16, n_layers=1)
    with torch.no_grad():
        model.head.weight.mul_(params.sharpness)
    return model.eval()


def frequencies(model: DecoderOnly, params: Outputs, chooser: Chooser) -> Tensor:
    """Shares of the first token over all rows, which have the same prompt, [V]. No token ends the text."""
    ids = torch.zeros(params.rows, 1, dtype=torch.long)
    found = generate(model, ids, Tokens.arange(*ids.shape), chooser=chooser, max_new=1, eos=-1)
    said = torch.tensor([int(row[0].ids[0]) for row in found])
    return torch.bincount(said, minlength=params.n_symbols).double() / params.rows


@experiment()
def decoding_and_weights(lab: Lab, params: Outputs) -> None:
    """Decoding estimates nothing: the weights stay as they are, and samples follow the softmax."""
    torch.manual_seed(lab.seed)
    model = model_of(params)
    prompt = small.labelled(torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long))
    p = small.logits(model, prompt)[0, 0].double().softmax(-1)
    lab.number("likeliest", p.max(), "share")

    def changed(act: str) -> int:
        subject = model_of(params)
        before = {name: value.clone() for name, value in subject.state_dict().items()}
        if act == "decode":
            frequencies(subject, params, Greedy())
        else:
            lab.train(subject, lambda _: prompt, 1)
        return sum(int((value != before[name]).sum()) for name, value in subject.state_dict().items())

    lab.claim(
        "untouched",
        Text("Decoding changes not one bit of the weights.", "解码不改变权重的任何一位。"),
        measure=changed,
        arm="decode",
        control="train",
        without=Text("one training update on one token", "在一个词元上训练一步"),
        holds=exactly(0),
        unit="weights",
    )
    lab.claim(
        "samples",
        Text(
            "First tokens drawn by sampling follow the model's softmax (total variation).",
            "采样得到的第一个词服从模型的 softmax 分布（总变差）。",
        ),
        measure=lambda chooser: (frequencies(model, params, chooser) - p).abs().sum() / 2,
        arm=Sample(seed=lab.seed),
        control=Greedy(),
        without=Text("greedy decoding, which always says the likeliest", "贪心解码：永远说概率最大的词"),
        holds=below(0.05),
    )
    names = {"softmax": p, "sampled": frequencies(model, params, Sample(seed=lab.seed))}
    names["greedy"] = frequencies(model, params, Greedy())
    order = p.argsort(descending=True)
    lab.figure(
        "shares",
        figures.lines(
            Text(
                "First token of {rows} continuations".replace("{rows}", str(params.rows)),
                "同一提示续写，第一个词的频率",
            ),
            Text("rank of the token by its probability", "词的概率名次"),
            Text("share", "比例"),
            {name: list(enumerate(share[order].tolist(), 1)) for name, share in names.items()},
            {
                "softmax": Text("softmax", "softmax"),
                "sampled": Text("sampled", "采样"),
                "greedy": Text("greedy", "贪心"),
            },
        ),
    )
