"""The one exception that a user is meant to read."""

from __future__ import annotations


class UserError(Exception):
    """A mistake that the user can mend: one sentence that says what is wrong, where, and what to do.

    The command line prints the sentence without a traceback and exits with `exit_code`.
    Anything else that escapes is a bug of ours and keeps its traceback.

    >>> str(UserError("corpus.tsv line 3: expected 2 columns, got 1; separate them with a tab"))
    'corpus.tsv line 3: expected 2 columns, got 1; separate them with a tab'
    """

    exit_code = 2
