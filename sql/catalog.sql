-- What an administrator sees of the extension in psql: each of these lists should be empty.
SELECT current_database() AS start \gset
CREATE DATABASE regress_catalog;
\c regress_catalog
CREATE EXTENSION cmblock;

-- ---------- \d+, \df+, \dT+, \do+ and so on say what a thing is ----------
SELECT pg_describe_object(d.classid, d.objid, d.objsubid) AS without_comment
	FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	WHERE e.extname = 'cmblock' AND d.deptype = 'e'
	-- since PostgreSQL 18 the types of tables and arrays are members, too
	  AND NOT EXISTS (SELECT FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
	                  WHERE d.classid = 'pg_type'::regclass AND t.oid = d.objid AND (t.typcategory = 'A' OR c.relkind <> 'c'))
	  AND NOT EXISTS (SELECT FROM pg_description x WHERE x.objoid = d.objid AND x.classoid = d.classid AND x.objsubid = 0)
	ORDER BY 1;
SELECT format('%s.%I', a.attrelid::regclass, a.attname) AS column_without_comment
	FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
	WHERE c.relnamespace = 'cmblock'::regnamespace AND c.relkind IN ('r', 'v', 'c') AND a.attnum > 0 AND NOT a.attisdropped
	  AND col_description(a.attrelid, a.attnum) IS NULL
	ORDER BY 1;
SELECT format('%I on %s', t.tgname, t.tgrelid::regclass) AS trigger_without_comment
	FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
	WHERE c.relnamespace = 'cmblock'::regnamespace AND NOT t.tgisinternal AND obj_description(t.oid, 'pg_trigger') IS NULL
	ORDER BY 1;
SELECT i.indexrelid::regclass AS index_without_comment
	FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
	WHERE c.relnamespace = 'cmblock'::regnamespace AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = c.oid)
	  AND obj_description(c.oid, 'pg_class') IS NULL
	ORDER BY 1;

-- ---------- arguments have names, and functions a search_path of their own where they act for their owner ----------
SELECT p.oid::regprocedure AS arguments_without_names
	FROM pg_proc p
	WHERE p.pronamespace = 'cmblock'::regnamespace AND p.pronargs > 0 AND p.proargnames IS NULL
	  AND p.proname !~ '^(site_code|smsid|thumbprint|certificate_serial)' AND p.prokind = 'f'
	ORDER BY p.oid::regprocedure::text;
SELECT p.oid::regprocedure AS acts_for_its_owner_without_search_path
	FROM pg_proc p
	WHERE p.pronamespace = 'cmblock'::regnamespace AND p.prosecdef
	  AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)
	ORDER BY p.oid::regprocedure::text;

-- ---------- everything is in schema cmblock, but for the comparison operators, min and max ----------
SELECT pg_describe_object(d.classid, d.objid, d.objsubid) AS elsewhere
	FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid,
	     pg_identify_object(d.classid, d.objid, d.objsubid) o
	WHERE e.extname = 'cmblock' AND d.deptype = 'e'
	  AND coalesce(o.schema, 'cmblock') <> 'cmblock' AND o.type <> 'operator' AND o.identity !~ '^pg_catalog\.(min|max)\('
	ORDER BY 1;

-- ---------- no index changes its order with the operating system, but that of names, which are only a likeness ----------
SELECT i.indexrelid::regclass AS index_with_a_collation
	FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
	WHERE c.relnamespace = 'cmblock'::regnamespace AND c.relname <> 'client_name'
	  AND EXISTS (SELECT FROM unnest(i.indcollation) o (used) WHERE o.used NOT IN (0, '"C"'::regcollation))
	ORDER BY 1;

-- ---------- settings: what is a time or an amount of memory has its unit, and all have a description ----------
SELECT name AS setting_without_unit FROM pg_settings
	WHERE name LIKE 'cmblock.%' AND unit IS NULL AND name ~ '(timeout|interval|_max|_age|_size)$';
SELECT name AS setting_without_description FROM pg_settings WHERE name LIKE 'cmblock.%' AND coalesce(short_desc, '') = '';

\c :start
DROP DATABASE regress_catalog;
