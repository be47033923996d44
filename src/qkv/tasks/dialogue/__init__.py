"""A conversation: what is known, what to say next, and a record that survives whatever happens to the process.

state.py     slots with value, source turn and confidence, in a stack of topics; explicit and editable
domain.py    topics, their slots and questions, and what can be found: from a file or from a run's labels
matching.py  a tracker without a model: values by their words
policy.py    what to say next, by rules
store.py     sessions in SQLite, one transaction a turn
session.py   one conversation: a tracker, a domain and a store

Nothing here needs torch; the tracker that does is `qkv.tasks.dialogue_state`.
"""
