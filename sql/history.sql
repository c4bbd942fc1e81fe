-- The block history: what is recorded, in which order, and that the chain shows what was done to it.
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
SELECT current_database() AS start, current_user AS starter \gset
CREATE ROLE regress_history_alice SUPERUSER LOGIN;
CREATE DATABASE regress_history TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C';
\c regress_history regress_history_alice
CREATE EXTENSION cmblock;
SET search_path = public, cmblock;
SET application_name = 'the test';

-- What a command is refused with; what it changed is undone.
CREATE FUNCTION attempt(command text) RETURNS text LANGUAGE plpgsql SET search_path = public, cmblock AS $$
DECLARE
	rows bigint;
	message text;
	hint text;
BEGIN
	EXECUTE command;
	GET DIAGNOSTICS rows = ROW_COUNT;
	RAISE SQLSTATE 'CM000' USING MESSAGE = rows;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN CASE SQLSTATE WHEN 'CM000' THEN 'CHANGED ' || message ELSE concat_ws(E'\n  ', SQLSTATE || ' ' || message, nullif(hint, '')) END;
END $$;
CREATE FUNCTION id(n int) RETURNS cmblock.smsid IMMUTABLE LANGUAGE sql AS
	$$SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid::cmblock.smsid$$;
CREATE FUNCTION sha256_of(n int) RETURNS cmblock.thumbprint LANGUAGE sql AS $$SELECT lpad(n::text, 64, '0')::cmblock.thumbprint$$;
CREATE FUNCTION certificate(n int, client cmblock.smsid) RETURNS void LANGUAGE sql AS $$
	INSERT INTO cmblock.certificate (sha256, sha1, type, client, assigned_site, subject, issuer, serial, not_before, not_after,
		self_signed, key_sha256, der)
	VALUES (public.sha256_of(n), lpad(n::text, 40, '0')::cmblock.thumbprint, 'client', client, 'P01', 'CN=' || n, 'CN=CA', '01', '2020-01-01', '2040-01-01',
		false, public.sha256_of(n), '\x30')
$$;
-- Events since the last look.
CREATE TABLE seen (id bigint);
INSERT INTO seen VALUES (0);
CREATE FUNCTION news() RETURNS SETOF text LANGUAGE sql SET search_path = public, cmblock AS $$
	WITH last AS (UPDATE seen SET id = coalesce((SELECT max(id) FROM block_event), 0) RETURNING id)
	SELECT concat_ws(' ', e.id, e.action, 'client ' || right(e.client::text, 2), 'certificate ' || right(e.certificate::text, 2),
		'at ' || e.site, 'to ' || e.to_site, 'because ' || e.reason, 'ticket ' || e.ticket, 'by ' || e.actor, 'version ' || e.version,
		-- where the session comes from, if that is not so: the tests run over sockets and over TCP
		CASE WHEN e.client_address IS DISTINCT FROM inet_client_addr() THEN 'from ' || coalesce(e.client_address::text, 'nowhere') END,
		'with ' || e.application_name)
	FROM block_event e WHERE e.id > (SELECT id FROM seen) ORDER BY e.id;
$$;
CREATE VIEW chain AS SELECT intact, events, first_broken, detail FROM verify_block_history();

SELECT setup_site('P01', 'primary', '00000000-0000-0000-0000-00000000c0de', 'CEN');
SET cmblock.restore = on;
INSERT INTO site VALUES ('P02', 'primary', 'CEN', NULL, 1, 'CEN', '1', 'somebody', now());
RESET cmblock.restore;
SELECT count(register_client(id(n), 'pc' || n)) FROM generate_series(1, 9) n;
SELECT count(certificate(n, id(n))) FROM generate_series(1, 9) n;

-- An empty chain is intact, and its head is zero.
TABLE chain;
SELECT head = decode(repeat('00', 32), 'hex') FROM verify_block_history();

-- ---------- what is recorded ----------
SELECT block_client(id(1), 'stolen', 'T-1');
SELECT unblock_client(id(1), 'found', 'T-2');
SELECT news();
-- Nothing for what changes nothing, or is neither block, deletion nor hand-over.
SELECT unblock_client(id(1), 'again');
SELECT register_client(id(1), 'renamed', approval => 1::smallint);
UPDATE client SET blocked = blocked, name = 'again' WHERE smsid = id(1);
SELECT news();
SELECT block_certificate(sha256_of(2), 'lost', 'T-3');
SELECT news();
-- Of a lot, each client that changes has its event; their order among themselves is nobody's promise.
SELECT outcome FROM block_clients(ARRAY[id(4), id(3), id(4)], reason => 'lot');
SELECT count(news());
SELECT right(client::text, 2), action, reason FROM block_event WHERE reason = 'lot' ORDER BY client;
SELECT delete_client(id(3));
SELECT reassign_client(id(4), 'P02');
-- A deleted client that is registered again and deleted again.
SELECT register_client(id(3), 'pc3');
SELECT delete_client(id(3));
SELECT news();
-- Whoever changes the table by hand is recorded, too; all three at once.
UPDATE client SET blocked = true, block_reason = 'by hand' WHERE smsid = id(5);
UPDATE client SET blocked = false, block_reason = NULL, deleted_at = now() WHERE smsid = id(5);
SELECT news();
-- No name of an application, no reason.
SET application_name = '';
SELECT block_client(id(5));
SET application_name = 'the test';
SELECT news();
-- Actor and time are those of the row.
SELECT bool_and(e.at = c.block_changed_at AND e.actor = c.block_changed_by AND e.version = c.version) FROM client c
JOIN LATERAL (SELECT * FROM block_event e WHERE e.client = c.smsid AND action IN ('blocked', 'unblocked') ORDER BY id DESC LIMIT 1) e ON true
WHERE c.smsid = id(5);
TABLE chain;

-- ---------- one transaction ----------
-- Three changes of one client are three events, in their order, and they come with the commit.
BEGIN;
SELECT block_client(id(6), 'one');
SELECT unblock_client(id(6), 'two');
SELECT block_client(id(6), 'three');
SELECT count(*) FROM block_event WHERE client = id(6);
COMMIT;
SELECT news();
-- What is rolled back leaves nothing.
BEGIN;
SELECT unblock_client(id(6), 'rolled back');
SET CONSTRAINTS ALL IMMEDIATE;
SELECT count(*) FROM block_event WHERE reason = 'rolled back';
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT unblock_client(id(6), 'rolled back');
ROLLBACK TO s;
SELECT unblock_certificate(sha256_of(2), 'kept');
COMMIT;
SELECT news();
-- The same with events written before the end, and more after.
BEGIN;
SELECT unblock_client(id(6), 'first');
SET CONSTRAINTS ALL IMMEDIATE;
SAVEPOINT s;
SELECT block_client(id(6), 'rolled back');
SELECT block_client(id(7), 'rolled back');
SAVEPOINT t;
SELECT block_client(id(8), 'rolled back');
RELEASE t;
ROLLBACK TO s;
SELECT block_client(id(6), 'second');
SAVEPOINT u;
SELECT block_client(id(7), 'third');
RELEASE u;
SET CONSTRAINTS ALL DEFERRED;
SELECT block_client(id(8), 'fourth');
COMMIT;
SELECT news();
TABLE chain;
BEGIN;
SAVEPOINT s;
SET CONSTRAINTS ALL IMMEDIATE;
SELECT unblock_client(id(6), 'rolled back');
ROLLBACK TO s;
SELECT unblock_client(id(7), 'after');
COMMIT;
SELECT news();
-- Snapshots of whole transactions.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT unblock_client(id(6), 'repeatable read');
SELECT block_client(id(7), 'repeatable read');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT block_client(id(6), 'serializable');
COMMIT;
SELECT news();
-- A trigger on the history itself, which rolls back an event of its own between two of one statement.
CREATE FUNCTION try_to_unblock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM cmblock.unblock_client(public.id(8), 'rolled back');
	RAISE EXCEPTION 'caught';
EXCEPTION WHEN OTHERS THEN
	RETURN NULL;
END $$;
CREATE TRIGGER try_to_unblock AFTER INSERT ON block_event FOR EACH ROW WHEN (NEW.action = 'blocked') EXECUTE FUNCTION try_to_unblock();
BEGIN;
SET CONSTRAINTS ALL IMMEDIATE;
UPDATE client SET blocked = true, deleted_at = now() WHERE smsid = id(9);
COMMIT;
DROP TRIGGER try_to_unblock ON block_event;
SELECT news();
TABLE chain;
-- Somebody else's deferred trigger whose EXCEPTION block rolls back, between two events of ours.
CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		RAISE EXCEPTION 'caught';
	EXCEPTION WHEN raise_exception THEN
	END;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER stumble AFTER UPDATE ON client DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION stumble();
SELECT outcome FROM block_clients(ARRAY[id(6), id(7), id(8)], false, 'stumbling');
SELECT count(news());
TABLE chain;
DROP TRIGGER stumble ON client;
-- Indexes and triggers that an administrator adds are served.
CREATE INDEX on_expression ON block_event (lower(reason));
CREATE INDEX on_some ON block_event (ticket) WHERE ticket IS NOT NULL;
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE 'event %', NEW.id;
	RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER INSERT ON block_event FOR EACH ROW EXECUTE FUNCTION tell();
ALTER TABLE block_event ADD COLUMN remark text;
SELECT block_client(id(6), 'INDEXED');
SET enable_seqscan = off;
SELECT id FROM block_event WHERE lower(reason) = 'indexed';
SELECT count(*) FROM block_event WHERE ticket IS NOT NULL;
RESET enable_seqscan;
SELECT news();
DROP TRIGGER tell ON block_event;
ALTER TABLE block_event DROP COLUMN remark;
TABLE chain;

-- ---------- append-only ----------
SELECT attempt('UPDATE block_event SET reason = ''x'' WHERE id = 1');
SELECT attempt('DELETE FROM block_event WHERE id = 1');
SELECT attempt('INSERT INTO block_event SELECT (e).* FROM block_event e LIMIT 1');
SELECT attempt('TRUNCATE block_event');
SET session_replication_role = replica;
SELECT attempt('DELETE FROM block_event WHERE id = 1');
RESET session_replication_role;

-- ---------- the format, computed by itself ----------
-- docs/security.md: SHA-256(previous_hash || fields), a field as its length in four octets and its text, null as FFFFFFFF.
CREATE FUNCTION field(value text) RETURNS bytea IMMUTABLE LANGUAGE sql AS
	$$SELECT coalesce(int4send(length(convert_to(value, 'UTF8'))) || convert_to(value, 'UTF8'), '\xffffffff')$$;
CREATE FUNCTION expected_hash(e cmblock.block_event) RETURNS bytea IMMUTABLE LANGUAGE sql AS $$
	SELECT sha256(e.previous_hash || field(e.id::text) || field(e.action::text) || field(e.client::text) || field(e.certificate::text)
		|| field(e.site::text) || field(e.to_site::text) || field(e.reason) || field(e.ticket) || field(e.actor)
		|| field((extract(epoch FROM e.at) * 1000000)::bigint::text) || field(host(e.client_address)) || field(e.application_name)
		|| field(e.version::text))
$$;
SELECT unblock_client(id(7), E'ümläut “quoted” \\ and a\nnew line', '');
SELECT count(*) = max(id), bool_and(hash = expected_hash(e)), count(DISTINCT hash) = count(*) FROM block_event e;
SELECT count(*) FROM block_event e JOIN block_event b ON b.id = e.id - 1 WHERE e.previous_hash <> b.hash;
SELECT v.head = e.hash FROM verify_block_history() v, block_event e WHERE e.id = v.events;
-- A row that was written down once: the hash does not depend on anything else.
BEGIN;
SET LOCAL cmblock.restore = on;
TRUNCATE block_event;
INSERT INTO block_event VALUES (1, 'blocked', 'GUID:00000000-0000-0000-0000-000000000001', NULL, 'P01', NULL, 'stolen', NULL, 'alice', '2026-01-01 00:00:00Z', '192.0.2.1', 'psql', 2,
	decode(repeat('00', 32), 'hex'),
	sha256(decode(repeat('00', 32), 'hex') || '\x00000001' || '1' || '\x00000007' || 'blocked'
		|| '\x00000029' || 'GUID:00000000-0000-0000-0000-000000000001' || '\xffffffff' || '\x00000003' || 'P01' || '\xffffffff'
		|| '\x00000006' || 'stolen' || '\xffffffff' || '\x00000005' || 'alice' || '\x00000010' || '1767225600000000'
		|| '\x00000009' || '192.0.2.1' || '\x00000004' || 'psql' || '\x00000001' || '2'));
TABLE chain;
SELECT head FROM verify_block_history();
ROLLBACK;

-- ---------- a superuser who disables the triggers and tampers is found out ----------
ALTER TABLE block_event DISABLE TRIGGER ALL;
CREATE FUNCTION tampered(command text) RETURNS SETOF chain LANGUAGE plpgsql SET search_path = public, cmblock AS $$
BEGIN
	BEGIN
		EXECUTE command;
		RETURN QUERY TABLE chain;
		RAISE SQLSTATE 'CM000';
	EXCEPTION WHEN SQLSTATE 'CM000' THEN
	END;
END $$;
SELECT column_name, (tampered(format('UPDATE block_event SET %I = %s WHERE id = 4', column_name, CASE column_name
	WHEN 'id' THEN '1000' WHEN 'action' THEN '''deleted''' WHEN 'client' THEN 'id(1), certificate = NULL' WHEN 'certificate' THEN 'sha256_of(5), client = NULL'
	WHEN 'site' THEN '''P03''' WHEN 'to_site' THEN '''P03''' WHEN 'at' THEN 'at + interval ''1 microsecond''' WHEN 'client_address' THEN '''192.0.2.1'''
	WHEN 'version' THEN '77' WHEN 'previous_hash' THEN 'hash' WHEN 'hash' THEN 'previous_hash' ELSE '''''' END))).*
FROM information_schema.columns WHERE (table_schema, table_name) = ('cmblock', 'block_event') ORDER BY ordinal_position;
SELECT * FROM tampered('UPDATE block_event SET reason = NULL WHERE id = 1');
SELECT * FROM tampered('DELETE FROM block_event WHERE id = 1');
SELECT * FROM tampered('DELETE FROM block_event WHERE id = 7');
SELECT * FROM tampered('UPDATE block_event a SET hash = b.hash FROM block_event b WHERE (a.id, b.id) IN ((3, 4), (4, 3))');
SELECT * FROM tampered('UPDATE block_event a SET hash = b.hash, previous_hash = b.previous_hash FROM block_event b WHERE (a.id, b.id) IN ((3, 4), (4, 3))');
-- Text moved from one field to the next: the lengths tell.
SELECT * FROM tampered('UPDATE block_event SET reason = ''stole'', ticket = ''nT-1'' WHERE id = 1');
-- A forged event at the end, with a hash of its own.
SELECT * FROM tampered('INSERT INTO block_event SELECT max(id) + 1, ''blocked'', id(1), NULL, ''P01'', NULL, NULL, NULL, ''x'', now(), NULL, NULL, 1, sha256(''''), sha256(''x'') FROM block_event');
-- One deleted and the rest renumbered.
SELECT * FROM tampered('DELETE FROM block_event WHERE id = 7; UPDATE block_event SET id = -id WHERE id > 7; UPDATE block_event SET id = -id - 1 WHERE id < 0');
-- One changed and its hash made to fit: the next row tells.
SELECT * FROM tampered('UPDATE block_event SET actor = ''x'' WHERE id = 7; UPDATE block_event e SET hash = expected_hash(e) WHERE id = 7');
-- Cut at the end: the chain verifies, and only a head that was kept elsewhere tells, as the documents say.
SELECT intact FROM tampered('DELETE FROM block_event WHERE id > 7');
ALTER TABLE block_event ENABLE TRIGGER ALL;
ALTER TABLE block_event ENABLE ALWAYS TRIGGER guard, ENABLE ALWAYS TRIGGER guard_truncate;
SELECT intact, detail FROM chain;

-- ---------- text that is no UTF-8 ----------
-- Whoever has such a name can be blocked like anybody else.
\c :start
CREATE DATABASE regress_history_ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C';
\c regress_history_ascii
CREATE EXTENSION cmblock;
SELECT cmblock.setup_site('P01', 'primary');
SELECT cmblock.register_client('11111111-1111-1111-1111-111111111111', E'caf\xE9');
SET client_min_messages = error;
SELECT cmblock.block_client('11111111-1111-1111-1111-111111111111', E'vol\xE9');
SELECT intact, events FROM cmblock.verify_block_history();
\c :start
DROP DATABASE regress_history_ascii;
CREATE DATABASE regress_history_win TEMPLATE template0 ENCODING 'WIN1252' LOCALE 'C';
\c regress_history_win
CREATE EXTENSION cmblock;
SELECT cmblock.setup_site('P01', 'primary');
SELECT cmblock.register_client('11111111-1111-1111-1111-111111111111', E'no \x81, but \xE9');
SET client_min_messages = error;
SELECT cmblock.block_client('11111111-1111-1111-1111-111111111111');
SELECT intact, events FROM cmblock.verify_block_history();
\c :start
DROP DATABASE regress_history_win;

\c :start :starter
DROP DATABASE regress_history;
DROP ROLE regress_history_alice;
