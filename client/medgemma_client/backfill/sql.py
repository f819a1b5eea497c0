"""What the journal says to SQLite. Rows are given as one JSON list, so that it is one statement."""

SCHEMA = """\
CREATE TABLE IF NOT EXISTS rows (
    item TEXT PRIMARY KEY, number INTEGER NOT NULL, fingerprint TEXT NOT NULL,
    state TEXT NOT NULL, job TEXT, place INTEGER, answer TEXT, peak TEXT, code TEXT, message TEXT,
    metadata TEXT NOT NULL, met INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS of_job ON rows (job);
CREATE UNIQUE INDEX IF NOT EXISTS in_place ON rows (place);
CREATE TABLE IF NOT EXISTS refused (
    number INTEGER PRIMARY KEY, item TEXT, code TEXT NOT NULL, message TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

MEET = """\
INSERT OR REPLACE INTO rows (item, number, fingerprint, metadata, state, met)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    json_extract(value, '$[3]'), ?, ?
FROM json_each(?)
"""
"""State and session of rows that were not there: item, number, fingerprint and metadata of each."""

MEET_AGAIN = """\
UPDATE rows SET number = known, met = ?
FROM (
    SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS known
    FROM json_each(?)
)
WHERE item = id
"""
"""Session of rows that were there: item and number of each."""

SUBMIT = """\
UPDATE rows SET state = ?, job = its, place = coalesce(place, next),
    answer = NULL, peak = NULL, code = NULL, message = NULL
FROM (
    SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS its,
        json_extract(value, '$[2]') AS next
    FROM json_each(?)
)
WHERE item = id
"""
"""State of rows that have a job: item, job and place of each."""
