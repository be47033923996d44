"""The controls: models that are no Transformer, behind the same calls. Import what you need from its module.

recurrent.py   LSTM, GRU and plain recurrent networks
"""
