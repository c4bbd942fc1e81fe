-- The four data types: every form that is read, every form that is refused, order, indexes, binary form.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS cmblock;
RESET client_min_messages;
SET search_path = cmblock, public;

-- What a command is refused with: SQLSTATE, message, DETAIL.
CREATE FUNCTION pg_temp.refusal(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
BEGIN
	EXECUTE command;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
	RETURN format('%s %s | %s', SQLSTATE, message, detail);
END $$;

-- The text form of what is read from the text, or the refusal.
CREATE FUNCTION pg_temp.read(type regtype, input text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE format('SELECT %L::%s::text', input, type) INTO result;
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	RETURN pg_temp.refusal(format('SELECT %L::%s', input, type));
END $$;

-- The receive function, fed with these octets: a binary file of a bytea is read as one of the type. The file
-- stands in the data directory, since the server may be another user than the client and on another machine.
CREATE FUNCTION pg_temp.receive(type regtype, octets bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	file text := current_setting('data_directory') || '/cmblock_types_test.bin';
	result text;
BEGIN
	EXECUTE format('CREATE TEMP TABLE received (value %s)', type);
	EXECUTE format('COPY (SELECT %L::bytea) TO %L (FORMAT binary)', octets, file);
	result := pg_temp.refusal(format('COPY received FROM %L (FORMAT binary)', file));
	-- No row: rm does not read what is sent to it.
	EXECUTE format('COPY (SELECT WHERE false) TO PROGRAM %L', 'rm ' || quote_literal(file));
	IF result = 'accepted' THEN
		SELECT value::text INTO result FROM received;
	END IF;
	DROP TABLE received;
	RETURN result;
END $$;

-- Values given in ascending order: each pair on which an operator or the btree support function disagrees.
CREATE FUNCTION pg_temp.disagreements(type regtype, ascending text[])
RETURNS TABLE (a text, b text) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format($q$
		SELECT a.v::text, b.v::text
		FROM unnest($1::%1$s[]) WITH ORDINALITY a(v, i), unnest($1::%1$s[]) WITH ORDINALITY b(v, i)
		WHERE (a.v < b.v) IS DISTINCT FROM (a.i < b.i) OR (a.v <= b.v) IS DISTINCT FROM (a.i <= b.i)
		   OR (a.v = b.v) IS DISTINCT FROM (a.i = b.i) OR (a.v <> b.v) IS DISTINCT FROM (a.i <> b.i)
		   OR (a.v >= b.v) IS DISTINCT FROM (a.i >= b.i) OR (a.v > b.v) IS DISTINCT FROM (a.i > b.i)
		   OR sign(%1$s_cmp(a.v, b.v)) IS DISTINCT FROM sign(a.i - b.i)
		   OR (a.i = b.i) <> (%1$s_hash(a.v) = %1$s_hash(b.v))
	$q$, type) USING ascending;
END $$;

-- The kinds of nodes of a query's plan, top down; the text of EXPLAIN changes between versions.
CREATE FUNCTION pg_temp.plan(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	plan jsonb;
BEGIN
	EXECUTE 'EXPLAIN (COSTS OFF, FORMAT json) ' || query INTO plan;
	RETURN (SELECT string_agg(node #>> '{}', ', ') FROM jsonb_path_query(plan, 'strict $.**."Node Type"') node);
END $$;

--
-- site_code
--
SELECT pg_temp.read('site_code', input)
FROM unnest(ARRAY['P01', 'p01', 'zZ9', '000', 'AUY', 'SM5']) input;
SELECT pg_temp.read('site_code', input)
FROM unnest(ARRAY['', 'P', 'P0', 'P012', 'P01 ', ' P01', 'P-1', 'P_1', 'P 1', E'P0\n',
				  '@01', '[01', '`01', '{01', '/01', ':01',
				  'AUX', 'con', 'Nul', 'PRN', 'SMS', 'env']) input;
-- A character outside ASCII is refused, not folded: the Kelvin sign is K to some, the dotless i is I to others.
SELECT left(pg_temp.read('site_code', input), 5)
FROM unnest(ARRAY[E'\xC3\xA41', E'P0\xC3\xA4', E'\xE2\x84\xAA01', E'\xC4\xB101', E'\xEF\xBC\xA101']) input;
SELECT 'p01'::text::site_code, 'p01'::varchar::site_code, 'P01'::site_code::text, 'P01'::site_code || '!';
SELECT NULL::text::site_code IS NULL AS strict;
-- The whole message, once.
SELECT 'AUX'::site_code;
\echo :SQLSTATE

SELECT * FROM pg_temp.disagreements('site_code',
	'{000,001,0A0,999,A00,AAZ,AB0,P01,P02,P0A,ZZ0,ZZZ}');
SELECT min(v), max(v), count(DISTINCT v) FROM unnest('{p02,P01,Z00,p01,0ZZ}'::site_code[]) v;
SELECT min(v), max(v) FROM unnest('{NULL}'::site_code[]) v;
SELECT min(v), max(v) FROM unnest('{}'::site_code[]) v;

SELECT site_code_send('p01');
SELECT pg_temp.receive('site_code', octets)
FROM unnest(ARRAY['P01', 'p01', '', 'P0', 'P012', 'P01\000', '\000\000\000', 'P0\000', 'P0 ', 'AUX', 'sms',
				  'P0\344', '\303\2441']::bytea[]) octets;

--
-- smsid
--
SELECT pg_temp.read('smsid', input)
FROM unnest(ARRAY['GUID:01234567-89AB-CDEF-0123-456789ABCDEF',
				  'guid:01234567-89ab-cdef-0123-456789abcdef',
				  'gUiD:01234567-89aB-Cdef-0123-456789abcdef',
				  '01234567-89ab-cdef-0123-456789abcdef',
				  '{01234567-89ab-cdef-0123-456789abcdef}',
				  '00000000-0000-0000-0000-000000000000',
				  'FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF']) input;
SELECT pg_temp.read('smsid', input)
FROM unnest(ARRAY['', 'GUID', 'GUID:', '{', '{}', 'GUID:01234567',
				  '0123456789abcdef0123456789abcdef',
				  'GUID:0123456789abcdef0123456789abcdef',
				  '0123-4567-89ab-cdef-0123-4567-89ab-cdef',
				  '01234567-89ab-cdef-0123-456789abcde',
				  '01234567-89ab-cdef-0123-456789abcdef0',
				  'GUID:01234567-89ab-cdef-0123-456789abcdef ',
				  ' GUID:01234567-89ab-cdef-0123-456789abcdef',
				  'GUID: 01234567-89ab-cdef-0123-456789abcdef',
				  'GUID:GUID:01234567-89ab-cdef-0123-456789abcdef',
				  'GUID:{01234567-89ab-cdef-0123-456789abcdef}',
				  '{GUID:01234567-89ab-cdef-0123-456789abcdef}',
				  '{01234567-89ab-cdef-0123-456789abcdef',
				  '01234567-89ab-cdef-0123-456789abcdef}',
				  '{01234567-89ab-cdef-0123-456789abcdef}}',
				  '01234567-89ab-cdef-0123-456789abcdeg',
				  '0123456g-89ab-cdef-0123-456789abcdef',
				  '01234567+89ab-cdef-0123-456789abcdef',
				  '01234567-89ab-cdef-0123_456789abcdef',
				  'UUID:01234567-89ab-cdef-0123-456789abcdef']) input;
-- The whole message, once.
SELECT 'GUID:0'::smsid;
\echo :SQLSTATE
-- uuid has the same octets: both casts are free, and both orders are one.
SELECT 'GUID:01234567-89AB-CDEF-0123-456789ABCDEF'::smsid::uuid, '01234567-89ab-cdef-0123-456789abcdef'::uuid::smsid;
SELECT castmethod, castcontext FROM pg_cast
WHERE (castsource, casttarget) IN (('smsid'::regtype, 'uuid'::regtype), ('uuid'::regtype, 'smsid'::regtype));
SELECT smsid_send('01234567-89AB-CDEF-0123-456789ABCDEF'), uuid_send('01234567-89AB-CDEF-0123-456789ABCDEF');
SELECT '01234567-89AB-CDEF-0123-456789ABCDEF'::smsid::text, '01234567-89ab-cdef-0123-456789abcdef'::text::smsid;

SELECT * FROM pg_temp.disagreements('smsid', ARRAY[
	'00000000-0000-0000-0000-000000000000',
	'00000000-0000-0000-0000-000000000001',
	'00000000-0000-0000-0000-000000000080',
	'00000000-0000-0000-7f00-000000000000',
	'00000000-0000-0000-8000-000000000000',
	'01000000-0000-0000-0000-000000000000',
	'7fffffff-ffff-ffff-ffff-ffffffffffff',
	'80000000-0000-0000-0000-000000000000',
	'ffffffff-ffff-ffff-ffff-ffffffffffff']);

SELECT pg_temp.receive('smsid', octets)
FROM unnest(ARRAY['\x0123456789abcdef0123456789abcdef',
				  '\x',
				  '\x0123456789abcdef0123456789abcd',
				  '\x0123456789abcdef0123456789abcdef00']::bytea[]) octets;

--
-- thumbprint
--
SELECT pg_temp.read('thumbprint', input)
FROM unnest(ARRAY[repeat('0f', 20),
				  repeat('0F', 32),
				  'da:39:a3:ee:5e:6b:4b:0d:32:55:bf:ef:95:60:18:90:af:d8:07:09',
				  'da 39 a3 ee 5e 6b 4b 0d 32 55 bf ef 95 60 18 90 af d8 07 09',
				  'DA39A3EE 5E6B4B0D 3255BFEF 95601890 AFD80709',
				  '  da39a3ee5e6b4b0d3255bfef95601890afd80709 ',
				  'da: 39a3ee5e6b4b0d3255bfef95601890afd807 :09']) input;
SELECT pg_temp.read('thumbprint', input)
FROM unnest(ARRAY['', ' ', ':',
				  repeat('0f', 19), repeat('0f', 21), repeat('0f', 31), repeat('0f', 33),
				  repeat('0', 39), repeat('0', 41), repeat('0', 65),
				  repeat('0f', 20) || 'g', '0g' || repeat('0f', 19), 'g0' || repeat('0f', 19),
				  '\x' || repeat('0f', 20), '0x' || repeat('0f', 20),
				  repeat('0f-', 20), repeat('0:f', 20), '0 f' || repeat('0f', 19),
				  E'\t' || repeat('0f', 20), repeat('0f', 20) || E'\n']) input;
-- The whole message, once.
SELECT '0f'::thumbprint;
\echo :SQLSTATE
-- The mark that Windows puts before a copied thumbprint cannot be seen, so the DETAIL names it.
SELECT left(refusal, 5) AS sqlstate, refusal LIKE '%(U+200E)%' AS named
FROM unnest(ARRAY[E'\xE2\x80\x8E' || repeat('0f', 20), E'\xC3\xA2']) input, pg_temp.read('thumbprint', input) refusal;

SELECT repeat('0f', 20)::thumbprint::bytea, decode(repeat('0f', 32), 'hex')::thumbprint;
SELECT pg_temp.refusal(format('SELECT %L::bytea::thumbprint', octets))
FROM unnest(ARRAY['\x', '\x00', '\x' || repeat('00', 19), '\x' || repeat('00', 33)]) octets;
SELECT sha256('')::thumbprint = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' AS of_nothing;

-- A SHA-1 and a SHA-256 are compared as octets; of two that begin alike the shorter goes first.
SELECT * FROM pg_temp.disagreements('thumbprint', ARRAY[
	repeat('00', 20), repeat('00', 32), repeat('00', 31) || '01', repeat('00', 19) || '01',
	'7f' || repeat('ff', 19), '80' || repeat('00', 31), repeat('ff', 20), repeat('ff', 32)]);

SELECT thumbprint_send(repeat('0f', 20)::thumbprint);
SELECT pg_temp.receive('thumbprint', decode(repeat('0f', octets), 'hex'))
FROM unnest('{20,32,0,1,19,21,31,33,1000}'::int[]) octets;

--
-- certificate_serial
--
SELECT pg_temp.read('certificate_serial', input)
FROM unnest(ARRAY['00', 'ff', '00FF', '00:ff', '00 Ff', ' 61:0a 2b ', '0000', 'FFFF',
				  repeat('7f', 64), repeat(':7f', 64)]) input;
SELECT pg_temp.read('certificate_serial', input)
FROM unnest(ARRAY['', ' ', '::', 'F', '123', '1:2', '1 2', '0:1:2', '01:2', '0x01', '\x01', '-1', '+1', '1.5',
				  '01h', 'h01', '0h', '01,02', E'01\n']) input;
SELECT right(pg_temp.read('certificate_serial', repeat('7f', 65)), 50);
-- The whole message, once.
SELECT '1:2'::certificate_serial;
\echo :SQLSTATE
SELECT 'FF'::certificate_serial = '00FF' AS padded, 'FF'::certificate_serial = ' :fF: ' AS separated;
SELECT 'FF'::certificate_serial::bytea, '\x00ff'::bytea::certificate_serial, '00FF'::certificate_serial::text;
SELECT pg_temp.refusal(format('SELECT %L::bytea::certificate_serial', octets))
FROM unnest(ARRAY['\x', '\x' || repeat('00', 65)]) octets;
SELECT octet_length(decode(repeat('00', 64), 'hex')::certificate_serial::bytea);

-- As a number. The values are written down, not computed.
SELECT serial, serial::certificate_serial::numeric = number AS right_number
FROM (VALUES ('00', 0), ('01', 1), ('7f', 127), ('007f', 127), ('80', -128), ('0080', 128), ('ff', -1), ('ffff', -1),
			 ('00ff', 255), ('ff00', -256), ('0100', 256), ('8000', -32768),
			 ('7fffffffffffffff', 9223372036854775807),
			 ('8000000000000000', -9223372036854775808),
			 ('3b9aca00', 1000000000),
			 ('c4653600', -1000000000),
			 ('3b9ac9ff', 999999999),
			 ('0de0b6b3a7640000', 1000000000000000000),
			 (repeat('00', 64), 0),
			 (repeat('ff', 64), -1),
			 ('7f' || repeat('ff', 63), 2::numeric ^ 511 - 1),
			 ('80' || repeat('00', 63), -(2::numeric ^ 511)),
			 ('80' || repeat('00', 62) || '01', 1 - 2::numeric ^ 511)) t(serial, number);
SELECT castcontext FROM pg_cast WHERE castsource = 'certificate_serial'::regtype AND casttarget = 'numeric'::regtype;
SELECT pg_temp.refusal('SELECT 1::numeric::certificate_serial');

-- Numeric order; of two spellings of one number the shorter goes first.
SELECT * FROM pg_temp.disagreements('certificate_serial', ARRAY[
	'80' || repeat('00', 63), '80' || repeat('00', 62) || '01', '8000', 'FF00', 'FF7F', '80', 'FF80', '81', 'FE',
	'FF', 'FFFF', repeat('FF', 64),
	'00', '0000', repeat('00', 64),
	'01', '0001', '000001', '7F', '007F', '0080', '00FF', '0100', '7FFF', '008000', '00FFFFFFFF', '0100000000',
	'7F' || repeat('FF', 63)]);
-- The same against numeric, over octets of many lengths and signs.
WITH serial AS (
	SELECT v, v::numeric AS number, octet_length(v::bytea) AS length
	FROM generate_series(1, 40) i, unnest(ARRAY['\x', '\x00', '\xff', '\x0000', '\xffff']::bytea[]) prefix,
		 LATERAL (SELECT (prefix || substr(sha256(int4send(i)), 1, 1 + i % 5))::certificate_serial) t(v)
)
SELECT count(*),
	   count(*) FILTER (WHERE sign(certificate_serial_cmp(a.v, b.v)) IS DISTINCT FROM
						sign(2 * sign(a.number - b.number) + sign(a.length - b.length))) AS wrong
FROM serial a, serial b;

SELECT certificate_serial_send('00FF');
SELECT pg_temp.receive('certificate_serial', decode(repeat('7f', octets), 'hex'))
FROM unnest('{1,2,64,0,65,5000}'::int[]) octets;

--
-- All four
--
CREATE TEMP TABLE types (type regtype, pos int GENERATED ALWAYS AS IDENTITY);
INSERT INTO types (type) VALUES ('site_code'), ('smsid'), ('thumbprint'), ('certificate_serial');

-- Text of any length is refused, quoted in part, and cut where a character ends.
SELECT type, left(refusal, 5) AS sqlstate, octet_length(refusal) < 500 AS cut, refusal LIKE '%x..." | %' AS marked
FROM types, LATERAL pg_temp.read(type, repeat('x', 1000000)) refusal
ORDER BY pos;
SELECT type, octet_length(quoted) - CASE WHEN getdatabaseencoding() = 'UTF8' THEN 199 ELSE 200 END AS off_by
FROM types, LATERAL pg_temp.read(type, 'x' || repeat(E'\xC3\xA4', 1000)) refusal,
	 LATERAL substring(refusal FROM '"(.*)\.\.\."') quoted
ORDER BY pos;
-- Exactly as long as may be quoted, and one more.
SELECT pg_temp.read('smsid', repeat('x', 200)) LIKE '%"' || repeat('x', 200) || '" |%' AS whole,
	   pg_temp.read('smsid', repeat('x', 201)) LIKE '%"' || repeat('x', 200) || '..." |%' AS cut;

-- Labels of all functions of the types: whatever reads, writes or compares one.
SELECT type, count(*) AS functions, bool_and(provolatile = 'i') AS immutable, bool_and(proisstrict) AS strict,
	   bool_and(proparallel = 's') AS parallel_safe, bool_or(proleakproof) AS leakproof
FROM types JOIN pg_proc ON proname ~ ('^' || type || '(_(in|out|recv|send|lt|le|eq|ne|ge|gt|cmp|hash|hash_extended' ||
									   '|sortsupport|smaller|larger|to_numeric))?$')
WHERE pronamespace = 'cmblock'::regnamespace
GROUP BY type, pos ORDER BY pos;

-- Operators know one another, and how selective they are.
SELECT type, o.oprname, commutator.oprname AS commutator, negator.oprname AS negator, o.oprrest, o.oprjoin,
	   o.oprcanmerge, o.oprcanhash
FROM types
	 JOIN pg_operator o ON o.oprleft = type AND o.oprright = type
	 JOIN pg_operator commutator ON commutator.oid = o.oprcom
	 JOIN pg_operator negator ON negator.oid = o.oprnegate
ORDER BY pos, o.oprname COLLATE "C";

SELECT type, amname, opcdefault, amvalidate(o.oid) AS valid, array_agg(amprocnum ORDER BY amprocnum) AS support
FROM types
	 JOIN pg_opclass o ON opcintype = type
	 JOIN pg_am a ON a.oid = opcmethod
	 JOIN pg_amproc ON amprocfamily = opcfamily
GROUP BY type, pos, amname, opcdefault, o.oid ORDER BY pos, amname COLLATE "C";

SELECT typname, typlen, typbyval, typalign, typstorage, obj_description(oid, 'pg_type') IS NOT NULL AS has_comment
FROM types JOIN pg_type ON oid = type
ORDER BY pos;

-- A table with 6000 values of each.
CREATE TEMP TABLE things AS
SELECT i,
	   (chr(65 + i % 26) || chr(65 + i / 26 % 26) || i / 676)::site_code AS site_code,
	   md5(i::text)::uuid::smsid AS smsid,
	   substr(sha256(int4send(i)), 1, CASE i % 2 WHEN 0 THEN 20 ELSE 32 END)::thumbprint AS thumbprint,
	   substr(sha256(int4send(i)), 1, 3 + i % 18)::certificate_serial AS certificate_serial
FROM generate_series(1, 6000) i;
ANALYZE things;
SELECT count(DISTINCT site_code) AS site_code, count(DISTINCT smsid) AS smsid, count(DISTINCT thumbprint) AS thumbprint,
	   count(DISTINCT certificate_serial) AS certificate_serial
FROM things;

-- Sorting agrees with the order of the text forms, or of the numbers.
SELECT count(*) FILTER (WHERE site_code_rank <> row_number) AS site_code
FROM (SELECT row_number() OVER (ORDER BY site_code) AS site_code_rank,
			 row_number() OVER (ORDER BY site_code::text COLLATE "C") FROM things) t;
SELECT count(*) FILTER (WHERE smsid_rank <> row_number) AS smsid
FROM (SELECT row_number() OVER (ORDER BY smsid DESC) AS smsid_rank,
			 row_number() OVER (ORDER BY smsid::text COLLATE "C" DESC) FROM things) t;
SELECT count(*) FILTER (WHERE thumbprint_rank <> row_number) AS thumbprint
FROM (SELECT row_number() OVER (ORDER BY thumbprint) AS thumbprint_rank,
			 row_number() OVER (ORDER BY thumbprint::text COLLATE "C") FROM things) t;
SELECT count(*) FILTER (WHERE serial_rank <> row_number) AS certificate_serial
FROM (SELECT row_number() OVER (ORDER BY certificate_serial) AS serial_rank,
			 row_number() OVER (ORDER BY certificate_serial::numeric) FROM things) t;
-- Ids that share their first octets: sorting gives abbreviated keys up on the way.
CREATE TEMP TABLE alike AS
SELECT ('0123456789abcdef' || substr(md5(i::text), 1, 16))::uuid::smsid AS smsid FROM generate_series(1, 25000) i;
SELECT count(*) AS rows, count(*) FILTER (WHERE smsid_rank <> row_number) AS wrong
FROM (SELECT row_number() OVER (ORDER BY smsid) AS smsid_rank,
			 row_number() OVER (ORDER BY smsid::text COLLATE "C") FROM alike) t;
-- So many different ids in memory that it stops doubting them.
CREATE TEMP TABLE unlike AS SELECT md5(i::text)::uuid::smsid AS smsid FROM generate_series(1, 170000) i;
SET work_mem = '64MB';
SELECT count(*) AS rows, count(*) FILTER (WHERE smsid <= previous) AS wrong
FROM (SELECT smsid, lag(smsid) OVER (ORDER BY smsid) AS previous FROM unlike) t;
RESET work_mem;

-- With seed 0 the low half of the extended hash is the hash; another seed gives another hash; hashes spread.
CREATE FUNCTION pg_temp.try_hash(type regtype)
RETURNS TABLE (disagreements bigint, seed_ignored bigint, spread boolean) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format($q$
		SELECT count(*) FILTER (WHERE (%1$s_hash_extended(%1$s, 0) # %1$s_hash(%1$s)) & 4294967295 <> 0),
			   count(*) FILTER (WHERE %1$s_hash_extended(%1$s, 0) = %1$s_hash_extended(%1$s, 1)),
			   count(DISTINCT %1$s_hash(%1$s)) > 5990
		FROM things
	$q$, type);
END $$;
SELECT type, t.* FROM types, pg_temp.try_hash(type) t ORDER BY pos;

-- Indexes and joins: each is used, and finds the same rows as a plain scan.
CREATE FUNCTION pg_temp.try_index(type regtype, method text)
RETURNS TABLE (index_used boolean, rows bigint, same_rows boolean) LANGUAGE plpgsql AS $$
DECLARE
	query text := format('SELECT count(*), sum(i) FROM things WHERE %1$s = (SELECT %1$s FROM things WHERE i = 77)', type);
	indexed record;
	plain record;
BEGIN
	EXECUTE query INTO plain;
	EXECUTE format('CREATE INDEX trial ON things USING %s (%s)', method, type);
	SET LOCAL enable_seqscan = off;
	EXECUTE query INTO indexed;
	index_used := pg_temp.plan(query) ~ 'Index';
	rows := indexed.count;
	same_rows := indexed = plain;
	DROP INDEX trial;
	SET LOCAL enable_seqscan = on;
	RETURN NEXT;
END $$;
SELECT type, method, t.*
FROM types, unnest('{btree,hash}'::text[]) method, pg_temp.try_index(type, method) t
ORDER BY pos, method COLLATE "C";

CREATE FUNCTION pg_temp.try_join(type regtype, setting text)
RETURNS TABLE (join_node text, rows bigint) LANGUAGE plpgsql AS $$
DECLARE
	query text := format('SELECT count(*) FROM things a JOIN things b USING (%s) WHERE a.i <= 500', type);
BEGIN
	SET LOCAL enable_hashjoin = off;
	SET LOCAL enable_mergejoin = off;
	SET LOCAL enable_nestloop = off;
	PERFORM set_config(setting, 'on', true);
	join_node := substring(pg_temp.plan(query) FROM 'Hash Join|Merge Join|Nested Loop');
	EXECUTE query INTO rows;
	RETURN NEXT;
END $$;
SELECT type, t.*
FROM types, unnest('{enable_hashjoin,enable_mergejoin,enable_nestloop}'::text[]) setting,
	 pg_temp.try_join(type, setting) t
ORDER BY pos, setting COLLATE "C";

-- A range of serials by btree; the extremes of site codes come from the ends of an index.
CREATE INDEX things_serial ON things (certificate_serial);
CREATE INDEX things_site ON things (site_code);
SET enable_seqscan = off;
SELECT pg_temp.plan($$SELECT i FROM things WHERE certificate_serial BETWEEN 'F0BDC0' AND '0F4240'$$) ~ 'Index' AS used;
SELECT count(*) > 0 AS some,
	   count(*) = (SELECT count(*) FROM things WHERE certificate_serial::numeric BETWEEN -1000000 AND 1000000) AS right
FROM things WHERE certificate_serial BETWEEN 'F0BDC0' AND '0F4240';
SELECT pg_temp.plan('SELECT min(site_code), max(site_code) FROM things') ~ 'Limit.*Index.*Limit.*Index' AS index_used;
SELECT min(site_code) = min(site_code::text COLLATE "C")::site_code AS min,
	   max(site_code) = max(site_code::text COLLATE "C")::site_code AS max
FROM things;
RESET enable_seqscan;

-- The aggregates work in pieces as well.
SELECT aggfnoid::text, aggtransfn, aggcombinefn, aggsortop::regoperator, proparallel
FROM pg_aggregate JOIN pg_proc ON oid = aggfnoid
WHERE proargtypes[0] = 'site_code'::regtype
ORDER BY aggfnoid::text COLLATE "C";

-- One copy of a key serves many rows.
CREATE TEMP TABLE twins AS
SELECT site_code, smsid, thumbprint, certificate_serial FROM things, generate_series(1, 4000) WHERE i = 18;
CREATE FUNCTION pg_temp.deduplicates(type regtype) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	result boolean;
BEGIN
	EXECUTE format('CREATE INDEX twins_once ON twins (%s)', type);
	EXECUTE format('CREATE INDEX twins_each ON twins (%s) WITH (deduplicate_items = off)', type);
	result := pg_relation_size('twins_once') * 2 < pg_relation_size('twins_each');
	DROP INDEX twins_once, twins_each;
	RETURN result;
END $$;
SELECT type, pg_temp.deduplicates(type) FROM types ORDER BY pos;

-- As keys.
CREATE TEMP TABLE keys (
	site_code site_code PRIMARY KEY,
	smsid smsid UNIQUE,
	thumbprint thumbprint UNIQUE,
	certificate_serial certificate_serial UNIQUE
);
INSERT INTO keys VALUES
	('P01', '01234567-89ab-cdef-0123-456789abcdef', 'abababababababababababababababababababab', 'FF'),
	('P02', gen_random_uuid(), sha256(''), '\x00ff'::bytea);
SELECT pg_temp.refusal('INSERT INTO keys VALUES (''p01'')');
SELECT pg_temp.refusal('INSERT INTO keys VALUES (''P03'', ''GUID:01234567-89ab-cdef-0123-456789abcdef'')');
SELECT pg_temp.refusal('INSERT INTO keys VALUES (''P03'', NULL, ''' || repeat('AB ', 20) || ''')');
SELECT pg_temp.refusal('INSERT INTO keys VALUES (''P03'', NULL, NULL, ''00:ff'')');
SELECT pg_temp.refusal('INSERT INTO keys VALUES (''P03'', NULL, NULL, ''0000ff'')');

-- As partition keys, by hash and by range.
CREATE TEMP TABLE by_hash (site site_code, serial certificate_serial) PARTITION BY HASH (site, serial);
CREATE TEMP TABLE by_hash_0 PARTITION OF by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TEMP TABLE by_hash_1 PARTITION OF by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO by_hash SELECT site_code, certificate_serial FROM things;
SELECT count(*), min(rows) > 2500 AS spread FROM (SELECT count(*) AS rows FROM by_hash GROUP BY tableoid) t;
-- A row is stored in the partition in which it is sought.
CREATE FUNCTION pg_temp.lookup(site site_code, serial certificate_serial) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	query text := format('SELECT 1 FROM by_hash WHERE site = %L AND serial = %L', site, serial);
	found_rows bigint;
BEGIN
	IF pg_temp.plan(query) ~ 'Append' THEN
		RAISE 'not pruned';
	END IF;
	EXECUTE format('SELECT count(*) FROM by_hash WHERE site = %L AND serial = %L', site, serial) INTO found_rows;
	RETURN found_rows;
END $$;
SELECT sum(pg_temp.lookup(site_code, certificate_serial)) FROM things WHERE i <= 100;
CREATE TEMP TABLE by_range (serial certificate_serial) PARTITION BY RANGE (serial);
CREATE TEMP TABLE by_range_negative PARTITION OF by_range FOR VALUES FROM (MINVALUE) TO ('00');
CREATE TEMP TABLE by_range_positive PARTITION OF by_range FOR VALUES FROM ('00') TO (MAXVALUE);
INSERT INTO by_range VALUES ('FF'), ('00FF'), ('80'), ('00'), ('0000'), ('FFFF');
SELECT tableoid::regclass AS partition, array_agg(serial ORDER BY serial) AS serials
FROM by_range GROUP BY 1 ORDER BY 1::text COLLATE "C";

-- In arrays and rows.
SELECT '{p01,"P02"}'::site_code[] @> ARRAY['P02'::site_code] AS contains,
	   ROW('P01'::site_code, 'FF'::certificate_serial) = ROW('p01'::site_code, 'ff'::certificate_serial) AS same_row;
SELECT pg_temp.refusal('SELECT ''{P01,P_2}''::site_code[]');

-- Values that were compressed on disk compare and hash like others.
CREATE TEMP TABLE wide (serial certificate_serial, padding text);
ALTER TABLE wide ALTER padding SET STORAGE plain;
INSERT INTO wide VALUES (repeat('00', 64)::certificate_serial, repeat('x', 3000));
SELECT pg_column_size(serial) < 64 AS compressed, serial = repeat('00', 64)::certificate_serial AS equal,
	   serial < '01' AS less, serial::numeric, certificate_serial_send(serial) = decode(repeat('00', 64), 'hex') AS sent,
	   certificate_serial_hash(serial) = certificate_serial_hash(repeat('00', 64)::certificate_serial) AS same_hash
FROM wide;

--
-- Enums, in the order that comparisons and documents rely on.
--
SELECT typname, array_agg(enumlabel ORDER BY enumsortorder) AS labels,
	   obj_description(t.oid, 'pg_type') IS NOT NULL AS has_comment
FROM pg_type t JOIN pg_enum ON enumtypid = t.oid
WHERE typnamespace = 'cmblock'::regnamespace
  AND typname IN ('site_kind', 'client_kind', 'certificate_type', 'transport', 'request_kind', 'assurance',
				  'block_outcome', 'crl_policy', 'revocation')
GROUP BY t.oid, typname ORDER BY typname COLLATE "C";
