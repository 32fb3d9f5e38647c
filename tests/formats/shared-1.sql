-- shared.db of format 1, with a value, one that expires, an encrypted one, and a lock.
CREATE TABLE shared (name TEXT PRIMARY KEY, value TEXT NOT NULL, expires REAL);
CREATE TABLE locks (name TEXT PRIMARY KEY, holder TEXT NOT NULL, taken REAL NOT NULL, expires REAL NOT NULL);
INSERT INTO shared VALUES ('release', '{"version": "1.2", "hosts": ["a", "b"]}', NULL);
INSERT INTO shared VALUES ('deployment:version/ü', '"v1"', 4102444800.0);
INSERT INTO shared VALUES ('old', '1', 1000.0);
INSERT INTO shared VALUES ('password', 'sealed {"key": {"keys": ["x"], "kdf": null}, "token": "t"}', NULL);
INSERT INTO locks VALUES ('deploy', 'ann', 1790000000.0, 4102444800.0);
INSERT INTO locks VALUES ('fallen', 'ben', 1000.0, 1300.0);
PRAGMA user_version=1;
