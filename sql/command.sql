-- What all commands have in common: a null where a value is needed and a read-only transaction are refused.
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
SELECT current_database() AS start \gset
CREATE DATABASE regress_command TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C';
\c regress_command
CREATE EXTENSION cmblock;

CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	RAISE SQLSTATE 'CM000';
EXCEPTION WHEN OTHERS THEN
	RETURN CASE SQLSTATE WHEN 'CM000' THEN 'done' ELSE SQLSTATE || ' ' || SQLERRM END;
END $$;
-- Every function that may do something, but those that neighbours call, with nulls and with values of the right types.
CREATE VIEW command AS
	SELECT p.proname AS name,
		format('SELECT cmblock.%I(%s)', p.proname, (SELECT string_agg('NULL::' || format_type(t.oid, NULL), ', ') FROM unnest(p.proargtypes) t (oid))) AS with_nulls,
		format('SELECT cmblock.%I(%s)', p.proname, (SELECT string_agg(format('%L::%s', CASE
			WHEN y.typtype = 'e' THEN (SELECT enumlabel FROM pg_enum WHERE enumtypid = y.oid ORDER BY enumsortorder LIMIT 1)
			WHEN y.typcategory = 'A' THEN '{}'
			ELSE (jsonb_build_object('smsid', '00000000-0000-0000-0000-000000000001', 'site_code', 'P01', 'thumbprint', repeat('0', 40),
				'bytea', '\x30', 'bool', 'on', 'int4', '1', 'uuid', '00000000-0000-0000-0000-000000000001', 'interval', '1 s', 'text', 'x', 'name', 'x') ->> y.typname) END,
			format_type(y.oid, NULL)), ', ' ORDER BY n) FROM unnest(p.proargtypes) WITH ORDINALITY t (oid, n) JOIN pg_type y ON y.oid = t.oid)) AS with_values
	FROM pg_proc p
	WHERE p.pronamespace = 'cmblock'::regnamespace AND p.provolatile = 'v' AND p.prorettype <> 'trigger'::regtype
		AND p.proname <> 'fdw_validator' AND p.proargnames[1] IS DISTINCT FROM 'protocol';
SET client_min_messages = error;
\set ECHO all

-- Nothing that changes something is strict: a void result would look as if it had done its work.
SELECT proname FROM pg_proc WHERE pronamespace = 'cmblock'::regnamespace AND proisstrict AND pronargs > 0 AND prorettype = 'void'::regtype
	AND proname !~ '_sortsupport$' ORDER BY 1;
-- The first argument that has to be given. What is not here asks for none.
SELECT try(with_nulls) FROM command WHERE try(with_nulls) LIKE '22004%' ORDER BY name;
BEGIN READ ONLY;
SELECT try(with_values) FROM command WHERE try(with_values) LIKE '25006%' ORDER BY name;
-- These write nothing.
SELECT name FROM command WHERE try(with_values) NOT LIKE '25006%' ORDER BY name;
ROLLBACK;

-- ---------- not a site yet ----------
SELECT try($$SELECT cmblock.delete_client('00000000-0000-0000-0000-000000000001')$$);
SELECT try($$SELECT cmblock.reassign_client('00000000-0000-0000-0000-000000000001', 'P02')$$);

\set ECHO none
\c :start
DROP DATABASE regress_command;
