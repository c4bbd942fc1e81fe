-- Privileges: five kinds of user, what each may call and read, and that PUBLIC may nothing.
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
SELECT current_database() AS start, current_user AS starter \gset
CREATE ROLE regress_block_changer LOGIN;
CREATE ROLE regress_pki_administrator LOGIN;
CREATE ROLE regress_site_system LOGIN;
CREATE ROLE regress_replication_peer LOGIN;
CREATE ROLE regress_reader LOGIN;
CREATE ROLE regress_nobody LOGIN;
CREATE DATABASE regress_privileges TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C';
\c regress_privileges
CREATE EXTENSION cmblock;
CREATE TABLE kind (name text PRIMARY KEY);
INSERT INTO kind VALUES ('block_changer'), ('pki_administrator'), ('site_system'), ('replication_peer'), ('reader');

-- What a command is refused with; what it changed is undone.
CREATE FUNCTION attempt(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	RAISE SQLSTATE 'CM000';
EXCEPTION WHEN OTHERS THEN
	RETURN CASE SQLSTATE WHEN 'CM000' THEN 'done' WHEN '42501' THEN '42501 ' || SQLERRM ELSE SQLSTATE END;
END $$;
-- All a role may: functions, and relations with the kind of access.
CREATE FUNCTION allowed(role name) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT p.proname FROM pg_proc p
	WHERE p.pronamespace = 'cmblock'::regnamespace AND p.proname !~ '^(site_code|smsid|thumbprint|certificate_serial)' AND p.prokind <> 'a'
	  AND has_function_privilege(role, p.oid, 'EXECUTE')
	UNION ALL
	SELECT r.relname || ' ' || privilege FROM pg_class r, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) privilege
	WHERE r.relnamespace = 'cmblock'::regnamespace AND r.relkind IN ('r', 'v', 'm', 'p', 'f') AND has_table_privilege(role, r.oid, privilege)
	ORDER BY 1
$$;

-- ---------- nobody may anything ----------
SELECT allowed('regress_nobody');
SELECT has_schema_privilege('regress_nobody', 'cmblock', 'USAGE'), has_schema_privilege('regress_nobody', 'cmblock', 'CREATE');
\c - regress_nobody
SELECT attempt(command) FROM (VALUES ('SELECT cmblock.version()'), ('SELECT * FROM cmblock.client'), ('SELECT ''P01''::cmblock.site_code')) v (command);
\c - :starter
-- Nor with the schema open.
GRANT USAGE ON SCHEMA cmblock TO regress_nobody;
\c - regress_nobody
SELECT attempt(command) FROM (VALUES ('SELECT cmblock.version()'), ('SELECT * FROM cmblock.client'), ('SELECT cmblock.is_allowed()'),
	('SELECT cmblock.grant_privilege(''regress_nobody'', ''reader'')'), ('CREATE TABLE cmblock.trap ()'), ('SELECT ''P01''::cmblock.site_code')) v (command);
\c - :starter
REVOKE USAGE ON SCHEMA cmblock FROM regress_nobody;

-- ---------- granting ----------
SELECT attempt($$SELECT cmblock.grant_privilege('regress_reader', 'administrator')$$);
DO $$
DECLARE
	detail text;
BEGIN
	PERFORM cmblock.grant_privilege('regress_reader', 'administrator');
EXCEPTION WHEN invalid_parameter_value THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RAISE NOTICE '% / %', SQLERRM, detail;
END $$;
SELECT attempt($$SELECT cmblock.grant_privilege('regress_unknown', 'reader')$$), attempt($$SELECT cmblock.grant_privilege('public', 'reader')$$),
	attempt($$SELECT cmblock.revoke_privilege('regress_unknown', 'reader')$$), attempt($$SELECT cmblock.revoke_privilege('regress_reader', 'x')$$);
SELECT attempt($$SELECT cmblock.grant_privilege(NULL, 'reader')$$), attempt($$SELECT cmblock.grant_privilege('regress_reader', NULL)$$);
SELECT count(cmblock.grant_privilege(('regress_' || name)::name, name)) FROM kind;
-- twice is once
SELECT count(cmblock.grant_privilege(('regress_' || name)::name, name)) FROM kind;

-- ---------- who may what ----------
-- Each function of the schema, and who may call it. Whoever adds one decides here; no kind at all: the owner only.
SELECT p.proname, coalesce(string_agg(kind.name, ', ' ORDER BY kind.name) FILTER (WHERE has_function_privilege('regress_' || kind.name, p.oid, 'EXECUTE')), '-')
FROM pg_proc p, kind
WHERE p.pronamespace = 'cmblock'::regnamespace AND p.proname !~ '^(site_code|smsid|thumbprint|certificate_serial)' AND p.prokind <> 'a'
GROUP BY p.oid ORDER BY 1;
-- The data types' own functions are for everybody who may use the schema: they touch no data.
SELECT count(*) FROM pg_proc p WHERE p.pronamespace = 'cmblock'::regnamespace AND p.proname ~ '^(site_code|smsid|thumbprint|certificate_serial)'
	AND (NOT has_function_privilege('public', p.oid, 'EXECUTE') OR p.provolatile <> 'i' OR p.prosecdef);
-- Each relation, and who may read it; nobody writes.
SELECT r.relname, coalesce(string_agg(kind.name, ', ' ORDER BY kind.name) FILTER (WHERE has_table_privilege('regress_' || kind.name, r.oid, 'SELECT')), '-')
FROM pg_class r, kind
WHERE r.relnamespace = 'cmblock'::regnamespace AND r.relkind IN ('r', 'v', 'm', 'p', 'f')
GROUP BY r.oid ORDER BY 1;
SELECT kind.name, r.relname FROM pg_class r, kind
WHERE r.relnamespace = 'cmblock'::regnamespace AND r.relkind IN ('r', 'v', 'm', 'p', 'f')
	AND has_table_privilege('regress_' || kind.name, r.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER');
-- A SECURITY DEFINER function must not be led astray by the caller's search_path.
SELECT proname FROM pg_proc WHERE pronamespace = 'cmblock'::regnamespace AND prosecdef
	AND (proconfig IS NULL OR NOT 'search_path=pg_catalog, pg_temp' = ANY (proconfig));

-- ---------- the same by trying ----------
SELECT cmblock.setup_site('P01', 'primary');
SELECT cmblock.register_client('00000000-0000-0000-0000-000000000001', 'pc1', approval => 1::smallint);
CREATE TABLE try (n int GENERATED ALWAYS AS IDENTITY, command text);
INSERT INTO try (command) VALUES
	('SELECT cmblock.block_client(''00000000-0000-0000-0000-000000000001'')'),
	('SELECT cmblock.unblock_client(''00000000-0000-0000-0000-000000000001'')'),
	('SELECT * FROM cmblock.block_clients(ARRAY[''00000000-0000-0000-0000-000000000001'']::cmblock.smsid[])'),
	('SELECT cmblock.block_certificate(repeat(''00'', 32)::cmblock.thumbprint)'),
	('SELECT cmblock.unblock_certificate(repeat(''00'', 32)::cmblock.thumbprint)'),
	('SELECT cmblock.register_client(''00000000-0000-0000-0000-000000000002'', ''pc2'')'),
	('SELECT cmblock.register_certificate(''\x30'')'),
	('SELECT cmblock.delete_client(''00000000-0000-0000-0000-000000000001'')'),
	('SELECT cmblock.reassign_client(''00000000-0000-0000-0000-000000000001'', ''P01'')'),
	('SELECT cmblock.is_allowed(''00000000-0000-0000-0000-000000000001'', transport => ''http'')'),
	('SELECT * FROM cmblock.check_access(''00000000-0000-0000-0000-000000000001'', transport => ''http'')'),
	('SELECT * FROM cmblock.explain_access(''00000000-0000-0000-0000-000000000001'', transport => ''http'')'),
	('SELECT * FROM cmblock.verify_block_history()'),
	('SELECT cmblock.add_certificate_authority(''\x30'')'),
	('SELECT cmblock.remove_certificate_authority(repeat(''00'', 32)::cmblock.thumbprint)'),
	('SELECT cmblock.setup_site(''P02'', ''primary'')'),
	('SELECT cmblock.add_site(''S01'', ''secondary'', ''P01'')'),
	('SELECT cmblock.retire_site(''S01'')'),
	('SELECT cmblock.grant_privilege(current_user, ''block_changer'')'),
	('SELECT cmblock.revoke_privilege(current_user, ''block_changer'')'),
	('SELECT cmblock.version()'),
	('SELECT * FROM cmblock.blocked_client'),
	('SELECT * FROM cmblock.blocked_certificate'),
	('SELECT * FROM cmblock.block_history'),
	('SELECT * FROM cmblock.suspected_rejoin'),
	('SELECT * FROM cmblock.replication_status'),
	('SELECT * FROM cmblock.client'),
	('SELECT * FROM cmblock.block_event'),
	('UPDATE cmblock.client SET blocked = false'),
	('INSERT INTO cmblock.block_event SELECT * FROM cmblock.block_event'),
	('DELETE FROM cmblock.certificate'),
	('TRUNCATE cmblock.client');
CREATE TABLE outcome (kind text, n int, outcome text);
GRANT SELECT ON try TO PUBLIC;
GRANT INSERT ON outcome TO PUBLIC;
SET client_min_messages = error;
ALTER DATABASE regress_privileges SET client_min_messages = error;
\c - regress_block_changer
INSERT INTO outcome SELECT 'block_changer', n, attempt(command) FROM try ORDER BY n;
\c - regress_pki_administrator
INSERT INTO outcome SELECT 'pki_administrator', n, attempt(command) FROM try ORDER BY n;
\c - regress_site_system
INSERT INTO outcome SELECT 'site_system', n, attempt(command) FROM try ORDER BY n;
\c - regress_replication_peer
INSERT INTO outcome SELECT 'replication_peer', n, attempt(command) FROM try ORDER BY n;
\c - regress_reader
INSERT INTO outcome SELECT 'reader', n, attempt(command) FROM try ORDER BY n;
\c - regress_nobody
INSERT INTO outcome SELECT 'nobody', n, attempt(command) FROM try ORDER BY n;
\c - :starter
-- 42501 is "no privilege"; any other outcome is that of the command itself.
\pset tuples_only off
SELECT command, max(o) FILTER (WHERE kind = 'block_changer') AS block_changer, max(o) FILTER (WHERE kind = 'pki_administrator') AS pki_administrator,
	max(o) FILTER (WHERE kind = 'site_system') AS site_system, max(o) FILTER (WHERE kind = 'replication_peer') AS replication_peer,
	max(o) FILTER (WHERE kind = 'reader') AS reader, max(o) FILTER (WHERE kind = 'nobody') AS nobody
FROM try JOIN outcome USING (n), LATERAL (SELECT left(outcome, 5)) l (o)
GROUP BY n, command ORDER BY n;
\pset tuples_only on

-- ---------- who did it: the login role, whatever role it took ----------
CREATE ROLE regress_team;
SELECT cmblock.grant_privilege('regress_team', 'block_changer');
GRANT regress_team TO regress_nobody;
\c - regress_nobody
SET ROLE regress_team;
SELECT cmblock.block_client('00000000-0000-0000-0000-000000000001', 'as a member of the team');
SELECT actor, reason FROM cmblock.block_history;
SELECT blocked_by FROM cmblock.blocked_client;
\c - :starter
-- A superuser who lends himself a session is that session's role.
SET SESSION AUTHORIZATION regress_block_changer;
SELECT cmblock.unblock_client('00000000-0000-0000-0000-000000000001');
RESET SESSION AUTHORIZATION;
SELECT actor, action FROM cmblock.block_history ORDER BY id;

-- ---------- revoking ----------
CREATE TABLE block_changer AS SELECT allowed('regress_block_changer');
-- A role of two kinds keeps what the other needs, whichever is revoked.
SELECT cmblock.grant_privilege('regress_block_changer', 'reader');
SELECT cmblock.grant_privilege('regress_block_changer', 'pki_administrator');
SELECT cmblock.revoke_privilege('regress_block_changer', 'pki_administrator');
SELECT allowed('regress_block_changer') EXCEPT (SELECT allowed('regress_reader') UNION TABLE block_changer);
SELECT cmblock.revoke_privilege('regress_block_changer', 'reader');
(SELECT allowed('regress_block_changer') EXCEPT TABLE block_changer) UNION (TABLE block_changer EXCEPT SELECT allowed('regress_block_changer'));
SELECT cmblock.revoke_privilege('regress_block_changer', 'site_system');
(SELECT allowed('regress_block_changer') EXCEPT TABLE block_changer) UNION (TABLE block_changer EXCEPT SELECT allowed('regress_block_changer'));
SELECT cmblock.grant_privilege('regress_block_changer', 'reader');
SELECT cmblock.revoke_privilege('regress_block_changer', 'block_changer');
(SELECT allowed('regress_block_changer') EXCEPT SELECT allowed('regress_reader')) UNION (SELECT allowed('regress_reader') EXCEPT SELECT allowed('regress_block_changer'));
SELECT cmblock.revoke_privilege('regress_block_changer', 'reader');
-- And in the end nothing is left, of any kind; revoking what is not there is no error.
SELECT count(cmblock.revoke_privilege(('regress_' || name)::name, name)) FROM kind;
SELECT count(cmblock.revoke_privilege(('regress_' || name)::name, name)) FROM kind;
SELECT name, allowed('regress_' || name) FROM kind;
SELECT cmblock.revoke_privilege('regress_team', 'block_changer');
SELECT allowed('regress_team');

\c :start :starter
DROP DATABASE regress_privileges;
DROP ROLE regress_block_changer, regress_pki_administrator, regress_site_system, regress_replication_peer, regress_reader, regress_nobody, regress_team;
