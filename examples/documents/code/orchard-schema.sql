-- Records of a heritage apple orchard: trees, grafts, pickings and sales.
-- Plain SQL; tried on a small embedded database.

-- Varieties are kept apart from trees because old names are often disputed.
-- When two names turn out to be the same apple, set same_as on the younger
-- entry instead of deleting it, so that paper labels in the field stay valid.
CREATE TABLE variety (
    id          INTEGER PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    use_kind    TEXT NOT NULL CHECK (use_kind IN ('eating', 'cooking', 'cider')),
    bloom_group INTEGER NOT NULL CHECK (bloom_group BETWEEN 1 AND 6),
    triploid    INTEGER NOT NULL DEFAULT 0,
    same_as     INTEGER REFERENCES variety (id)
);

-- One row for each planted position. A dead tree keeps its row, with
-- removed_on filled in; the replacement gets a new row for the same spot.
CREATE TABLE tree (
    id          INTEGER PRIMARY KEY,
    variety_id  INTEGER NOT NULL REFERENCES variety (id),
    row_letter  TEXT NOT NULL,
    position    INTEGER NOT NULL,
    rootstock   TEXT NOT NULL,
    planted_on  TEXT NOT NULL,
    removed_on  TEXT,
    reason      TEXT
);

-- Only one living tree may stand at a position.
CREATE UNIQUE INDEX one_living_tree
    ON tree (row_letter, position)
    WHERE removed_on IS NULL;

-- Scion wood given away or received. The health column is filled in after
-- one full season in the quarantine bed, never before.
CREATE TABLE graft (
    id          INTEGER PRIMARY KEY,
    source_tree INTEGER REFERENCES tree (id),
    partner     TEXT NOT NULL,
    cut_on      TEXT NOT NULL,
    taken       INTEGER,
    health      TEXT CHECK (health IN ('clean', 'canker', 'virus', 'unknown'))
);

CREATE TABLE picking (
    id          INTEGER PRIMARY KEY,
    tree_id     INTEGER NOT NULL REFERENCES tree (id),
    picked_on   TEXT NOT NULL,
    kilos       REAL NOT NULL CHECK (kilos > 0),
    windfall    INTEGER NOT NULL DEFAULT 0
);

-- Windfalls go to the press for vinegar and must never be sold for eating or
-- for juice, so this view leaves them out.
CREATE VIEW saleable_by_year AS
SELECT v.name,
       substr(p.picked_on, 1, 4) AS year,
       round(sum(p.kilos), 1)    AS kilos
FROM picking AS p
JOIN tree AS t ON t.id = p.tree_id
JOIN variety AS v ON v.id = t.variety_id
WHERE p.windfall = 0
GROUP BY v.name, year;

-- Possible pollen partners: same or neighbouring bloom group, a different
-- variety, and not a triploid, whose pollen is sterile.
CREATE VIEW pollen_partner AS
SELECT a.name AS variety,
       b.name AS partner
FROM variety AS a
JOIN variety AS b
  ON b.id <> a.id
 AND abs(a.bloom_group - b.bloom_group) <= 1
 AND b.triploid = 0;

-- Biennial trees: those whose best year is more than three times the worst.
-- Thin their fruit in June of the heavy year.
CREATE VIEW biennial_suspect AS
SELECT tree_id, max(total) AS best, min(total) AS worst
FROM (
    SELECT tree_id, substr(picked_on, 1, 4) AS year, sum(kilos) AS total
    FROM picking
    GROUP BY tree_id, year
)
GROUP BY tree_id
HAVING count(*) >= 4 AND max(total) > 3 * min(total);
