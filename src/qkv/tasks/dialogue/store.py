"""Conversations in one SQLite file: a turn is one transaction, on the disk before the reply is shown.

A process that is killed at any moment leaves all turns that were answered, and perhaps the one whose reply it was about
to show; never half a turn. State and acts are JSON in their columns, so any SQLite tool reads them:

    sqlite3 talk.db "SELECT number, user, reply, state FROM turns WHERE session = 'anna' AND NOT undone"
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qkv.errors import UserError

from .state import State

SCHEMA = """
CREATE TABLE IF NOT EXISTS turns (
    session TEXT NOT NULL,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    user TEXT NOT NULL,
    reply TEXT NOT NULL,
    acts TEXT NOT NULL,
    state TEXT NOT NULL,
    undone INTEGER NOT NULL DEFAULT 0,
    time TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
    PRIMARY KEY (session, number)
)
"""


@dataclass(frozen=True)
class Record:
    """A turn as it is kept. kind: what it came to (see `Reply`), or edit, or reset. state: after it."""

    number: int
    kind: str
    user: str
    reply: str
    acts: tuple[tuple[str, str], ...]
    state: State

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**asdict(self), "state": self.state.plain()}


class Store:
    """The sessions of a file; ":memory:" keeps none. Raises UserError for a file that is no such store, is locked, or
    cannot be written."""

    def __init__(self, path: str | Path = ":memory:"):
        self.path = path
        with self._told():
            self.connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
            self.connection.execute("PRAGMA synchronous = FULL")
            self.connection.execute(SCHEMA)

    def append(self, session: str, record: Record) -> None:
        """Keep a turn, in a transaction of its own. Raises UserError if another process has written that turn."""
        row = (session, record.number, record.kind, record.user, record.reply)
        acts, state = json.dumps(record.acts, ensure_ascii=False), json.dumps(record.state.plain(), ensure_ascii=False)
        with self._told(), self._transaction():
            self.connection.execute(
                "INSERT INTO turns (session, number, kind, user, reply, acts, state) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*row, acts, state),
            )

    def undo(self, session: str, number: int) -> None:
        """Mark a turn as undone; it stays in the file."""
        with self._told(), self._transaction():
            self.connection.execute("UPDATE turns SET undone = 1 WHERE session = ? AND number = ?", (session, number))

    def records(self, session: str) -> list[Record]:
        """The turns of a session that hold, in order."""
        with self._told():
            found = self.connection.execute(
                "SELECT number, kind, user, reply, acts, state FROM turns WHERE session = ? AND NOT undone "
                "ORDER BY number",
                (session,),
            )
            return [
                Record(number, kind, user, reply, tuple(map(_act, json.loads(acts))), State.of(json.loads(state)))
                for number, kind, user, reply, acts, state in found
            ]

    def last_number(self, session: str) -> int:
        """The number of the last turn, undone ones included; 0 before the first."""
        with self._told():
            [found] = self.connection.execute("SELECT max(number) FROM turns WHERE session = ?", (session,)).fetchone()
        return found or 0

    def sessions(self) -> list[str]:
        """The names that there are."""
        with self._told():
            return [name for (name,) in self.connection.execute("SELECT DISTINCT session FROM turns ORDER BY session")]

    def history(self, session: str) -> list[dict[str, Any]]:
        """The turns that hold, as JSON can hold them."""
        return [record.plain() for record in self.records(session)]

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What SQLite complains of, in a sentence."""
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise UserError(f"{self.path}: another process talks in this session; end one of the two") from error
        except sqlite3.Error as error:
            raise UserError(
                f"{self.path}: {error}; name a writable file that qkv chat made, or another one: --store FILE"
            ) from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{self.path} is damaged ({error!r}); take another --session or --store") from error


def _act(pair: list[str]) -> tuple[str, str]:
    return pair[0], pair[1]
