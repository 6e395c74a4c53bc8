-- The catalogue: what is indexed, where each passage stands, and which segment holds its tokens.
-- Changing it means raising FORMAT_VERSION in database.py.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE roots (
  id INTEGER PRIMARY KEY,
  path BLOB NOT NULL UNIQUE,
  include TEXT NOT NULL,  -- JSON lists of patterns
  exclude TEXT NOT NULL,
  indexed_at TEXT         -- the last run that went through; NULL before the first
) STRICT;

CREATE TABLE documents (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  path BLOB NOT NULL UNIQUE,  -- real absolute path in the file system's bytes
  size INTEGER NOT NULL,
  mtime_ns INTEGER NOT NULL,
  sha256 TEXT NOT NULL,
  format TEXT NOT NULL,
  encoding TEXT NOT NULL,
  newline TEXT NOT NULL,
  reader INTEGER NOT NULL,
  unchunked INTEGER NOT NULL, -- non-blank characters that stand in no chunk
  indexed_at TEXT NOT NULL
) STRICT;

CREATE TABLE document_roots (
  document INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
  root INTEGER NOT NULL REFERENCES roots (id) ON DELETE CASCADE,
  PRIMARY KEY (document, root)
) STRICT, WITHOUT ROWID;
CREATE INDEX document_roots_root ON document_roots (root);

-- The text of documents whose format is not text, in which their spans count; zlib over UTF-8.
CREATE TABLE extracts (
  document INTEGER PRIMARY KEY REFERENCES documents (id) ON DELETE CASCADE,
  text BLOB NOT NULL,
  seal BLOB NOT NULL         -- over the document's path and hash, and the text
) STRICT;

CREATE TABLE chunks (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  passage_id TEXT NOT NULL UNIQUE,
  document INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
  ordinal INTEGER NOT NULL,  -- position among the chunks of its document
  char_start INTEGER NOT NULL,
  char_end INTEGER NOT NULL,
  byte_start INTEGER,
  byte_end INTEGER,
  line_start INTEGER NOT NULL,
  column_start INTEGER NOT NULL,
  line_end INTEGER NOT NULL,
  column_end INTEGER NOT NULL,
  page INTEGER,              -- the page or cell it lies in, where its format has such
  cell INTEGER,
  part_start INTEGER,        -- where that page or cell starts and ends, in characters
  part_end INTEGER,
  heading TEXT NOT NULL,     -- heading path, outermost first, one a line
  sha256 TEXT NOT NULL,      -- of the source's bytes
  text_sha256 TEXT,          -- of the text in UTF-8; NULL where it is the same
  text TEXT NOT NULL,
  tokens INTEGER NOT NULL,   -- its own, without special tokens
  unknown INTEGER NOT NULL,  -- characters under an unknown token, a skipped one, and none at all
  skipped INTEGER NOT NULL,
  untokenized INTEGER NOT NULL,
  seal BLOB NOT NULL,        -- over all above but the counts, and the document's own facts (rows.py)
  segment INTEGER NOT NULL,  -- chunks of equal text may share a row
  row INTEGER NOT NULL
) STRICT;
CREATE INDEX chunks_document ON chunks (document, ordinal);
CREATE INDEX chunks_sha256 ON chunks (sha256);
CREATE INDEX chunks_text_sha256 ON chunks (text_sha256) WHERE text_sha256 IS NOT NULL;
CREATE INDEX chunks_segment ON chunks (segment, row, id, document);

-- Passages of earlier generations, so that an old id can still be answered.
CREATE TABLE former (
  passage_id TEXT PRIMARY KEY,
  path BLOB NOT NULL,
  file_sha256 TEXT NOT NULL,
  format TEXT NOT NULL,
  encoding TEXT NOT NULL,
  newline TEXT NOT NULL,
  ordinal INTEGER NOT NULL,
  char_start INTEGER NOT NULL,
  char_end INTEGER NOT NULL,
  byte_start INTEGER,
  byte_end INTEGER,
  line_start INTEGER NOT NULL,
  column_start INTEGER NOT NULL,
  line_end INTEGER NOT NULL,
  column_end INTEGER NOT NULL,
  page INTEGER,              -- the page or cell it lies in, where its format has such
  cell INTEGER,
  part_start INTEGER,        -- where that page or cell starts and ends, in characters
  part_end INTEGER,
  heading TEXT NOT NULL,
  sha256 TEXT NOT NULL,      -- of the source's bytes
  text_sha256 TEXT,          -- of the text in UTF-8; NULL where it is the same
  text TEXT NOT NULL,
  indexed_at TEXT NOT NULL,
  seal BLOB NOT NULL,        -- the one it had when it was live
  retired_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX former_path ON former (path);
CREATE INDEX former_retired ON former (retired_at);

CREATE TABLE segments (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  rows INTEGER NOT NULL,
  tokens INTEGER NOT NULL,
  files TEXT NOT NULL  -- JSON {name: [bytes, SHA-256]}
) STRICT;

-- Directories under tokens/ that are no longer used; deletion is retried until it succeeds.
CREATE TABLE garbage (segment INTEGER PRIMARY KEY) STRICT;

-- What a person took out with remove_path although a root still contains it.
CREATE TABLE tombstones (path BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;

-- What BM25 counts. names() and runs() are functions of lexical.py, which every connection gets (database.py): they take
-- UTF-8, as a blob because that of a damaged row may be none. Their results are stored nowhere but in FTS5's index.
CREATE VIEW counted AS SELECT id, text, heading, names(CAST(heading || char(10) || text AS BLOB)) AS names,
  runs(CAST(text AS BLOB)) AS runs, runs(CAST(heading AS BLOB)) AS heading_runs FROM chunks;
CREATE VIRTUAL TABLE fts USING fts5(
  text, heading, names, runs, heading_runs, content = 'counted', content_rowid = 'id', tokenize = "{tokenizer}"
);
CREATE TRIGGER chunks_inserted AFTER INSERT ON chunks BEGIN
  INSERT INTO fts (rowid, text, heading, names, runs, heading_runs) VALUES (
    new.id, new.text, new.heading, names(CAST(new.heading || char(10) || new.text AS BLOB)),
    runs(CAST(new.text AS BLOB)), runs(CAST(new.heading AS BLOB))
  );
END;
CREATE TRIGGER chunks_deleted AFTER DELETE ON chunks BEGIN
  INSERT INTO fts (fts, rowid, text, heading, names, runs, heading_runs) VALUES (
    'delete', old.id, old.text, old.heading, names(CAST(old.heading || char(10) || old.text AS BLOB)),
    runs(CAST(old.text AS BLOB)), runs(CAST(old.heading AS BLOB))
  );
END;
