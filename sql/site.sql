-- Sites: who a database is, the rules of the tree, and that a session never believes a set-up that did not happen.
-- One database is one site, so the test makes a database for each.
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
SELECT current_database() AS start \gset
CREATE DATABASE regress_site_template TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C';
\c regress_site_template
CREATE EXTENSION cmblock;

-- What a command is refused with, or what it returned.
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE command INTO result;
	RETURN 'ok ' || coalesce(result, '');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n  ', SQLSTATE || ' ' || message, nullif(detail, ''), nullif(hint, ''));
END $$;
CREATE VIEW tree AS
	SELECT code, kind, parent, retired_at IS NOT NULL AS retired, version, origin_site FROM cmblock.site ORDER BY code;
\c :start
CREATE DATABASE regress_site_cen TEMPLATE regress_site_template;
CREATE DATABASE regress_site_p01 TEMPLATE regress_site_template;
CREATE DATABASE regress_site_s01 TEMPLATE regress_site_template;
CREATE DATABASE regress_site_alone TEMPLATE regress_site_template;

-- ---------- before set-up ----------
\c regress_site_alone
SELECT try($$SELECT cmblock.add_site('S01', 'secondary', 'P01')$$);
SELECT try($$SELECT cmblock.retire_site('S01')$$);
SELECT try($$SELECT cmblock.register_client('11111111-1111-1111-1111-111111111111', 'pc')$$);

-- ---------- set-up that is refused ----------
SELECT try($$SELECT cmblock.setup_site(NULL, 'primary')$$);
SELECT try($$SELECT cmblock.setup_site('P01', NULL)$$);
SELECT try($$SELECT cmblock.setup_site('P01', 'primary', NULL)$$);
SELECT try($$SELECT cmblock.setup_site('AUX', 'primary')$$);
SELECT try($$SELECT cmblock.setup_site('P01', 'tertiary')$$);
SELECT try($$SELECT cmblock.setup_site('CEN', 'central', parent => 'P01')$$);
SELECT try($$SELECT cmblock.setup_site('S01', 'secondary')$$);
SELECT try($$SELECT cmblock.setup_site('P01', 'primary', parent => 'p01')$$);
SELECT count(*) FROM cmblock.this_site;

-- ---------- a set-up that is rolled back is forgotten, in this session too ----------
BEGIN;
SELECT cmblock.setup_site('P01', 'primary');
SELECT cmblock.register_client('11111111-1111-1111-1111-111111111111', 'pc');
ROLLBACK;
SELECT try($$SELECT cmblock.register_client('11111111-1111-1111-1111-111111111111', 'pc')$$);
BEGIN;
SAVEPOINT s;
SELECT cmblock.setup_site('P01', 'primary');
SELECT cmblock.add_site('S01', 'secondary', 'P01');
ROLLBACK TO s;
SELECT try($$SELECT cmblock.add_site('S01', 'secondary', 'P01')$$);
SELECT cmblock.setup_site('P02', 'primary');
SELECT cmblock.add_site('S02', 'secondary', 'P02');
ROLLBACK;
SELECT count(*) FROM cmblock.this_site;
-- ---------- a stand-alone primary needs one call ----------
SELECT cmblock.setup_site('p01', 'primary');
SELECT code, kind, hierarchy IS NOT NULL, parent, set_up_by = session_user, set_up_at <= now() FROM cmblock.this_site;
SELECT try($$SELECT cmblock.setup_site('P01', 'primary')$$);
SELECT try($$SELECT cmblock.setup_site('P02', 'primary')$$);
SELECT try($$SELECT cmblock.add_site('CEN', 'central', 'P01')$$);
SELECT try($$SELECT cmblock.add_site('P02', 'primary', 'P01')$$);
SELECT cmblock.add_site('S01', 'secondary', 'P01');
SELECT cmblock.register_client('11111111-1111-1111-1111-111111111111', 'pc');
SELECT * FROM tree;

-- ---------- dropped and created again in one session: another site, no old plan, no old identity ----------
DROP EXTENSION cmblock CASCADE;
SELECT try($$SELECT cmblock.add_site('S01', 'secondary', 'P01')$$);
CREATE EXTENSION cmblock;
SELECT try($$SELECT cmblock.add_site('S01', 'secondary', 'P01')$$);
SELECT cmblock.setup_site('P09', 'primary');
SELECT cmblock.add_site('S09', 'secondary', 'P09');
SELECT cmblock.register_client('11111111-1111-1111-1111-111111111111', 'pc');
SELECT cmblock.block_client('11111111-1111-1111-1111-111111111111');
SELECT assigned_site, blocked, version FROM cmblock.client;
SELECT code, kind, parent FROM cmblock.site ORDER BY code;
SELECT intact, events FROM cmblock.verify_block_history();
-- The same with the new extension rolled back.
BEGIN;
DROP EXTENSION cmblock;
CREATE EXTENSION cmblock;
SELECT cmblock.setup_site('P08', 'primary');
SELECT cmblock.register_client('11111111-1111-1111-1111-111111111111', 'pc');
ROLLBACK;
SELECT cmblock.unblock_client('11111111-1111-1111-1111-111111111111');
SELECT assigned_site, blocked, version FROM cmblock.client;
SELECT intact, events FROM cmblock.verify_block_history();

-- ---------- the central site ----------
\c regress_site_cen
SELECT cmblock.setup_site('CEN', 'central', '00000000-0000-0000-0000-00000000c0de');
SELECT hierarchy FROM cmblock.this_site;
SELECT cmblock.add_site('P01', 'primary', 'CEN');
SELECT cmblock.add_site('P02', 'primary', 'CEN');
-- again is no error
SELECT cmblock.add_site('P02', 'primary', 'CEN');
SELECT try($$SELECT cmblock.add_site('CEN', 'central', 'CEN')$$);
SELECT try($$SELECT cmblock.add_site('C02', 'central', 'CEN')$$);
SELECT try($$SELECT cmblock.add_site('S01', 'secondary', 'CEN')$$);
SELECT try($$SELECT cmblock.add_site('P03', 'primary', 'P01')$$);
SELECT try($$SELECT cmblock.add_site('P03', 'primary', 'XXX')$$);
SELECT try($$SELECT cmblock.add_site('P02', 'secondary', 'P01')$$);
-- The central site may add below a primary of its own.
SELECT cmblock.add_site('S02', 'secondary', 'P02');
SELECT try($$SELECT cmblock.add_site('S02', 'secondary', 'P01')$$);
SELECT try($$SELECT cmblock.add_site('S03', 'secondary', 'S02')$$);
-- A null is refused: to do nothing would look the same as having done it.
SELECT try($$SELECT cmblock.add_site(NULL, 'primary', 'CEN')$$);
SELECT try($$SELECT cmblock.add_site('P03', NULL, 'CEN')$$);
SELECT try($$SELECT cmblock.add_site('P03', 'primary', NULL)$$);
SELECT try($$SELECT cmblock.retire_site(NULL)$$);
SELECT * FROM tree;

-- ---------- a central site has no clients of its own ----------
SELECT try($$SELECT cmblock.register_client('11111111-1111-1111-1111-111111111111', 'pc')$$);

-- ---------- retiring ----------
SELECT try($$SELECT cmblock.retire_site('XXX')$$);
SELECT try($$SELECT cmblock.retire_site('CEN')$$);
SELECT try($$SELECT cmblock.retire_site('P02')$$);
SELECT cmblock.retire_site('S02');
-- again is no error
SELECT cmblock.retire_site('S02');
-- A row as replication brings it: P02 has a client.
SET cmblock.restore = on;
INSERT INTO cmblock.client VALUES ('22222222-2222-2222-2222-222222222222', 'pc2', 'computer', 'P02', NULL, 2, false,
	now(), NULL, false, NULL, NULL, NULL, NULL, 1, 'P02', '1', 'somebody', now());
RESET cmblock.restore;
SELECT try($$SELECT cmblock.retire_site('P02')$$);
-- A deleted client keeps no site alive.
SET cmblock.restore = on;
UPDATE cmblock.client SET deleted_at = now();
RESET cmblock.restore;
SELECT cmblock.retire_site('P02');
SELECT * FROM tree;
-- Nothing comes below a retired site.
SELECT try($$SELECT cmblock.add_site('S04', 'secondary', 'P02')$$);
-- Codes: a primary's never again, a secondary's yes, also below another primary.
SELECT try($$SELECT cmblock.add_site('P02', 'primary', 'CEN')$$);
SELECT try($$SELECT cmblock.add_site('P02', 'secondary', 'P01')$$);
SELECT try($$SELECT cmblock.add_site('S02', 'primary', 'CEN')$$);
SELECT cmblock.add_site('S02', 'secondary', 'P01');
SELECT * FROM tree;

-- ---------- a primary below the central site ----------
\c regress_site_p01
SELECT cmblock.setup_site('P01', 'primary', '00000000-0000-0000-0000-00000000c0de', 'CEN');
SELECT * FROM tree;
SELECT cmblock.add_site('S01', 'secondary', 'P01');
SELECT try($$SELECT cmblock.add_site('P02', 'primary', 'CEN')$$);
SELECT try($$SELECT cmblock.add_site('S02', 'secondary', 'P02')$$);
SELECT try($$SELECT cmblock.add_site('S03', 'secondary', 'S01')$$);
SELECT try($$SELECT cmblock.retire_site('CEN')$$);
SELECT try($$SELECT cmblock.retire_site('P01')$$);
SELECT cmblock.retire_site('S01');
SELECT cmblock.add_site('S01', 'secondary', 'P01');
SELECT * FROM tree;

-- ---------- a secondary site adds and retires nothing ----------
\c regress_site_s01
SELECT cmblock.setup_site('S01', 'secondary', '00000000-0000-0000-0000-00000000c0de', 'P01');
SELECT * FROM tree;
SELECT try($$SELECT cmblock.add_site('S02', 'secondary', 'P01')$$);
SELECT try($$SELECT cmblock.add_site('S02', 'secondary', 'S01')$$);
SELECT try($$SELECT cmblock.retire_site('P01')$$);
SELECT try($$SELECT cmblock.retire_site('S01')$$);
SELECT try($$SELECT cmblock.register_client('11111111-1111-1111-1111-111111111111', 'pc')$$);

-- ---------- an encoding that other sites may not have ----------
CREATE DATABASE regress_latin1 TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C';
\c regress_latin1
CREATE EXTENSION cmblock;
BEGIN;
SELECT cmblock.setup_site('P01', 'primary');
ROLLBACK;
SELECT cmblock.setup_site('P01', 'primary', parent => 'CEN');
\c :start
DROP DATABASE regress_latin1;
\c :start
DROP DATABASE regress_site_cen;
DROP DATABASE regress_site_p01;
DROP DATABASE regress_site_s01;
DROP DATABASE regress_site_alone;
DROP DATABASE regress_site_template;
