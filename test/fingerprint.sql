-- What an extension consists of, for comparison: a line for each property of each of its objects, names instead of object
-- identifiers, the effect of privileges instead of how they are stored. Not in it: what differs from server to server.
--
-- psql variable: extension
SET search_path = pg_catalog;

WITH extension AS (
	SELECT oid, extconfig, extcondition, extrelocatable, extnamespace::regnamespace FROM pg_extension WHERE extname = :'extension'
), member AS (
	SELECT d.classid, d.objid, o.type || ' ' || o.identity AS name
	FROM pg_depend d JOIN extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid,
	     pg_identify_object(d.classid, d.objid, 0) o
	WHERE d.deptype = 'e'
), relation AS (
	SELECT m.name, c.* FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
), "column" AS (
	SELECT r.name, a.*, row_number() OVER (PARTITION BY r.oid ORDER BY a.attnum) AS place,
	       pg_get_expr(d.adbin, d.adrelid) AS expression,
	       -- those that can be set; a server may note more
	       ARRAY(SELECT o FROM unnest(a.attoptions) o WHERE o LIKE 'n_distinct%' ORDER BY 1) AS set_options
	FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
	LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
), acl AS (
	SELECT m.name, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
	FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
	UNION ALL
	SELECT r.name, aclexplode(coalesce(r.relacl, acldefault(CASE r.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", r.relowner)))
	FROM relation r
	UNION ALL
	SELECT c.name || ', column ' || c.attname, aclexplode(c.attacl) FROM "column" c
	UNION ALL
	SELECT m.name, aclexplode(coalesce(t.typacl, acldefault('T', t.typowner)))
	FROM member m JOIN pg_type t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid
	UNION ALL
	SELECT m.name, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner)))
	FROM member m JOIN pg_namespace n ON m.classid = 'pg_namespace'::regclass AND n.oid = m.objid
	UNION ALL
	SELECT m.name, aclexplode(coalesce(w.fdwacl, acldefault('F', w.fdwowner)))
	FROM member m JOIN pg_foreign_data_wrapper w ON m.classid = 'pg_foreign_data_wrapper'::regclass AND w.oid = m.objid
	UNION ALL
	-- what pg_dump takes for granted
	SELECT 'initially ' || m.name, aclexplode(i.initprivs)
	FROM member m JOIN pg_init_privs i ON (i.classoid, i.objoid) = (m.classid, m.objid)
), operator_of_family AS (
	SELECT m.name, 'operator ' || a.amopstrategy || ' ' || a.amopopr::regoperator || ' ' || a.amoppurpose::text AS part
	FROM member m JOIN pg_amop a ON m.classid = 'pg_opfamily'::regclass AND a.amopfamily = m.objid
	UNION ALL
	SELECT m.name, 'function ' || a.amprocnum || ' ' || a.amproc::regprocedure || ' for ' || a.amproclefttype::regtype || ', ' || a.amprocrighttype::regtype
	FROM member m JOIN pg_amproc a ON m.classid = 'pg_opfamily'::regclass AND a.amprocfamily = m.objid
), line (name, property) AS (
	SELECT name, 'is there' FROM member
	UNION ALL
	SELECT 'extension', concat_ws(' ', extrelocatable, extnamespace) FROM extension
	UNION ALL
	SELECT 'extension', format('dumps the rows of %s %s', relation::regclass, condition)
	FROM extension, unnest(extconfig, extcondition) u (relation, condition)
	UNION ALL
	SELECT m.name, pg_get_functiondef(p.oid)
	FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid WHERE p.prokind <> 'a'
	UNION ALL
	SELECT m.name, (to_jsonb(a) || jsonb_build_object('aggsortop', a.aggsortop::regoperator, 'aggtranstype', a.aggtranstype::regtype,
	                                                  'aggmtranstype', a.aggmtranstype::regtype, 'parallel', p.proparallel, 'volatility', p.provolatile))::text
	FROM member m JOIN pg_aggregate a ON m.classid = 'pg_proc'::regclass AND a.aggfnoid = m.objid JOIN pg_proc p ON p.oid = m.objid
	UNION ALL
	SELECT name, format('kind %s, persistence %s, row security %s %s, replica identity %s, options %s', relkind, relpersistence,
	                    relrowsecurity, relforcerowsecurity, relreplident, reloptions)
	FROM relation
	UNION ALL
	SELECT name, pg_get_viewdef(oid) FROM relation WHERE relkind IN ('v', 'm')
	UNION ALL
	SELECT name, format('column %s: %s %s, not null %s, identity "%s", generated "%s", storage %s, compression "%s", collation %s, statistics %s, options %s, default %s',
	                    place, attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, attstorage, attcompression,
	                    attcollation::regcollation, coalesce(attstattarget, -1), set_options, expression)
	FROM "column"
	UNION ALL
	SELECT r.name, format('sequence: %s %s %s %s %s %s %s', s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle)
	FROM relation r JOIN pg_sequence s ON s.seqrelid = r.oid
	UNION ALL
	SELECT r.name, 'index ' || pg_get_indexdef(i.indexrelid) || CASE WHEN i.indisvalid THEN '' ELSE ' not valid' END || CASE WHEN i.indisreplident THEN ' replica identity' ELSE '' END
	FROM relation r JOIN pg_index i ON i.indrelid = r.oid
	UNION ALL
	SELECT r.name, 'rule ' || pg_get_ruledef(w.oid) || ' ' || w.ev_enabled::text FROM relation r JOIN pg_rewrite w ON w.ev_class = r.oid WHERE w.rulename <> '_RETURN'
	UNION ALL
	SELECT r.name, 'policy ' || p.polname || ' ' || p.polcmd::text || ' ' || coalesce(pg_get_expr(p.polqual, p.polrelid), '') || ' ' || coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '')
	FROM relation r JOIN pg_policy p ON p.polrelid = r.oid
	UNION ALL
	SELECT r.name, 'trigger ' || pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal
	UNION ALL
	SELECT o.type || ' ' || o.identity, pg_get_constraintdef(c.oid) || CASE WHEN c.convalidated THEN '' ELSE ' not validated' END
	FROM pg_constraint c, pg_identify_object('pg_constraint'::regclass, c.oid, 0) o
	WHERE c.conrelid IN (SELECT oid FROM relation) OR c.contypid IN (SELECT objid FROM member WHERE classid = 'pg_type'::regclass)
	UNION ALL
	SELECT m.name, format('type: %s, length %s, by value %s, category %s, preferred %s, delimiter %s, alignment %s, storage %s, functions %s %s %s %s %s %s %s, element %s, base %s %s, not null %s, collation %s, default %s',
	                      t.typtype, t.typlen, t.typbyval, t.typcategory, t.typispreferred, t.typdelim, t.typalign, t.typstorage,
	                      t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin, t.typmodout, t.typanalyze,
	                      t.typelem::regtype, t.typbasetype::regtype, t.typtypmod, t.typnotnull, t.typcollation::regcollation, t.typdefault)
	FROM member m JOIN pg_type t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid
	UNION ALL
	SELECT m.name, 'values ' || string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder)
	FROM member m JOIN pg_enum e ON m.classid = 'pg_type'::regclass AND e.enumtypid = m.objid GROUP BY 1
	UNION ALL
	SELECT m.name, format('operator: %s, result %s, commutator %s, negator %s, estimators %s %s, merges %s, hashes %s', o.oprcode, o.oprresult::regtype,
	                      o.oprcom::regoperator, o.oprnegate::regoperator, o.oprrest, o.oprjoin, o.oprcanmerge, o.oprcanhash)
	FROM member m JOIN pg_operator o ON m.classid = 'pg_operator'::regclass AND o.oid = m.objid
	UNION ALL
	SELECT m.name, format('operator class: family %s, type %s, default %s, key %s', f.opfname, c.opcintype::regtype, c.opcdefault, c.opckeytype::regtype)
	FROM member m JOIN pg_opclass c ON m.classid = 'pg_opclass'::regclass AND c.oid = m.objid JOIN pg_opfamily f ON f.oid = c.opcfamily
	UNION ALL
	SELECT * FROM operator_of_family
	UNION ALL
	SELECT m.name, format('cast: %s %s %s', nullif(c.castfunc, 0)::regprocedure, c.castcontext, c.castmethod)
	FROM member m JOIN pg_cast c ON m.classid = 'pg_cast'::regclass AND c.oid = m.objid
	UNION ALL
	SELECT m.name, format('foreign data wrapper: handler %s, validator %s, options %s', nullif(w.fdwhandler, 0)::regprocedure, nullif(w.fdwvalidator, 0)::regprocedure, w.fdwoptions)
	FROM member m JOIN pg_foreign_data_wrapper w ON m.classid = 'pg_foreign_data_wrapper'::regclass AND w.oid = m.objid
	UNION ALL
	SELECT acl.name, format('%s may %s%s', CASE WHEN (a).grantee = 0 THEN 'PUBLIC' ELSE (a).grantee::regrole::text END, (a).privilege_type,
	                        CASE WHEN (a).is_grantable THEN ' and pass it on' ELSE '' END)
	FROM acl
	UNION ALL
	SELECT name, 'owner ' || (pg_identify_object_as_address(classid, objid, 0)).type || ' ' || coalesce(
	       (SELECT refobjid::regrole::text FROM pg_shdepend s WHERE s.classid = m.classid AND s.objid = m.objid AND s.deptype = 'o'
	        AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())), 'bootstrap')
	FROM member m
	UNION ALL
	SELECT m.name || coalesce(', column ' || a.attname, ''), 'comment ' || d.description
	FROM member m JOIN pg_description d ON (d.classoid, d.objoid) = (m.classid, m.objid)
	LEFT JOIN pg_attribute a ON d.objsubid > 0 AND a.attrelid = d.objoid AND a.attnum = d.objsubid
	UNION ALL
	-- of triggers, constraints and indexes, which are no members themselves
	SELECT o.type || ' ' || o.identity, 'comment ' || d.description
	FROM pg_description d, pg_identify_object(d.classoid, d.objoid, 0) o
	WHERE d.classoid = 'pg_trigger'::regclass AND d.objoid IN (SELECT t.oid FROM pg_trigger t JOIN relation r ON t.tgrelid = r.oid)
	   OR d.classoid = 'pg_constraint'::regclass AND d.objoid IN (SELECT c.oid FROM pg_constraint c JOIN relation r ON c.conrelid = r.oid)
	   OR d.classoid = 'pg_class'::regclass AND d.objoid IN (SELECT i.indexrelid FROM pg_index i JOIN relation r ON i.indrelid = r.oid)
)
SELECT name || ' | ' || regexp_replace(property, '\s*\n\s*', ' ', 'g') FROM line ORDER BY (name || ' | ' || property) COLLATE "C";
