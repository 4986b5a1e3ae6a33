"""Store in PostgreSQL, with pgvector's types or arrays of reals: one transaction, in which others can read and not write."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode

import numpy as np

from delete_tasks.errors import RequestError, first_line, require

from ..gallery.gallery import Gallery, check_gallery
from . import shown

OWN = {"table": "faces", "person": "name", "embedding": "embedding"}  # keys of the string, and their defaults


class PostgresStore:
    """A table with a row for each template; rows without name or template stay. ``text`` is a connection URI of PostgreSQL (a
    password is better in PGPASSWORD or ~/.pgpass) with ``table`` (or SCHEMA.TABLE) and columns ``person`` and ``embedding``."""

    path = None

    def __init__(self, text: str) -> None:
        self.driver: Any = require("psycopg", "postgresql")
        address, _, given = text.partition("?")
        self.text, query = shown(text), dict(parse_qsl(given))
        own = {key: query.pop(key, default) for key, default in OWN.items()}
        self.address = f"{address}?{urlencode(query)}"
        sql = self.driver.sql
        self.column, table = own["embedding"], sql.Identifier(*own["table"].split("."))
        self.parts = {key: sql.Identifier(value) for key, value in own.items()} | {"table": table}
        self.parts |= {"table_text": sql.Literal(table.as_string()), "column_text": sql.Literal(self.column)}

    def __enter__(self) -> "PostgresStore":
        try:
            self.connection = self.driver.connect(self.address)
        except self.driver.Error as error:
            raise RequestError(f"'{self.text}' cannot be opened: {first_line(error)}") from error
        try:
            where = "WHERE attrelid = {table_text}::regclass AND attname = {column_text}"
            row = self._run(f"SELECT format_type(atttypid, atttypmod) FROM pg_attribute {where}").fetchone()
            if row is None:
                raise RequestError(f"'{self.text}': the table has no column '{self.column}'; give it as embedding=")
            self.type = row[0]
        except BaseException:
            self.connection.close()
            raise
        self.places: list[str] = []
        self.names: list[str] = []
        return self

    def __exit__(self, error: Any, *_: Any) -> None:
        try:
            if error is None:
                self.connection.commit()
        except self.driver.Error as failed:
            raise RequestError(f"'{self.text}' was not changed: {first_line(failed)}") from failed
        finally:
            self.connection.close()  # without a commit, nothing has changed

    def _statement(self, text: str) -> Any:
        return self.driver.sql.SQL(text).format(**self.parts)

    def _run(self, text: str, values: Sequence[Any] | None = None) -> Any:
        try:
            return self.connection.execute(self._statement(text), values)
        except self.driver.Error as error:
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> RequestError:
        keys = ", ".join(f"{key}=" for key in OWN)
        return RequestError(f"'{self.text}': {first_line(error)}; expected {keys} of the templates' table")

    def people(self) -> Mapping[str, int]:
        where = "{person} IS NOT NULL AND {embedding} IS NOT NULL"
        return dict(self._run(f"SELECT {{person}}::text, count(*) FROM {{table}} WHERE {where} GROUP BY 1").fetchall())

    def read(self, people: Sequence[str] | None = None) -> Gallery:
        if people is None:  # a change follows, and no template may be added in between
            self._run("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
        chosen = "" if people is None else " AND {person}::text = ANY(%s)"
        query = (
            "COPY (SELECT ctid, {person}, {embedding} FROM {table} WHERE {person} IS NOT NULL AND {embedding} IS NOT NULL"
            f"{chosen} ORDER BY ctid) TO STDOUT"
        )
        places, names, vectors = [], [], []
        try:
            values = None if people is None else [list(people)]
            with self.connection.cursor().copy(self._statement(query), values) as copy:
                for place, name, vector in copy.rows():
                    places.append(place)
                    names.append(name)
                    vectors.append(np.fromstring(vector.strip("[]{}"), np.float32, sep=","))
        except self.driver.Error as error:
            raise self._refusal(error) from error
        if people is None:
            self.places, self.names = places, names
        if len({len(vector) for vector in vectors}) > 1:
            raise RequestError(f"'{self.text}' holds templates of several sizes; name a table with those of one model")
        stacked = np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)
        return check_gallery(stacked, names, {}, self.text, least=0 if people is not None else 1)

    def replace(self, embeddings: np.ndarray) -> None:
        if len(embeddings) != len(self.places):
            raise RequestError(f"{len(embeddings)} templates for {len(self.places)} rows of '{self.text}'; read first")
        left, right = "[]" if "vec" in self.type else "{}"
        self._run(f"CREATE TEMPORARY TABLE delete_tasks_new (place tid, template {self.type}) ON COMMIT DROP")
        with self.connection.cursor().copy("COPY delete_tasks_new FROM STDIN") as copy:
            for place, row in zip(self.places, embeddings.astype(np.float32), strict=True):
                copy.write_row((place, f"{left}{','.join(map(str, row.tolist()))}{right}"))
        done = self._run("UPDATE {table} SET {embedding} = template FROM delete_tasks_new WHERE {table}.ctid = place")
        if done.rowcount != len(self.places):
            raise RequestError(f"'{self.text}': {done.rowcount} of {len(self.places)} rows could change, so none did")

    def delete(self, people: Sequence[str]) -> None:
        self._run("DELETE FROM {table} WHERE {person}::text = ANY(%s)", [list(people)])
        kept = [i for i, name in enumerate(self.names) if name not in set(people)]
        self.places, self.names = [self.places[i] for i in kept], [self.names[i] for i in kept]
