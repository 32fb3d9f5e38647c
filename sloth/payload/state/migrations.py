"""The format of state files, version by version."""

VERSION = 4  # PRAGMA user_version
# What a new state begins with. A test compares it with what the migrations make of an old one.
SCHEMA = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    # calls: what was asked, so that it can be looked at, removed and restored without the site.
    # before_first_change: what was there then, JSON; SQL NULL when we changed nothing yet.
    "CREATE TABLE resources (key TEXT PRIMARY KEY, module TEXT NOT NULL, type TEXT NOT NULL, id TEXT NOT NULL,"
    " checksum TEXT NOT NULL, desired TEXT, observed TEXT, site TEXT, task TEXT, place TEXT,"
    " created_at INTEGER NOT NULL, changed_at INTEGER NOT NULL, checked_at INTEGER NOT NULL,"
    " run TEXT, seq INTEGER NOT NULL, calls TEXT, before_first_change TEXT, orphaned INTEGER,"
    " superseded_by TEXT, other_sites TEXT)",
    "CREATE INDEX resources_by_type ON resources (module, type)",
    "CREATE INDEX resources_by_seq ON resources (seq)",
    "CREATE TABLE tombstones (key TEXT PRIMARY KEY, seq INTEGER NOT NULL)",
    # was: the record as it was before the change
    "CREATE TABLE history (id INTEGER PRIMARY KEY, key TEXT NOT NULL, at INTEGER NOT NULL, run TEXT,"
    " reason TEXT NOT NULL, before TEXT, after TEXT, diff TEXT, site TEXT, task TEXT, who TEXT, origin TEXT,"
    " call TEXT, was TEXT)",
    "CREATE INDEX history_by_key ON history (key, at)",
    "CREATE INDEX history_by_run ON history (run)",
    "CREATE TABLE runs (run TEXT PRIMARY KEY, site TEXT, who TEXT, origin TEXT, started INTEGER NOT NULL,"
    " finished INTEGER)",
    "CREATE TABLE signatures (path TEXT PRIMARY KEY, device INTEGER, inode INTEGER, size INTEGER,"
    " mtime_ns INTEGER, ctime_ns INTEGER, sha256 TEXT NOT NULL)",
    "CREATE TABLE handlers (site TEXT NOT NULL, name TEXT NOT NULL, since INTEGER NOT NULL, run TEXT, task TEXT,"
    " key TEXT, PRIMARY KEY (site, name))",
    "CREATE TABLE blobs (sha256 TEXT PRIMARY KEY, size INTEGER NOT NULL, stored INTEGER NOT NULL,"
    " kept_at INTEGER NOT NULL)",
    "CREATE INDEX blobs_by_age ON blobs (kept_at)",
    "CREATE TABLE pieces (sha256 TEXT NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL,"
    " PRIMARY KEY (sha256, number))",
    # Which things on the host a record manages (need 0), and which it cannot do without (need 1).
    "CREATE TABLE claims (thing TEXT NOT NULL, key TEXT NOT NULL, need INTEGER NOT NULL,"
    " PRIMARY KEY (thing, key, need))",
    "CREATE INDEX claims_by_key ON claims (key)",
    "CREATE TABLE freezes (key TEXT PRIMARY KEY, until INTEGER NOT NULL, why TEXT NOT NULL, who TEXT NOT NULL,"
    " origin TEXT NOT NULL, since INTEGER NOT NULL)",
    "CREATE TABLE applied_plans (plan TEXT PRIMARY KEY, run TEXT NOT NULL, at INTEGER NOT NULL)",
)
# MIGRATIONS[n] leads from version n to n + 1.
MIGRATIONS: "dict[int, tuple[str, ...]]" = {
    1: (
        "ALTER TABLE resources ADD COLUMN calls TEXT",
        "ALTER TABLE resources ADD COLUMN made TEXT",
        "ALTER TABLE resources ADD COLUMN orphaned INTEGER",
        "ALTER TABLE history ADD COLUMN call TEXT",
        "ALTER TABLE history ADD COLUMN was TEXT",
        "CREATE TABLE handlers (site TEXT NOT NULL, name TEXT NOT NULL, since INTEGER NOT NULL, run TEXT, task TEXT,"
        " key TEXT, PRIMARY KEY (site, name))",
        "CREATE TABLE contents (sha256 TEXT PRIMARY KEY, size INTEGER NOT NULL, stored INTEGER NOT NULL,"
        " kept_at INTEGER NOT NULL)",
        "CREATE INDEX contents_by_age ON contents (kept_at)",
        "CREATE TABLE pieces (sha256 TEXT NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL,"
        " PRIMARY KEY (sha256, number))",
    ),
    2: (
        # Plainer names: `gone` are tombstones, `contents` blobs, `made` is before_first_change. SQLite renames
        # columns since 3.25 only, so the table is copied.
        "ALTER TABLE gone RENAME TO tombstones",
        "ALTER TABLE contents RENAME TO blobs",
        "DROP INDEX contents_by_age",
        "CREATE INDEX blobs_by_age ON blobs (kept_at)",
        "ALTER TABLE resources RENAME TO resources_2",
        "DROP INDEX resources_by_type",
        "DROP INDEX resources_by_seq",
        "CREATE TABLE resources (key TEXT PRIMARY KEY, module TEXT NOT NULL, type TEXT NOT NULL, id TEXT NOT NULL,"
        " checksum TEXT NOT NULL, desired TEXT, observed TEXT, site TEXT, task TEXT, place TEXT,"
        " created_at INTEGER NOT NULL, changed_at INTEGER NOT NULL, checked_at INTEGER NOT NULL,"
        " run TEXT, seq INTEGER NOT NULL, calls TEXT, before_first_change TEXT, orphaned INTEGER,"
        " superseded_by TEXT, other_sites TEXT)",
        "INSERT INTO resources SELECT key, module, type, id, checksum, desired, observed, site, task, place,"
        " created_at, changed_at, checked_at, run, seq, calls, made, orphaned, NULL, NULL FROM resources_2",
        "DROP TABLE resources_2",
        "CREATE INDEX resources_by_type ON resources (module, type)",
        "CREATE INDEX resources_by_seq ON resources (seq)",
        "CREATE TABLE claims (thing TEXT NOT NULL, key TEXT NOT NULL, need INTEGER NOT NULL,"
        " PRIMARY KEY (thing, key, need))",
        "CREATE INDEX claims_by_key ON claims (key)",
    ),
    3: (
        "CREATE TABLE freezes (key TEXT PRIMARY KEY, until INTEGER NOT NULL, why TEXT NOT NULL, who TEXT NOT NULL,"
        " origin TEXT NOT NULL, since INTEGER NOT NULL)",
        "CREATE TABLE applied_plans (plan TEXT PRIMARY KEY, run TEXT NOT NULL, at INTEGER NOT NULL)",
    ),
}
