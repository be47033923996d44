"""Tasks: how rows become examples, what a trained model answers, and how it is measured.

The frame:
task.py            the protocol, `System` (model + tokenizers) and `Prediction`
recipe.py          everything that decides what a run does; model.py: its part `model:`
train.py           a recipe becomes a run; folder.py: the run folder, written and opened; card.py: card.md
tokenizers.py      which tokenizers a task uses; labels.py: the labels that it gives
metrics.py         BLEU, chrF, word and phoneme error, exact match, perplexity and bits, accuracy, F1, calibration

Writing:
translate.py       one text to another: translation, pronunciation; rewriting.py: in another style
language_model.py  the next token, over windows of a stream or packed documents
infilling.py       after a prefix that is read in both directions, or into a gap; gaps.py: the table of these

Pretraining encoders:
masked_language_model.py  hidden, replaced or permuted tokens, pairs of segments; objectives.py: the table of these;
                   pretraining_metrics.py

Reading:
reading.py         what the tasks share that read text and say something of it
classify.py        a label, or several, for a text or a pair; topics.py: with what the text is about as a whole;
                   fewshot.py: from few examples or none; calibration.py: probabilities that mean what they say
similarity.py      how alike two texts are, each read by itself; similarity_metrics.py
tag.py             a label for every word; intent_slots.py: together with an intent
words.py           what these two share; schemes.py: entities as tags; tag_metrics.py: strict scores;
                   exchange.py: more training texts from those there are
scope.py           whether a text is any of a classifier's business; scope_scores.py, scope_metrics.py
audit.py           which labels are probably wrong; judges.py: the classifiers that it asks
toxicity.py        learned lexicons, identity bias, spans

Talking:
dialogue_state.py  what a user wants so far, an output a slot; mentions.py: where values are said; dialogue_metrics.py;
                   dialogue/ is the conversation around it

Going on from a run:
incremental.py     new data: what is kept of the old labels, texts and weights; growth.py: rows by name;
                   adapters.py: what learns beside weights that stay
"""
