"""The lab's pages: served live, or written as a static site.

content.py   what the pages show: questions, answers, evidence
prose.py     Markdown with mathematics and placeholders as HTML
drawing.py   Vega-Lite figures: their theme, their SVG, the script that draws them
words.py     what the pages themselves say, in both languages
render.py    pages from templates/ and static/
forms.py     parameters of an experiment as form controls, and back
runs.py      experiments that are run again: queued, bounded, cancellable; worker.py is the process that runs one
inside.py    a trained run: attention, the search step by step, predictions without a head or a layer
app.py       the web application; guard.py refuses requests from elsewhere
build.py     the static site

Needs the extra `serve`.
"""
