-- The guard: every way round it that SQL offers, from every kind of site, as every kind of role.
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
SELECT current_database() AS start, current_user AS starter \gset
CREATE ROLE regress_guard_writer LOGIN;
CREATE DATABASE regress_guard_template TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C';
\c regress_guard_template
CREATE EXTENSION cmblock;

-- What a command is refused with, or how many rows it changed; a change is undone, so each attempt starts alike.
CREATE FUNCTION attempt(command text) RETURNS text LANGUAGE plpgsql SET search_path = public, cmblock AS $$
DECLARE
	rows bigint;
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE command;
	GET DIAGNOSTICS rows = ROW_COUNT;
	RAISE SQLSTATE 'CM000' USING MESSAGE = rows;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	IF SQLSTATE = 'CM000' THEN
		RETURN 'CHANGED ' || message;
	END IF;
	RETURN concat_ws(E'\n  ', SQLSTATE || ' ' || message, nullif(detail, ''), nullif(hint, ''));
END $$;
-- The SQLSTATE alone, for what is tried many times.
CREATE FUNCTION state(command text) RETURNS text LANGUAGE sql AS $$SELECT substring(public.attempt(command) FROM '^CHANGED.*|^.....')$$;
CREATE FUNCTION id(n int) RETURNS cmblock.smsid IMMUTABLE LANGUAGE sql AS
	$$SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid::cmblock.smsid$$;
CREATE FUNCTION sha256_of(n int) RETURNS cmblock.thumbprint LANGUAGE sql AS $$SELECT lpad(n::text, 64, '0')::cmblock.thumbprint$$;
CREATE FUNCTION sha1_of(n int) RETURNS cmblock.thumbprint LANGUAGE sql AS $$SELECT lpad(n::text, 40, '0')::cmblock.thumbprint$$;
-- Client 1 of P01 and client 2 of P02, with a certificate each, as every site has them through replication.
CREATE FUNCTION replicated() RETURNS void LANGUAGE sql SET cmblock.restore = on AS $$
	INSERT INTO cmblock.client
	SELECT id(n), 'pc' || n, 'computer', ('P0' || n)::cmblock.site_code, NULL, 2, false, '2020-01-01', NULL, false, NULL, NULL, NULL, NULL,
		1, ('P0' || n)::cmblock.site_code, '1', 'somebody', '2020-01-01'
	FROM generate_series(1, 2) n;
	INSERT INTO cmblock.certificate
	SELECT sha256_of(n), sha1_of(n), 'client', id(n), ('P0' || n)::cmblock.site_code, 'CN=' || n, 'CN=CA', '01', '2020-01-01', '2040-01-01',
		false, sha256_of(n), '\x30', '2020-01-01', NULL, false, NULL, NULL, NULL, NULL, 1, ('P0' || n)::cmblock.site_code, '1', 'somebody', '2020-01-01'
	FROM generate_series(1, 2) n;
$$;

-- The ways to write. %1$s is the number of a client and of its certificate, %2$s the site that the row should have.
CREATE TABLE way (n int GENERATED ALWAYS AS IDENTITY, what text, command text);
INSERT INTO way (what, command) VALUES
	('UPDATE block', 'UPDATE cmblock.client SET blocked = true WHERE smsid = id(%1$s)'),
	('UPDATE name', 'UPDATE cmblock.client SET name = ''x'' WHERE smsid = id(%1$s)'),
	('UPDATE site', 'UPDATE cmblock.client SET assigned_site = ''P02'' WHERE smsid = id(%1$s)'),
	('UPDATE site to mine', 'UPDATE cmblock.client SET assigned_site = (SELECT code FROM cmblock.this_site) WHERE smsid = id(%1$s)'),
	('UPDATE FROM', 'UPDATE cmblock.client c SET blocked = true FROM cmblock.certificate x WHERE x.client = c.smsid AND c.smsid = id(%1$s)'),
	('UPDATE ... WHERE false or none', 'UPDATE cmblock.client SET blocked = true WHERE smsid = id(9)'),
	('ON CONFLICT DO UPDATE', 'INSERT INTO cmblock.client (smsid, name, kind, assigned_site, approval, isv_proxied) '
		'VALUES (id(%1$s), ''x'', ''computer'', %2$L, 2, false) ON CONFLICT (smsid) DO UPDATE SET blocked = true'),
	('MERGE', 'MERGE INTO cmblock.client c USING (SELECT id(%1$s) AS smsid) s ON c.smsid = s.smsid WHEN MATCHED THEN UPDATE SET blocked = true'),
	('MERGE DELETE', 'MERGE INTO cmblock.client c USING (SELECT id(%1$s) AS smsid) s ON c.smsid = s.smsid WHEN MATCHED THEN DELETE'),
	('MERGE INSERT', 'MERGE INTO cmblock.client c USING (SELECT id(7) AS smsid) s ON c.smsid = s.smsid WHEN NOT MATCHED THEN '
		'INSERT (smsid, name, kind, assigned_site, approval, isv_proxied) VALUES (s.smsid, ''x'', ''computer'', %2$L, 2, false)'),
	('writable CTE', 'WITH u AS (UPDATE cmblock.client SET blocked = true WHERE smsid = id(%1$s) RETURNING 1) SELECT * FROM u'),
	('INSERT', 'INSERT INTO cmblock.client (smsid, name, kind, assigned_site, approval, isv_proxied) VALUES (id(7), ''x'', ''computer'', %2$L, 2, false)'),
	('DELETE', 'DELETE FROM cmblock.client WHERE smsid = id(%1$s)'),
	('DELETE USING', 'DELETE FROM cmblock.client c USING cmblock.certificate x WHERE x.client = c.smsid AND c.smsid = id(%1$s)'),
	('TRUNCATE', 'TRUNCATE cmblock.client'),
	('TRUNCATE ONLY CASCADE', 'TRUNCATE ONLY cmblock.client CASCADE'),
	('writable view', 'UPDATE public.client_view SET blocked = true WHERE smsid = id(%1$s)'),
	('writable view DELETE', 'DELETE FROM public.client_view WHERE smsid = id(%1$s)'),
	('certificate UPDATE block', 'UPDATE cmblock.certificate SET blocked = true WHERE sha256 = sha256_of(%1$s)'),
	('certificate UPDATE site', 'UPDATE cmblock.certificate SET assigned_site = ''P02'' WHERE sha256 = sha256_of(%1$s)'),
	('certificate ON CONFLICT', 'INSERT INTO cmblock.certificate SELECT (c).* FROM cmblock.certificate c WHERE sha256 = sha256_of(%1$s) '
		'ON CONFLICT (sha256) DO UPDATE SET blocked = true'),
	('certificate MERGE', 'MERGE INTO cmblock.certificate c USING (SELECT sha256_of(%1$s) AS t) s ON c.sha256 = s.t WHEN MATCHED THEN UPDATE SET blocked = true'),
	('certificate DELETE', 'DELETE FROM cmblock.certificate WHERE sha256 = sha256_of(%1$s)'),
	('certificate TRUNCATE', 'TRUNCATE cmblock.certificate'),
	('site INSERT', 'INSERT INTO cmblock.site VALUES (''P09'', ''primary'', ''CEN'', NULL, 1, ''CEN'', ''1'', ''x'', now())'),
	('site UPDATE', 'UPDATE cmblock.site SET kind = ''primary'''),
	('site DELETE', 'DELETE FROM cmblock.site'),
	('site TRUNCATE', 'TRUNCATE cmblock.site'),
	('this_site INSERT', 'INSERT INTO cmblock.this_site VALUES (true, ''P09'', ''primary'', gen_random_uuid(), NULL, ''x'', now())'),
	('this_site UPDATE', 'UPDATE cmblock.this_site SET kind = ''primary'', code = ''P01'''),
	('this_site DELETE', 'DELETE FROM cmblock.this_site'),
	('this_site TRUNCATE', 'TRUNCATE cmblock.this_site'),
	('both TRUNCATE', 'TRUNCATE cmblock.client, cmblock.certificate, cmblock.block_event');
CREATE VIEW client_view AS SELECT * FROM cmblock.client;
CREATE VIEW attempts AS
	SELECT what, state(format(command, 1, 'P01')) AS of_p01, state(format(command, 2, 'P02')) AS of_p02 FROM way ORDER BY n;
-- What must be as before when the attempts are over.
CREATE VIEW everything AS
	SELECT 'client' AS t, c::text AS row FROM cmblock.client c UNION ALL SELECT 'certificate', c::text FROM cmblock.certificate c
	UNION ALL SELECT 'site', s::text FROM cmblock.site s UNION ALL SELECT 'this_site', s::text FROM cmblock.this_site s
	UNION ALL SELECT 'block_event', e::text FROM cmblock.block_event e;
-- A role with every privilege that writing needs: the guard must not depend on privileges.
GRANT USAGE ON SCHEMA cmblock TO regress_guard_writer;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA cmblock, public TO regress_guard_writer;
\c :start
CREATE DATABASE regress_guard_p01 TEMPLATE regress_guard_template;
CREATE DATABASE regress_guard_p02 TEMPLATE regress_guard_template;
CREATE DATABASE regress_guard_cen TEMPLATE regress_guard_template;
CREATE DATABASE regress_guard_s01 TEMPLATE regress_guard_template;
CREATE DATABASE regress_guard_none TEMPLATE regress_guard_template;

-- ---------- a database that is no site ----------
\c regress_guard_none
SELECT replicated();
CREATE TABLE before AS TABLE everything;
TABLE attempts;
CREATE TABLE seen AS TABLE attempts;
SET session_replication_role = replica;
TABLE attempts EXCEPT TABLE seen;
RESET session_replication_role;
GRANT SELECT ON seen TO regress_guard_writer;
\c - regress_guard_writer
TABLE attempts EXCEPT TABLE seen;
\c - :starter
(TABLE before EXCEPT TABLE everything) UNION ALL (TABLE everything EXCEPT TABLE before);

-- ---------- the central site ----------
\c regress_guard_cen
SELECT cmblock.setup_site('CEN', 'central', '00000000-0000-0000-0000-00000000c0de');
SELECT replicated();
CREATE TABLE before AS TABLE everything;
TABLE attempts;
CREATE TABLE seen AS TABLE attempts;
SET session_replication_role = replica;
TABLE attempts EXCEPT TABLE seen;
RESET session_replication_role;
GRANT SELECT ON seen TO regress_guard_writer;
\c - regress_guard_writer
TABLE attempts EXCEPT TABLE seen;
\c - :starter
(TABLE before EXCEPT TABLE everything) UNION ALL (TABLE everything EXCEPT TABLE before);
-- The messages in full, once.
SELECT attempt('UPDATE cmblock.client SET blocked = true WHERE smsid = id(1)');
SELECT attempt('UPDATE cmblock.certificate SET blocked = true WHERE sha256 = sha256_of(2)');
SELECT attempt('INSERT INTO cmblock.client (smsid, name, kind, assigned_site, approval, isv_proxied) VALUES (id(7), ''x'', ''computer'', ''CEN'', 2, false)');
SELECT attempt('TRUNCATE cmblock.client');
SELECT attempt('UPDATE cmblock.site SET kind = ''primary''');

-- ---------- a secondary site ----------
\c regress_guard_s01
SELECT cmblock.setup_site('S01', 'secondary', '00000000-0000-0000-0000-00000000c0de', 'P01');
SELECT replicated();
CREATE TABLE before AS TABLE everything;
TABLE attempts;
CREATE TABLE seen AS TABLE attempts;
SET session_replication_role = replica;
TABLE attempts EXCEPT TABLE seen;
RESET session_replication_role;
GRANT SELECT ON seen TO regress_guard_writer;
\c - regress_guard_writer
TABLE attempts EXCEPT TABLE seen;
\c - :starter
(TABLE before EXCEPT TABLE everything) UNION ALL (TABLE everything EXCEPT TABLE before);
SELECT attempt('DELETE FROM cmblock.client WHERE smsid = id(1)');

-- ---------- another primary site: it may write its own rows only ----------
\c regress_guard_p02
SELECT cmblock.setup_site('P02', 'primary', '00000000-0000-0000-0000-00000000c0de', 'CEN');
SELECT replicated();
CREATE TABLE before AS TABLE everything;
TABLE attempts;
CREATE TABLE seen AS TABLE attempts;
SET session_replication_role = replica;
TABLE attempts EXCEPT TABLE seen;
RESET session_replication_role;
GRANT SELECT ON seen TO regress_guard_writer;
\c - regress_guard_writer
TABLE attempts EXCEPT TABLE seen;
\c - :starter
(TABLE before EXCEPT TABLE everything) UNION ALL (TABLE everything EXCEPT TABLE before);

-- ---------- the assigned primary site: it may, but the guard stamps ----------
\c regress_guard_p01
SELECT cmblock.setup_site('P01', 'primary', '00000000-0000-0000-0000-00000000c0de', 'CEN');
SELECT replicated();
CREATE TABLE before AS TABLE everything;
TABLE attempts;
CREATE TABLE seen AS TABLE attempts;
SET session_replication_role = replica;
TABLE attempts EXCEPT TABLE seen;
RESET session_replication_role;
GRANT SELECT ON seen TO regress_guard_writer;
\c - regress_guard_writer
TABLE attempts EXCEPT TABLE seen;
SET search_path = public, cmblock;
-- A statement that touches one row of another site changes none.
SELECT attempt('UPDATE cmblock.client SET blocked = true');
SELECT attempt('DELETE FROM cmblock.client WHERE smsid = id(1)');
SELECT attempt('UPDATE cmblock.client SET assigned_site = ''P02'' WHERE smsid = id(1)');
SELECT attempt('UPDATE cmblock.client SET smsid = id(7) WHERE smsid = id(1)');
SELECT attempt('UPDATE cmblock.certificate SET sha256 = sha256_of(7) WHERE sha256 = sha256_of(1)');
SELECT attempt('UPDATE cmblock.certificate SET subject = ''x'' WHERE sha256 = sha256_of(1)');
SELECT attempt('UPDATE cmblock.certificate SET client = id(2) WHERE sha256 = sha256_of(1)');
SELECT column_name, state(format('UPDATE cmblock.certificate SET %I = NULL WHERE sha256 = sha256_of(1)', column_name))
FROM information_schema.columns WHERE (table_schema, table_name) = ('cmblock', 'certificate') ORDER BY ordinal_position;
-- Prepared for one's own row, run for another's.
PREPARE block (smsid) AS UPDATE cmblock.client SET blocked = true WHERE smsid = $1;
EXECUTE block (id(2));
DEALLOCATE block;
-- COPY comes through the same door.
COPY cmblock.client FROM stdin;
GUID:00000000-0000-0000-0000-000000000008	copied	computer	P02	\N	2	f	2000-01-01	\N	f	\N	\N	\N	\N	99	P02	99	forger	2000-01-01	\N
\.
COPY cmblock.client FROM stdin;
GUID:00000000-0000-0000-0000-000000000008	copied	computer	P01	\N	2	f	2000-01-01	\N	t	why	T	forger	2000-01-01	99	P02	99	forger	2000-01-01	\N
\.
COPY cmblock.client FROM stdin;
GUID:00000000-0000-0000-0000-000000000008	copied	computer	P01	\N	2	f	2000-01-01	2000-01-01	f	why	T	forger	2000-01-01	99	P02	99	forger	2000-01-01	\N
\.
-- What the caller may not say, the guard said: version, origin, transaction, actor, times, block remarks, deletion.
CREATE TEMP VIEW stamps AS
	SELECT right(smsid::text, 4) AS client, name, registered_at > '2020-01-02' AS registered_now, deleted_at IS NOT NULL AS deleted, blocked, block_reason AS reason,
		block_changed_by AS block_by, block_changed_at > '2020-01-02' AS block_now, version, origin_site, changed_by, changed_at > '2020-01-02' AS now
	FROM cmblock.client ORDER BY smsid;
SELECT * FROM stamps WHERE client = '0008';
SELECT change_xid = (SELECT xmin::text::xid8 FROM cmblock.client WHERE smsid = id(8)) FROM cmblock.client WHERE smsid = id(8);
BEGIN;
UPDATE cmblock.client SET blocked = true, block_reason = 'mine', version = 1000, origin_site = 'P02', change_xid = '42', changed_by = 'forger', changed_at = '2000-01-01',
	block_changed_by = 'forger', block_changed_at = '2000-01-01', registered_at = '2030-01-01' WHERE smsid = id(1);
SELECT * FROM stamps WHERE client = '0001';
SELECT change_xid = pg_current_xact_id(), changed_at = block_changed_at, registered_at = '2020-01-01' FROM cmblock.client WHERE smsid = id(1);
-- Forging the stamp alone is no change.
UPDATE cmblock.client SET version = 1000, origin_site = 'P02', change_xid = '42', changed_by = 'forger', changed_at = '2000-01-01',
	block_changed_by = 'forger', block_changed_at = '2000-01-01', registered_at = '2030-01-01', block_reason = 'forged' WHERE smsid = id(1);
SELECT * FROM stamps WHERE client = '0001';
-- A name is, and it leaves the block's actor and time.
UPDATE cmblock.client SET name = 'renamed' WHERE smsid = id(1);
SELECT name, version, block_changed_at < changed_at FROM cmblock.client WHERE smsid = id(1);
-- A block that is lifted without a word does not keep the words of whoever set it.
UPDATE cmblock.client SET blocked = false WHERE smsid = id(1);
SELECT blocked, block_reason, version FROM cmblock.client WHERE smsid = id(1);
-- Deleted by hand it is a tombstone like any other, with the time of now; so is a certificate.
UPDATE cmblock.client SET deleted_at = '2000-01-01' WHERE smsid = id(1);
UPDATE cmblock.certificate SET deleted_at = '2000-01-01', blocked = true, version = 77 WHERE sha256 = sha256_of(1);
SELECT deleted_at > '2020-01-02' FROM cmblock.client WHERE smsid = id(1);
SELECT deleted_at > '2020-01-02', blocked, version, origin_site FROM cmblock.certificate WHERE sha256 = sha256_of(1);
UPDATE cmblock.client SET deleted_at = '2001-01-01' WHERE smsid = id(1);
SELECT deleted_at > '2020-01-02', version FROM cmblock.client WHERE smsid = id(1);
ROLLBACK;
-- The ISV rule.
SELECT attempt('UPDATE cmblock.client SET blocked = true, isv_proxied = true WHERE smsid = id(1)');
-- Nulls: no crash, and the refusal is that of the column.
SELECT state('INSERT INTO cmblock.client DEFAULT VALUES');
SELECT attempt('INSERT INTO cmblock.client (assigned_site) VALUES (''P02'')');
SELECT state('INSERT INTO cmblock.certificate DEFAULT VALUES');
SELECT attempt('INSERT INTO cmblock.certificate (assigned_site) VALUES (''P02'')');
SELECT state('INSERT INTO cmblock.client (smsid, name, kind, approval, isv_proxied) VALUES (id(7), ''x'', ''computer'', 2, false)');
SELECT column_name, state(format('UPDATE cmblock.client SET %I = NULL WHERE smsid = id(1)', column_name))
FROM information_schema.columns WHERE (table_schema, table_name) = ('cmblock', 'client') ORDER BY ordinal_position;
-- Rules and inheritance children need the owner of the table.
SELECT attempt('CREATE RULE steal AS ON UPDATE TO cmblock.client DO INSTEAD NOTHING');
SELECT attempt('CREATE TEMP TABLE child () INHERITS (cmblock.client)');
SELECT attempt('ALTER TABLE cmblock.client DISABLE TRIGGER guard');
SELECT attempt('CREATE TRIGGER zzz BEFORE UPDATE ON cmblock.client FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()');
SELECT attempt('SET session_replication_role = replica');
-- Restore mode is for superusers. (The message of a setting that the role may not set differs with the library loaded or not.)
SELECT state('SET cmblock.restore = on');
\c - :starter
SET cmblock.restore = on;
SET ROLE regress_guard_writer;
SELECT attempt('UPDATE cmblock.client SET blocked = true WHERE smsid = id(2)');
SELECT attempt('DELETE FROM cmblock.client WHERE smsid = id(1)');
RESET ROLE;
SELECT attempt('DELETE FROM cmblock.client WHERE smsid = id(1)');
RESET cmblock.restore;
-- Not even where an administrator let the role set it: the commands run as their owner, but they are no restore.
GRANT SET ON PARAMETER cmblock.restore TO regress_guard_writer;
GRANT EXECUTE ON FUNCTION cmblock.register_client, cmblock.reassign_client, cmblock.block_client, cmblock.delete_client TO regress_guard_writer;
\c - regress_guard_writer
SET cmblock.restore = on;
SELECT attempt('UPDATE cmblock.client SET blocked = true WHERE smsid = id(2)');
BEGIN;
SELECT cmblock.register_client(id(20), 'in restore mode');
SELECT cmblock.block_client(id(20));
SELECT name, version, origin_site, changed_by FROM cmblock.client WHERE smsid::text LIKE '%20';
ROLLBACK;
SELECT state($$SELECT cmblock.delete_client(id(2))$$), state($$SELECT cmblock.reassign_client(id(2), 'P01')$$);
\c - :starter
REVOKE SET ON PARAMETER cmblock.restore FROM regress_guard_writer;
-- Every trigger of the extension fires in replica mode, too.
SELECT tgrelid::regclass, tgname FROM pg_trigger
WHERE tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'cmblock'::regnamespace) AND NOT tgisinternal AND tgenabled <> 'A';

-- ---------- the trigger functions elsewhere ----------
SELECT f, attempt(format('SELECT cmblock.%s()', f)) FROM unnest(ARRAY['guard_row', 'guard_command_table', 'guard_truncate', 'guard_assigned_site', 'record_block_event', 'this_site_changed']) f;
CREATE TABLE own (site cmblock.site_code, note text);
-- at the wrong time, level or event
SELECT t, f, attempt(format('CREATE TRIGGER t %s ON own FOR EACH %s EXECUTE FUNCTION cmblock.%s; INSERT INTO own VALUES (''P01''); UPDATE own SET note = ''x''; TRUNCATE own',
	t, CASE WHEN t ~ 'ROW' THEN 'ROW' ELSE 'STATEMENT' END, f))
FROM (VALUES
	('guard_row()', 'AFTER INSERT /* ROW */'), ('guard_row()', 'BEFORE INSERT'), ('guard_row()', 'BEFORE TRUNCATE'), ('guard_row()', 'BEFORE INSERT /* ROW */'),
	('guard_command_table()', 'AFTER INSERT /* ROW */'), ('guard_command_table()', 'BEFORE INSERT'),
	('guard_truncate()', 'BEFORE INSERT /* ROW */'), ('guard_truncate()', 'AFTER INSERT'), ('guard_truncate()', 'AFTER TRUNCATE'),
	('guard_assigned_site(''site'')', 'AFTER INSERT /* ROW */'), ('guard_assigned_site(''site'')', 'BEFORE INSERT'), ('guard_assigned_site(''site'')', 'BEFORE TRUNCATE'),
	('record_block_event()', 'BEFORE UPDATE /* ROW */'), ('record_block_event()', 'AFTER UPDATE'), ('record_block_event()', 'AFTER INSERT /* ROW */'),
	('record_block_event()', 'AFTER UPDATE /* ROW */'),
	('this_site_changed()', 'BEFORE INSERT'), ('this_site_changed()', 'AFTER INSERT /* ROW */')) v (f, t);
-- with wrong arguments
SELECT f, attempt(format('CREATE TRIGGER t BEFORE INSERT ON own FOR EACH ROW EXECUTE FUNCTION cmblock.guard_assigned_site(%s); INSERT INTO own VALUES (''P01'')', f))
FROM unnest(ARRAY['', '''nowhere''', '''note''', '''ctid''', '''site'', ''note''', '''site''']) f;

-- ---------- a table of one's own ----------
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON own FOR EACH ROW EXECUTE FUNCTION cmblock.guard_assigned_site('site');
ALTER TABLE own ENABLE ALWAYS TRIGGER guard;
SELECT attempt($$INSERT INTO own VALUES (NULL, 'nobody''s')$$);
SELECT attempt($$INSERT INTO own VALUES ('P02', 'theirs')$$);
INSERT INTO own VALUES ('P01', 'mine');
SET cmblock.restore = on;
INSERT INTO own VALUES ('P02', 'theirs'), (NULL, 'nobody''s');
RESET cmblock.restore;
SELECT attempt($$UPDATE own SET note = 'x' WHERE site = 'P02'::cmblock.site_code$$);
SELECT command, state(command) FROM (VALUES
	($$UPDATE own SET note = 'x' WHERE note = 'mine'$$),
	($$DELETE FROM own WHERE note = 'mine'$$),
	($$UPDATE own SET site = 'P02' WHERE note = 'mine'$$),
	($$UPDATE own SET site = NULL WHERE note = 'mine'$$),
	($$UPDATE own SET note = 'x' WHERE note = 'theirs'$$),
	($$UPDATE own SET site = 'P01' WHERE note = 'theirs'$$),
	($$DELETE FROM own WHERE note = 'theirs'$$),
	($$UPDATE own SET site = 'P01' WHERE note LIKE 'nobody%'$$),
	($$DELETE FROM own WHERE note LIKE 'nobody%'$$),
	($$DELETE FROM own$$)) v (command);
SET session_replication_role = replica;
SELECT state($$DELETE FROM own WHERE note = 'theirs'$$);
RESET session_replication_role;
-- Partitions: the trigger goes with each of them, also one that is attached with rows in it and columns in another order.
CREATE TABLE parted (note text, part int, site cmblock.site_code) PARTITION BY LIST (part);
CREATE TABLE parted1 PARTITION OF parted FOR VALUES IN (1);
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON parted FOR EACH ROW EXECUTE FUNCTION cmblock.guard_assigned_site('site');
CREATE TABLE parted2 (site cmblock.site_code, dropped int, part int, note text);
ALTER TABLE parted2 DROP COLUMN dropped;
INSERT INTO parted2 VALUES ('P02', 2, 'theirs'), ('P01', 2, 'mine');
ALTER TABLE parted ATTACH PARTITION parted2 FOR VALUES IN (2);
ALTER TABLE parted ENABLE ALWAYS TRIGGER guard;
SELECT tgrelid::regclass, tgenabled FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM pg_class WHERE relname LIKE 'parted%') ORDER BY tgrelid::regclass::text;
SELECT command, state(command) FROM (VALUES
	($$INSERT INTO parted VALUES ('x', 1, 'P01')$$),
	($$INSERT INTO parted VALUES ('x', 1, 'P02')$$),
	($$INSERT INTO parted VALUES ('x', 2, 'P02')$$),
	($$INSERT INTO parted1 VALUES ('x', 1, 'P02')$$),
	($$INSERT INTO parted2 VALUES ('P02', 2, 'x')$$),
	($$UPDATE parted SET note = 'x' WHERE note = 'mine'$$),
	($$UPDATE parted SET part = 1 WHERE note = 'mine'$$),
	($$UPDATE parted SET note = 'x' WHERE note = 'theirs'$$),
	($$UPDATE parted SET part = 1 WHERE note = 'theirs'$$),
	($$UPDATE parted SET part = 1, site = 'P02' WHERE note = 'mine'$$),
	($$DELETE FROM parted2 WHERE note = 'theirs'$$),
	($$DELETE FROM parted$$)) v (command);
-- At a site that is not the assigned one, and at one that has no clients.
\c regress_guard_cen
CREATE TABLE own (site cmblock.site_code);
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON own FOR EACH ROW EXECUTE FUNCTION cmblock.guard_assigned_site('site');
SELECT attempt($$INSERT INTO own VALUES ('P01')$$);
SELECT attempt($$INSERT INTO own VALUES ('CEN')$$);
\c regress_guard_none
CREATE TABLE own (site cmblock.site_code);
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON own FOR EACH ROW EXECUTE FUNCTION cmblock.guard_assigned_site('site');
SELECT attempt($$INSERT INTO own VALUES ('P01')$$);

\c :start :starter
DROP DATABASE regress_guard_p01;
DROP DATABASE regress_guard_p02;
DROP DATABASE regress_guard_cen;
DROP DATABASE regress_guard_s01;
DROP DATABASE regress_guard_none;
DROP DATABASE regress_guard_template;
DROP ROLE regress_guard_writer;
