"""Training: the one loop, and what it is made of. Import what you need from its module.

config.py       TrainingConfig: every setting of a run, a docstring per field
losses.py       the Loss protocol; label-smoothed cross-entropy of the next token
objectives.py   the sum of a reader's outputs' own losses; weighting.py: other sums, and gradients that disagree
pretraining.py  hidden tokens, pairs of segments, replaced tokens
anchors.py      losses that hold weights near where they were
fused.py        output projection and cross-entropy in one, without ever holding all logits
schedules.py    the learning rate's multiplier: constant | noam | inverse_sqrt | linear | cosine
optim.py        the optimizers: adam_w | sgd | muon
muon.py         orthogonal updates of hidden matrices
fit.py          fit(): the one loop, with token-exact accumulation
session.py      what the loop keeps between steps: evaluate, save, restore, choose the final weights
meter.py        running sums of the log, and the check that they are finite
averaging.py    exponential moving average, average of checkpoints
weights.py      a model's weights as one safetensors file, shared tensors once
checkpoint.py   folders that are written whole or not at all, and verified before they are read
rng.py          every random generator's state as tensors
run.py          the run folder: new, resume or finished; signals
journal.py      metrics.jsonl, TensorBoard, the progress bar
distributed.py  several processes as one, with torchrun; companions.py: without it, started by `qkv train`
"""
