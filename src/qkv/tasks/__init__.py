"""Tasks: how rows become examples, what a trained model answers, and how it is measured.

task.py            the protocol, `System` (model + tokenizers) and `Prediction`
translate.py       one text to another: translation, pronunciation
tag.py             a label for every word; intent_slots.py: together with an intent
words.py           what these two share; schemes.py: entities as tags; tag_metrics.py: strict scores
language_model.py  the next token, over windows of a stream or packed documents
dialogue_state.py  what a user wants so far, an output a slot; dialogue/ is the conversation around it
toxicity.py        learned lexicons, identity bias, spans; rewriting.py judges rewrites and avoids words
metrics.py         BLEU, chrF, word and phoneme error, exact match, perplexity, bits
tokenizers.py      which tokenizers a task uses
model.py           the `model:` part of a recipe
recipe.py          the recipe: everything that decides what a run does
folder.py          the run folder, written and opened
train.py           a recipe becomes a run
"""
