"""The controls: models that are no Transformer, behind the same calls. Import what you need from its module.

gibbs.py        topics by collapsed Gibbs sampling
naive_bayes.py  a class, then independent words; closed form
recurrent.py    LSTM, GRU and plain recurrent networks
convolution.py  windows of words, as an encoder (Kim 2014)
tfidf.py        weighted counts with logistic regression
cooccurrence.py word vectors from counts
"""
