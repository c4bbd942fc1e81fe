-- cmblock 1.0: the install script. Sections follow the order of docs/architecture.md.
\echo Use "CREATE EXTENSION cmblock" to load this file. \quit

-- ---------------------------------------------------------------------------------------------
-- The schema. CREATE SCHEMA fails if it is there already, so nobody can prepare one with traps in it.
-- ---------------------------------------------------------------------------------------------

CREATE SCHEMA cmblock;
COMMENT ON SCHEMA cmblock IS 'cmblock: refuse clients that are no longer trusted';

-- ---------------------------------------------------------------------------------------------
-- Types
-- ---------------------------------------------------------------------------------------------

-- Each of the four has text and binary form, the six comparisons, and default btree and hash operator classes.
-- btequalimage: values that are equal have the same octets, so a btree may keep one copy of a key.
-- The operators alone are in pg_catalog: an operator is only found through the search_path, and WHERE smsid = '...' has to
-- work for everybody, in functions with a pinned search_path too.

CREATE TYPE cmblock.site_code;

CREATE FUNCTION cmblock.site_code_in(cstring) RETURNS cmblock.site_code
    AS 'MODULE_PATHNAME', 'cmblock_site_code_in' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.site_code_out(cmblock.site_code) RETURNS cstring
    AS 'MODULE_PATHNAME', 'cmblock_site_code_out' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.site_code_recv(internal) RETURNS cmblock.site_code
    AS 'MODULE_PATHNAME', 'cmblock_site_code_recv' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.site_code_send(cmblock.site_code) RETURNS bytea
    AS 'MODULE_PATHNAME', 'cmblock_site_code_send' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;

CREATE TYPE cmblock.site_code (
    INPUT = cmblock.site_code_in,
    OUTPUT = cmblock.site_code_out,
    RECEIVE = cmblock.site_code_recv,
    SEND = cmblock.site_code_send,
    INTERNALLENGTH = 4,
    PASSEDBYVALUE,
    ALIGNMENT = int4
);
COMMENT ON TYPE cmblock.site_code IS
    'the code of a site: three characters A-Z or 0-9, read in either case; AUX, CON, NUL, PRN, SMS and ENV are reserved';

CREATE FUNCTION cmblock.site_code_lt(cmblock.site_code, cmblock.site_code) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_site_code_lt' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.site_code_le(cmblock.site_code, cmblock.site_code) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_site_code_le' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.site_code_eq(cmblock.site_code, cmblock.site_code) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_site_code_eq' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.site_code_ne(cmblock.site_code, cmblock.site_code) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_site_code_ne' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.site_code_ge(cmblock.site_code, cmblock.site_code) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_site_code_ge' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.site_code_gt(cmblock.site_code, cmblock.site_code) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_site_code_gt' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.site_code_cmp(cmblock.site_code, cmblock.site_code) RETURNS integer
    AS 'MODULE_PATHNAME', 'cmblock_site_code_cmp' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.site_code_hash(cmblock.site_code) RETURNS integer
    AS 'MODULE_PATHNAME', 'cmblock_site_code_hash' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.site_code_hash_extended(cmblock.site_code, bigint) RETURNS bigint
    AS 'MODULE_PATHNAME', 'cmblock_site_code_hash_extended' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.site_code_sortsupport(internal) RETURNS void
    AS 'MODULE_PATHNAME', 'cmblock_site_code_sortsupport' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;

CREATE OPERATOR pg_catalog.< (
    LEFTARG = cmblock.site_code, RIGHTARG = cmblock.site_code, FUNCTION = cmblock.site_code_lt,
    COMMUTATOR = OPERATOR(pg_catalog.>), NEGATOR = OPERATOR(pg_catalog.>=),
    RESTRICT = scalarltsel, JOIN = scalarltjoinsel
);
CREATE OPERATOR pg_catalog.<= (
    LEFTARG = cmblock.site_code, RIGHTARG = cmblock.site_code, FUNCTION = cmblock.site_code_le,
    COMMUTATOR = OPERATOR(pg_catalog.>=), NEGATOR = OPERATOR(pg_catalog.>),
    RESTRICT = scalarlesel, JOIN = scalarlejoinsel
);
CREATE OPERATOR pg_catalog.= (
    LEFTARG = cmblock.site_code, RIGHTARG = cmblock.site_code, FUNCTION = cmblock.site_code_eq,
    COMMUTATOR = OPERATOR(pg_catalog.=), NEGATOR = OPERATOR(pg_catalog.<>),
    RESTRICT = eqsel, JOIN = eqjoinsel,
    HASHES, MERGES
);
CREATE OPERATOR pg_catalog.<> (
    LEFTARG = cmblock.site_code, RIGHTARG = cmblock.site_code, FUNCTION = cmblock.site_code_ne,
    COMMUTATOR = OPERATOR(pg_catalog.<>), NEGATOR = OPERATOR(pg_catalog.=),
    RESTRICT = neqsel, JOIN = neqjoinsel
);
CREATE OPERATOR pg_catalog.>= (
    LEFTARG = cmblock.site_code, RIGHTARG = cmblock.site_code, FUNCTION = cmblock.site_code_ge,
    COMMUTATOR = OPERATOR(pg_catalog.<=), NEGATOR = OPERATOR(pg_catalog.<),
    RESTRICT = scalargesel, JOIN = scalargejoinsel
);
CREATE OPERATOR pg_catalog.> (
    LEFTARG = cmblock.site_code, RIGHTARG = cmblock.site_code, FUNCTION = cmblock.site_code_gt,
    COMMUTATOR = OPERATOR(pg_catalog.<), NEGATOR = OPERATOR(pg_catalog.<=),
    RESTRICT = scalargtsel, JOIN = scalargtjoinsel
);

CREATE OPERATOR CLASS cmblock.site_code_ops DEFAULT FOR TYPE cmblock.site_code USING btree AS
    OPERATOR 1 pg_catalog.<,
    OPERATOR 2 pg_catalog.<=,
    OPERATOR 3 pg_catalog.=,
    OPERATOR 4 pg_catalog.>=,
    OPERATOR 5 pg_catalog.>,
    FUNCTION 1 cmblock.site_code_cmp(cmblock.site_code, cmblock.site_code),
    FUNCTION 2 cmblock.site_code_sortsupport(internal),
    FUNCTION 4 btequalimage(oid);

CREATE OPERATOR CLASS cmblock.site_code_ops DEFAULT FOR TYPE cmblock.site_code USING hash AS
    OPERATOR 1 pg_catalog.=,
    FUNCTION 1 cmblock.site_code_hash(cmblock.site_code),
    FUNCTION 2 cmblock.site_code_hash_extended(cmblock.site_code, bigint);

CREATE FUNCTION cmblock.site_code_smaller(cmblock.site_code, cmblock.site_code) RETURNS cmblock.site_code
    AS 'MODULE_PATHNAME', 'cmblock_site_code_smaller' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.site_code_larger(cmblock.site_code, cmblock.site_code) RETURNS cmblock.site_code
    AS 'MODULE_PATHNAME', 'cmblock_site_code_larger' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;

CREATE AGGREGATE pg_catalog.min(cmblock.site_code) (
    SFUNC = cmblock.site_code_smaller, STYPE = cmblock.site_code, COMBINEFUNC = cmblock.site_code_smaller,
    SORTOP = OPERATOR(pg_catalog.<), PARALLEL = SAFE
);
CREATE AGGREGATE pg_catalog.max(cmblock.site_code) (
    SFUNC = cmblock.site_code_larger, STYPE = cmblock.site_code, COMBINEFUNC = cmblock.site_code_larger,
    SORTOP = OPERATOR(pg_catalog.>), PARALLEL = SAFE
);

CREATE TYPE cmblock.smsid;

CREATE FUNCTION cmblock.smsid_in(cstring) RETURNS cmblock.smsid
    AS 'MODULE_PATHNAME', 'cmblock_smsid_in' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.smsid_out(cmblock.smsid) RETURNS cstring
    AS 'MODULE_PATHNAME', 'cmblock_smsid_out' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.smsid_recv(internal) RETURNS cmblock.smsid
    AS 'MODULE_PATHNAME', 'cmblock_smsid_recv' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.smsid_send(cmblock.smsid) RETURNS bytea
    AS 'MODULE_PATHNAME', 'cmblock_smsid_send' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;

CREATE TYPE cmblock.smsid (
    INPUT = cmblock.smsid_in,
    OUTPUT = cmblock.smsid_out,
    RECEIVE = cmblock.smsid_recv,
    SEND = cmblock.smsid_send,
    INTERNALLENGTH = 16,
    ALIGNMENT = char
);
COMMENT ON TYPE cmblock.smsid IS
    'the identity of a client: a UUID, written GUID:01234567-89AB-CDEF-0123-456789ABCDEF';

CREATE FUNCTION cmblock.smsid_lt(cmblock.smsid, cmblock.smsid) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_smsid_lt' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.smsid_le(cmblock.smsid, cmblock.smsid) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_smsid_le' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.smsid_eq(cmblock.smsid, cmblock.smsid) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_smsid_eq' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.smsid_ne(cmblock.smsid, cmblock.smsid) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_smsid_ne' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.smsid_ge(cmblock.smsid, cmblock.smsid) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_smsid_ge' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.smsid_gt(cmblock.smsid, cmblock.smsid) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_smsid_gt' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.smsid_cmp(cmblock.smsid, cmblock.smsid) RETURNS integer
    AS 'MODULE_PATHNAME', 'cmblock_smsid_cmp' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.smsid_hash(cmblock.smsid) RETURNS integer
    AS 'MODULE_PATHNAME', 'cmblock_smsid_hash' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.smsid_hash_extended(cmblock.smsid, bigint) RETURNS bigint
    AS 'MODULE_PATHNAME', 'cmblock_smsid_hash_extended' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.smsid_sortsupport(internal) RETURNS void
    AS 'MODULE_PATHNAME', 'cmblock_smsid_sortsupport' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;

CREATE OPERATOR pg_catalog.< (
    LEFTARG = cmblock.smsid, RIGHTARG = cmblock.smsid, FUNCTION = cmblock.smsid_lt,
    COMMUTATOR = OPERATOR(pg_catalog.>), NEGATOR = OPERATOR(pg_catalog.>=),
    RESTRICT = scalarltsel, JOIN = scalarltjoinsel
);
CREATE OPERATOR pg_catalog.<= (
    LEFTARG = cmblock.smsid, RIGHTARG = cmblock.smsid, FUNCTION = cmblock.smsid_le,
    COMMUTATOR = OPERATOR(pg_catalog.>=), NEGATOR = OPERATOR(pg_catalog.>),
    RESTRICT = scalarlesel, JOIN = scalarlejoinsel
);
CREATE OPERATOR pg_catalog.= (
    LEFTARG = cmblock.smsid, RIGHTARG = cmblock.smsid, FUNCTION = cmblock.smsid_eq,
    COMMUTATOR = OPERATOR(pg_catalog.=), NEGATOR = OPERATOR(pg_catalog.<>),
    RESTRICT = eqsel, JOIN = eqjoinsel,
    HASHES, MERGES
);
CREATE OPERATOR pg_catalog.<> (
    LEFTARG = cmblock.smsid, RIGHTARG = cmblock.smsid, FUNCTION = cmblock.smsid_ne,
    COMMUTATOR = OPERATOR(pg_catalog.<>), NEGATOR = OPERATOR(pg_catalog.=),
    RESTRICT = neqsel, JOIN = neqjoinsel
);
CREATE OPERATOR pg_catalog.>= (
    LEFTARG = cmblock.smsid, RIGHTARG = cmblock.smsid, FUNCTION = cmblock.smsid_ge,
    COMMUTATOR = OPERATOR(pg_catalog.<=), NEGATOR = OPERATOR(pg_catalog.<),
    RESTRICT = scalargesel, JOIN = scalargejoinsel
);
CREATE OPERATOR pg_catalog.> (
    LEFTARG = cmblock.smsid, RIGHTARG = cmblock.smsid, FUNCTION = cmblock.smsid_gt,
    COMMUTATOR = OPERATOR(pg_catalog.<), NEGATOR = OPERATOR(pg_catalog.<=),
    RESTRICT = scalargtsel, JOIN = scalargtjoinsel
);

CREATE OPERATOR CLASS cmblock.smsid_ops DEFAULT FOR TYPE cmblock.smsid USING btree AS
    OPERATOR 1 pg_catalog.<,
    OPERATOR 2 pg_catalog.<=,
    OPERATOR 3 pg_catalog.=,
    OPERATOR 4 pg_catalog.>=,
    OPERATOR 5 pg_catalog.>,
    FUNCTION 1 cmblock.smsid_cmp(cmblock.smsid, cmblock.smsid),
    FUNCTION 2 cmblock.smsid_sortsupport(internal),
    FUNCTION 4 btequalimage(oid);

CREATE OPERATOR CLASS cmblock.smsid_ops DEFAULT FOR TYPE cmblock.smsid USING hash AS
    OPERATOR 1 pg_catalog.=,
    FUNCTION 1 cmblock.smsid_hash(cmblock.smsid),
    FUNCTION 2 cmblock.smsid_hash_extended(cmblock.smsid, bigint);

-- The octets are those of uuid, in the same order.
CREATE CAST (cmblock.smsid AS uuid) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE CAST (uuid AS cmblock.smsid) WITHOUT FUNCTION AS ASSIGNMENT;

CREATE TYPE cmblock.thumbprint;

CREATE FUNCTION cmblock.thumbprint_in(cstring) RETURNS cmblock.thumbprint
    AS 'MODULE_PATHNAME', 'cmblock_thumbprint_in' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.thumbprint_out(cmblock.thumbprint) RETURNS cstring
    AS 'MODULE_PATHNAME', 'cmblock_thumbprint_out' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.thumbprint_recv(internal) RETURNS cmblock.thumbprint
    AS 'MODULE_PATHNAME', 'cmblock_thumbprint_recv' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.thumbprint_send(cmblock.thumbprint) RETURNS bytea
    AS 'MODULE_PATHNAME', 'cmblock_thumbprint_send' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;

CREATE TYPE cmblock.thumbprint (
    INPUT = cmblock.thumbprint_in,
    OUTPUT = cmblock.thumbprint_out,
    RECEIVE = cmblock.thumbprint_recv,
    SEND = cmblock.thumbprint_send,
    INTERNALLENGTH = VARIABLE,
    STORAGE = main
);
COMMENT ON TYPE cmblock.thumbprint IS
    'the SHA-1 (20 octets) or SHA-256 (32 octets) of a certificate, in hexadecimal';

CREATE FUNCTION cmblock.thumbprint_lt(cmblock.thumbprint, cmblock.thumbprint) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_thumbprint_lt' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.thumbprint_le(cmblock.thumbprint, cmblock.thumbprint) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_thumbprint_le' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.thumbprint_eq(cmblock.thumbprint, cmblock.thumbprint) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_thumbprint_eq' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.thumbprint_ne(cmblock.thumbprint, cmblock.thumbprint) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_thumbprint_ne' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.thumbprint_ge(cmblock.thumbprint, cmblock.thumbprint) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_thumbprint_ge' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.thumbprint_gt(cmblock.thumbprint, cmblock.thumbprint) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_thumbprint_gt' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.thumbprint_cmp(cmblock.thumbprint, cmblock.thumbprint) RETURNS integer
    AS 'MODULE_PATHNAME', 'cmblock_thumbprint_cmp' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.thumbprint_hash(cmblock.thumbprint) RETURNS integer
    AS 'MODULE_PATHNAME', 'cmblock_thumbprint_hash' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.thumbprint_hash_extended(cmblock.thumbprint, bigint) RETURNS bigint
    AS 'MODULE_PATHNAME', 'cmblock_thumbprint_hash_extended' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;

CREATE OPERATOR pg_catalog.< (
    LEFTARG = cmblock.thumbprint, RIGHTARG = cmblock.thumbprint, FUNCTION = cmblock.thumbprint_lt,
    COMMUTATOR = OPERATOR(pg_catalog.>), NEGATOR = OPERATOR(pg_catalog.>=),
    RESTRICT = scalarltsel, JOIN = scalarltjoinsel
);
CREATE OPERATOR pg_catalog.<= (
    LEFTARG = cmblock.thumbprint, RIGHTARG = cmblock.thumbprint, FUNCTION = cmblock.thumbprint_le,
    COMMUTATOR = OPERATOR(pg_catalog.>=), NEGATOR = OPERATOR(pg_catalog.>),
    RESTRICT = scalarlesel, JOIN = scalarlejoinsel
);
CREATE OPERATOR pg_catalog.= (
    LEFTARG = cmblock.thumbprint, RIGHTARG = cmblock.thumbprint, FUNCTION = cmblock.thumbprint_eq,
    COMMUTATOR = OPERATOR(pg_catalog.=), NEGATOR = OPERATOR(pg_catalog.<>),
    RESTRICT = eqsel, JOIN = eqjoinsel,
    HASHES, MERGES
);
CREATE OPERATOR pg_catalog.<> (
    LEFTARG = cmblock.thumbprint, RIGHTARG = cmblock.thumbprint, FUNCTION = cmblock.thumbprint_ne,
    COMMUTATOR = OPERATOR(pg_catalog.<>), NEGATOR = OPERATOR(pg_catalog.=),
    RESTRICT = neqsel, JOIN = neqjoinsel
);
CREATE OPERATOR pg_catalog.>= (
    LEFTARG = cmblock.thumbprint, RIGHTARG = cmblock.thumbprint, FUNCTION = cmblock.thumbprint_ge,
    COMMUTATOR = OPERATOR(pg_catalog.<=), NEGATOR = OPERATOR(pg_catalog.<),
    RESTRICT = scalargesel, JOIN = scalargejoinsel
);
CREATE OPERATOR pg_catalog.> (
    LEFTARG = cmblock.thumbprint, RIGHTARG = cmblock.thumbprint, FUNCTION = cmblock.thumbprint_gt,
    COMMUTATOR = OPERATOR(pg_catalog.<), NEGATOR = OPERATOR(pg_catalog.<=),
    RESTRICT = scalargtsel, JOIN = scalargtjoinsel
);

CREATE OPERATOR CLASS cmblock.thumbprint_ops DEFAULT FOR TYPE cmblock.thumbprint USING btree AS
    OPERATOR 1 pg_catalog.<,
    OPERATOR 2 pg_catalog.<=,
    OPERATOR 3 pg_catalog.=,
    OPERATOR 4 pg_catalog.>=,
    OPERATOR 5 pg_catalog.>,
    FUNCTION 1 cmblock.thumbprint_cmp(cmblock.thumbprint, cmblock.thumbprint),
    FUNCTION 4 btequalimage(oid);

CREATE OPERATOR CLASS cmblock.thumbprint_ops DEFAULT FOR TYPE cmblock.thumbprint USING hash AS
    OPERATOR 1 pg_catalog.=,
    FUNCTION 1 cmblock.thumbprint_hash(cmblock.thumbprint),
    FUNCTION 2 cmblock.thumbprint_hash_extended(cmblock.thumbprint, bigint);

CREATE FUNCTION cmblock.thumbprint(bytea) RETURNS cmblock.thumbprint
    AS 'MODULE_PATHNAME', 'cmblock_thumbprint_from_bytea' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;

CREATE CAST (cmblock.thumbprint AS bytea) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE CAST (bytea AS cmblock.thumbprint) WITH FUNCTION cmblock.thumbprint(bytea) AS ASSIGNMENT;

CREATE TYPE cmblock.certificate_serial;

CREATE FUNCTION cmblock.certificate_serial_in(cstring) RETURNS cmblock.certificate_serial
    AS 'MODULE_PATHNAME', 'cmblock_certificate_serial_in' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.certificate_serial_out(cmblock.certificate_serial) RETURNS cstring
    AS 'MODULE_PATHNAME', 'cmblock_certificate_serial_out' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.certificate_serial_recv(internal) RETURNS cmblock.certificate_serial
    AS 'MODULE_PATHNAME', 'cmblock_certificate_serial_recv' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.certificate_serial_send(cmblock.certificate_serial) RETURNS bytea
    AS 'MODULE_PATHNAME', 'cmblock_certificate_serial_send' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;

CREATE TYPE cmblock.certificate_serial (
    INPUT = cmblock.certificate_serial_in,
    OUTPUT = cmblock.certificate_serial_out,
    RECEIVE = cmblock.certificate_serial_recv,
    SEND = cmblock.certificate_serial_send,
    INTERNALLENGTH = VARIABLE,
    STORAGE = main
);
COMMENT ON TYPE cmblock.certificate_serial IS
    'the serial number of a certificate: the octets of its INTEGER in hexadecimal, sign included, so that 00FF (255) and FF (-1) differ; '
    'tools that print numbers leave the leading 00 of a positive number out';

CREATE FUNCTION cmblock.certificate_serial_lt(cmblock.certificate_serial, cmblock.certificate_serial) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_certificate_serial_lt' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.certificate_serial_le(cmblock.certificate_serial, cmblock.certificate_serial) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_certificate_serial_le' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.certificate_serial_eq(cmblock.certificate_serial, cmblock.certificate_serial) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_certificate_serial_eq' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.certificate_serial_ne(cmblock.certificate_serial, cmblock.certificate_serial) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_certificate_serial_ne' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.certificate_serial_ge(cmblock.certificate_serial, cmblock.certificate_serial) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_certificate_serial_ge' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.certificate_serial_gt(cmblock.certificate_serial, cmblock.certificate_serial) RETURNS boolean
    AS 'MODULE_PATHNAME', 'cmblock_certificate_serial_gt' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.certificate_serial_cmp(cmblock.certificate_serial, cmblock.certificate_serial) RETURNS integer
    AS 'MODULE_PATHNAME', 'cmblock_certificate_serial_cmp' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.certificate_serial_hash(cmblock.certificate_serial) RETURNS integer
    AS 'MODULE_PATHNAME', 'cmblock_certificate_serial_hash' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.certificate_serial_hash_extended(cmblock.certificate_serial, bigint) RETURNS bigint
    AS 'MODULE_PATHNAME', 'cmblock_certificate_serial_hash_extended' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;

CREATE OPERATOR pg_catalog.< (
    LEFTARG = cmblock.certificate_serial, RIGHTARG = cmblock.certificate_serial, FUNCTION = cmblock.certificate_serial_lt,
    COMMUTATOR = OPERATOR(pg_catalog.>), NEGATOR = OPERATOR(pg_catalog.>=),
    RESTRICT = scalarltsel, JOIN = scalarltjoinsel
);
CREATE OPERATOR pg_catalog.<= (
    LEFTARG = cmblock.certificate_serial, RIGHTARG = cmblock.certificate_serial, FUNCTION = cmblock.certificate_serial_le,
    COMMUTATOR = OPERATOR(pg_catalog.>=), NEGATOR = OPERATOR(pg_catalog.>),
    RESTRICT = scalarlesel, JOIN = scalarlejoinsel
);
CREATE OPERATOR pg_catalog.= (
    LEFTARG = cmblock.certificate_serial, RIGHTARG = cmblock.certificate_serial, FUNCTION = cmblock.certificate_serial_eq,
    COMMUTATOR = OPERATOR(pg_catalog.=), NEGATOR = OPERATOR(pg_catalog.<>),
    RESTRICT = eqsel, JOIN = eqjoinsel,
    HASHES, MERGES
);
CREATE OPERATOR pg_catalog.<> (
    LEFTARG = cmblock.certificate_serial, RIGHTARG = cmblock.certificate_serial, FUNCTION = cmblock.certificate_serial_ne,
    COMMUTATOR = OPERATOR(pg_catalog.<>), NEGATOR = OPERATOR(pg_catalog.=),
    RESTRICT = neqsel, JOIN = neqjoinsel
);
CREATE OPERATOR pg_catalog.>= (
    LEFTARG = cmblock.certificate_serial, RIGHTARG = cmblock.certificate_serial, FUNCTION = cmblock.certificate_serial_ge,
    COMMUTATOR = OPERATOR(pg_catalog.<=), NEGATOR = OPERATOR(pg_catalog.<),
    RESTRICT = scalargesel, JOIN = scalargejoinsel
);
CREATE OPERATOR pg_catalog.> (
    LEFTARG = cmblock.certificate_serial, RIGHTARG = cmblock.certificate_serial, FUNCTION = cmblock.certificate_serial_gt,
    COMMUTATOR = OPERATOR(pg_catalog.<), NEGATOR = OPERATOR(pg_catalog.<=),
    RESTRICT = scalargtsel, JOIN = scalargtjoinsel
);

CREATE OPERATOR CLASS cmblock.certificate_serial_ops DEFAULT FOR TYPE cmblock.certificate_serial USING btree AS
    OPERATOR 1 pg_catalog.<,
    OPERATOR 2 pg_catalog.<=,
    OPERATOR 3 pg_catalog.=,
    OPERATOR 4 pg_catalog.>=,
    OPERATOR 5 pg_catalog.>,
    FUNCTION 1 cmblock.certificate_serial_cmp(cmblock.certificate_serial, cmblock.certificate_serial),
    FUNCTION 4 btequalimage(oid);

CREATE OPERATOR CLASS cmblock.certificate_serial_ops DEFAULT FOR TYPE cmblock.certificate_serial USING hash AS
    OPERATOR 1 pg_catalog.=,
    FUNCTION 1 cmblock.certificate_serial_hash(cmblock.certificate_serial),
    FUNCTION 2 cmblock.certificate_serial_hash_extended(cmblock.certificate_serial, bigint);

CREATE FUNCTION cmblock.certificate_serial(bytea) RETURNS cmblock.certificate_serial
    AS 'MODULE_PATHNAME', 'cmblock_certificate_serial_from_bytea' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;
CREATE FUNCTION cmblock.certificate_serial_to_numeric(cmblock.certificate_serial) RETURNS numeric
    AS 'MODULE_PATHNAME', 'cmblock_certificate_serial_to_numeric' IMMUTABLE STRICT PARALLEL SAFE LANGUAGE C;

-- Not from numeric: one number has many spellings, and only one of them is in the certificate.
CREATE CAST (cmblock.certificate_serial AS bytea) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE CAST (bytea AS cmblock.certificate_serial) WITH FUNCTION cmblock.certificate_serial(bytea) AS ASSIGNMENT;
CREATE CAST (cmblock.certificate_serial AS numeric) WITH FUNCTION cmblock.certificate_serial_to_numeric(cmblock.certificate_serial);

CREATE TYPE cmblock.site_kind AS ENUM ('central', 'primary', 'secondary');
COMMENT ON TYPE cmblock.site_kind IS 'what a site is in the hierarchy; a central site has no clients of its own';

CREATE TYPE cmblock.client_kind AS ENUM ('computer', 'mac', 'mobile_device');
COMMENT ON TYPE cmblock.client_kind IS 'what a client is, which decides who checks CRLs for it';

CREATE TYPE cmblock.certificate_type AS ENUM ('client', 'boot_media', 'distribution_point', 'isv_proxy');
COMMENT ON TYPE cmblock.certificate_type IS 'what a certificate is for: a client''s own, or shared by everything that boots or goes through its holder';

CREATE TYPE cmblock.transport AS ENUM ('http', 'enhanced_http', 'https');
COMMENT ON TYPE cmblock.transport IS 'how a client reached the site';

CREATE TYPE cmblock.request_kind AS ENUM (
    'policy', 'inventory', 'state_message', 'status_message', 'registration', 'content', 'os_deployment'
);
COMMENT ON TYPE cmblock.request_kind IS 'what a client asks for';

CREATE TYPE cmblock.assurance AS ENUM ('limited', 'full');
COMMENT ON TYPE cmblock.assurance IS 'how sure a decision is of who asks: full only for HTTPS with a PKI certificate';

CREATE TYPE cmblock.block_outcome AS ENUM (
    'blocked', 'unblocked', 'unchanged', 'not_found', 'not_assigned_here', 'isv_proxied'
);
COMMENT ON TYPE cmblock.block_outcome IS 'what became of a request to block or unblock';

CREATE TYPE cmblock.crl_policy AS ENUM ('required', 'best_effort', 'off');
COMMENT ON TYPE cmblock.crl_policy IS 'what a missing or expired CRL of an authority means: refusal, a remark, or nothing';

CREATE TYPE cmblock.revocation AS ENUM ('good', 'revoked', 'unknown');
COMMENT ON TYPE cmblock.revocation IS 'what the CRLs say of a certificate: unknown is not good, and it is not revoked either';

-- ---------------------------------------------------------------------------------------------
-- Comments on the parts of the data types: they are alike for each, so they are written once.
-- ---------------------------------------------------------------------------------------------

DO $$
DECLARE
	part record;
BEGIN
	FOR part IN
		SELECT p.oid::regprocedure::text AS name, coalesce(o.sign || ' of ' || t.type, role.text || t.type) AS text
		FROM pg_catalog.pg_proc p
		JOIN pg_catalog.unnest(ARRAY['site_code', 'smsid', 'thumbprint', 'certificate_serial']) t (type) ON p.proname ~ ('^' || t.type)
		LEFT JOIN (VALUES ('lt', '<'), ('le', '<='), ('eq', '='), ('ne', '<>'), ('ge', '>='), ('gt', '>')) o (suffix, sign)
			ON p.proname = t.type || '_' || o.suffix
		LEFT JOIN (VALUES ('', 'cast from bytea to '), ('_in', 'text input of '), ('_out', 'text output of '),
				('_recv', 'binary input of '), ('_send', 'binary output of '), ('_cmp', 'btree comparison of '),
				('_sortsupport', 'btree sort support of '), ('_hash', 'hash of '), ('_hash_extended', 'seeded hash of '),
				('_smaller', 'the smaller '), ('_larger', 'the larger '), ('_to_numeric', 'cast to numeric of ')) role (suffix, text)
			ON p.proname = t.type || role.suffix
		WHERE p.pronamespace = 'cmblock'::regnamespace
	LOOP
		EXECUTE pg_catalog.format('COMMENT ON FUNCTION %s IS %L', part.name, part.text);
	END LOOP;

	FOR part IN
		SELECT o.oid::regoperator::text AS name, v.text
		FROM pg_catalog.pg_operator o
		JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode
		JOIN (VALUES ('<', 'less than'), ('<=', 'less than or equal'), ('=', 'equal'), ('<>', 'not equal'),
				('>=', 'greater than or equal'), ('>', 'greater than')) v (sign, text) ON v.sign = o.oprname
		WHERE p.pronamespace = 'cmblock'::regnamespace
	LOOP
		EXECUTE pg_catalog.format('COMMENT ON OPERATOR %s IS %L', part.name, part.text);
	END LOOP;

	FOR part IN
		SELECT f.opfname AS name, a.amname AS method
		FROM pg_catalog.pg_opfamily f JOIN pg_catalog.pg_am a ON a.oid = f.opfmethod
		WHERE f.opfnamespace = 'cmblock'::regnamespace
	LOOP
		EXECUTE pg_catalog.format('COMMENT ON OPERATOR CLASS cmblock.%1$I USING %2$I IS %3$L; COMMENT ON OPERATOR FAMILY cmblock.%1$I USING %2$I IS %3$L',
			part.name, part.method, CASE part.method WHEN 'btree' THEN 'order of values' ELSE 'equality of values' END);
	END LOOP;
END
$$;

COMMENT ON AGGREGATE pg_catalog.min(cmblock.site_code) IS 'the first in order of all values';
COMMENT ON AGGREGATE pg_catalog.max(cmblock.site_code) IS 'the last in order of all values';
COMMENT ON CAST (bytea AS cmblock.certificate_serial) IS 'the octets of the INTEGER, sign included';
COMMENT ON CAST (cmblock.certificate_serial AS bytea) IS 'the octets of the INTEGER, sign included';
COMMENT ON CAST (cmblock.certificate_serial AS numeric) IS 'its value';
COMMENT ON CAST (bytea AS cmblock.thumbprint) IS 'the 20 or 32 octets of the digest';
COMMENT ON CAST (cmblock.thumbprint AS bytea) IS 'the 20 or 32 octets of the digest';
COMMENT ON CAST (uuid AS cmblock.smsid) IS 'the same 16 octets';
COMMENT ON CAST (cmblock.smsid AS uuid) IS 'the same 16 octets';

-- ---------------------------------------------------------------------------------------------
-- Tables
--
-- Rows of client and certificate have a single writer, the assigned site, and end in the same columns:
--   version      grows by one with every change
--   origin_site  the site that wrote this version
--   change_xid   the transaction that wrote it here: what replication asks for
--   changed_by, changed_at   who (the login role) and when, at the origin site
-- The guard stamps them; a caller never does.
--
-- A text that decisions look for has collation "C": the order of others changes with the operating system's libraries, and an
-- index that is in the old order hides rows without a word.
-- ---------------------------------------------------------------------------------------------

CREATE TABLE cmblock.this_site (
	only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
	code        cmblock.site_code NOT NULL,
	kind        cmblock.site_kind NOT NULL,
	hierarchy   uuid NOT NULL,
	parent      cmblock.site_code,
	set_up_by   text NOT NULL,
	set_up_at   timestamptz NOT NULL,
	incarnation text,
	restored_at timestamptz,
	CHECK (CASE kind
	           WHEN 'central' THEN parent IS NULL
	           WHEN 'secondary' THEN parent IS NOT NULL
	           ELSE true
	       END)
);
COMMENT ON TABLE cmblock.this_site IS 'who this database is: one row, written by setup_site';
COMMENT ON COLUMN cmblock.this_site.only_row IS 'always true: there is one row';
COMMENT ON COLUMN cmblock.this_site.code IS 'the code of this site';
COMMENT ON COLUMN cmblock.this_site.kind IS 'what this site is in the hierarchy';
COMMENT ON COLUMN cmblock.this_site.hierarchy IS 'the identity of the hierarchy: nothing crosses from one into another';
COMMENT ON COLUMN cmblock.this_site.parent IS 'the site above this one; null at the top';
COMMENT ON COLUMN cmblock.this_site.set_up_by IS 'the login role that called setup_site';
COMMENT ON COLUMN cmblock.this_site.set_up_at IS 'when setup_site was called';
COMMENT ON COLUMN cmblock.this_site.incarnation IS 'cluster, timeline and database that it last ran as: another one was restored from somewhere';
COMMENT ON COLUMN cmblock.this_site.restored_at IS 'when it was noticed that the database was set back; null again once it has compared with its neighbours';

CREATE TABLE cmblock.site (
	code        cmblock.site_code PRIMARY KEY,
	kind        cmblock.site_kind NOT NULL,
	parent      cmblock.site_code,
	retired_at  timestamptz,
	version     bigint NOT NULL,
	origin_site cmblock.site_code NOT NULL,
	change_xid  xid8 NOT NULL,
	changed_by  text NOT NULL,
	changed_at  timestamptz NOT NULL
);
CREATE INDEX site_change_xid ON cmblock.site (change_xid, code);
COMMENT ON INDEX cmblock.site_change_xid IS 'for the feed of replication';
COMMENT ON TABLE cmblock.site IS 'the sites of the hierarchy; codes of retired sites stay';
COMMENT ON COLUMN cmblock.site.code IS 'the code of the site, used once in the life of a hierarchy';
COMMENT ON COLUMN cmblock.site.kind IS 'what the site is in the hierarchy';
COMMENT ON COLUMN cmblock.site.parent IS 'the site above it; null at the top';
COMMENT ON COLUMN cmblock.site.retired_at IS 'since when it is out of the hierarchy; null: it is in it';
COMMENT ON COLUMN cmblock.site.version IS 'grows by one with every change';
COMMENT ON COLUMN cmblock.site.origin_site IS 'the site that wrote this version';
COMMENT ON COLUMN cmblock.site.change_xid IS 'the transaction that wrote this version here: what replication asks for';
COMMENT ON COLUMN cmblock.site.changed_by IS 'the login role that wrote this version, at the origin site';
COMMENT ON COLUMN cmblock.site.changed_at IS 'when this version was written, at the origin site';

CREATE TABLE cmblock.client (
	smsid            cmblock.smsid PRIMARY KEY,
	name             text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
	kind             cmblock.client_kind NOT NULL,
	assigned_site    cmblock.site_code NOT NULL,
	hardware_id      text COLLATE "C" CHECK (length(hardware_id) BETWEEN 1 AND 255),
	approval         smallint NOT NULL CHECK (approval BETWEEN 0 AND 2),
	isv_proxied      boolean NOT NULL,
	registered_at    timestamptz NOT NULL,
	deleted_at       timestamptz,
	blocked          boolean NOT NULL,
	block_reason     text CHECK (length(block_reason) <= 1000),
	block_ticket     text CHECK (length(block_ticket) <= 255),
	block_changed_by text,
	block_changed_at timestamptz,
	version          bigint NOT NULL,
	origin_site      cmblock.site_code NOT NULL,
	change_xid       xid8 NOT NULL,
	changed_by       text NOT NULL,
	changed_at       timestamptz NOT NULL,
	block_received_at timestamptz,
	CHECK (NOT (blocked AND isv_proxied)),
	CHECK (NOT blocked OR block_changed_at IS NOT NULL)
);
CREATE INDEX client_change_xid ON cmblock.client (change_xid, smsid);
CREATE INDEX client_hardware_id ON cmblock.client (hardware_id);
CREATE INDEX client_blocked_hardware_id ON cmblock.client (hardware_id) WHERE blocked;
CREATE INDEX client_blocked ON cmblock.client (smsid) WHERE blocked;
CREATE INDEX client_name ON cmblock.client (lower(name));
COMMENT ON INDEX cmblock.client_change_xid IS 'for the feed of replication';
COMMENT ON INDEX cmblock.client_hardware_id IS 'for suspected_rejoin';
COMMENT ON INDEX cmblock.client_blocked_hardware_id IS 'for the decision: is the hardware that of a blocked client?';
COMMENT ON INDEX cmblock.client_blocked IS 'for blocked_client';
COMMENT ON INDEX cmblock.client_name IS 'for suspected_rejoin, and searching by name';
COMMENT ON TABLE cmblock.client IS 'the clients of the hierarchy with their block state; a deleted client leaves its row';
COMMENT ON COLUMN cmblock.client.approval IS '0 not approved, 1 approved, 2 not applicable';
COMMENT ON COLUMN cmblock.client.isv_proxied IS 'reaches the site through an ISV proxy certificate, so it cannot be blocked itself';
COMMENT ON COLUMN cmblock.client.block_changed_by IS 'the login role that blocked or unblocked it last';
COMMENT ON COLUMN cmblock.client.block_received_at IS 'when this site took the block state in from a neighbour; null: it was set here. Not replicated: each site has its own';
COMMENT ON COLUMN cmblock.client.smsid IS 'the identity of the client';
COMMENT ON COLUMN cmblock.client.name IS 'the name of the client: not unique';
COMMENT ON COLUMN cmblock.client.kind IS 'what kind of device it is';
COMMENT ON COLUMN cmblock.client.assigned_site IS 'the primary site that it is assigned to: no other may change it';
COMMENT ON COLUMN cmblock.client.hardware_id IS 'the identity of the hardware as the client gave it';
COMMENT ON COLUMN cmblock.client.registered_at IS 'when it was registered, or came back after it was deleted';
COMMENT ON COLUMN cmblock.client.deleted_at IS 'since when it is deleted; the row and its block stay';
COMMENT ON COLUMN cmblock.client.blocked IS 'refused everything';
COMMENT ON COLUMN cmblock.client.block_reason IS 'why it was blocked or unblocked last, in the words of whoever did it';
COMMENT ON COLUMN cmblock.client.block_ticket IS 'the ticket under which that was done';
COMMENT ON COLUMN cmblock.client.block_changed_at IS 'when it was blocked or unblocked last';
COMMENT ON COLUMN cmblock.client.version IS 'grows by one with every change';
COMMENT ON COLUMN cmblock.client.origin_site IS 'the site that wrote this version';
COMMENT ON COLUMN cmblock.client.change_xid IS 'the transaction that wrote this version here: what replication asks for';
COMMENT ON COLUMN cmblock.client.changed_by IS 'the login role that wrote this version, at the origin site';
COMMENT ON COLUMN cmblock.client.changed_at IS 'when this version was written, at the origin site';

CREATE TABLE cmblock.certificate (
	sha256           cmblock.thumbprint PRIMARY KEY CHECK (octet_length(sha256::bytea) = 32),
	sha1             cmblock.thumbprint NOT NULL CHECK (octet_length(sha1::bytea) = 20),
	type             cmblock.certificate_type NOT NULL,
	client           cmblock.smsid,
	assigned_site    cmblock.site_code NOT NULL,
	subject          text NOT NULL,
	issuer           text NOT NULL,
	serial           cmblock.certificate_serial NOT NULL,
	not_before       timestamptz NOT NULL,
	not_after        timestamptz NOT NULL,
	self_signed      boolean NOT NULL,
	key_sha256       cmblock.thumbprint NOT NULL,
	der              bytea NOT NULL,
	registered_at    timestamptz NOT NULL,
	deleted_at       timestamptz,
	blocked          boolean NOT NULL,
	block_reason     text CHECK (length(block_reason) <= 1000),
	block_ticket     text CHECK (length(block_ticket) <= 255),
	block_changed_by text,
	block_changed_at timestamptz,
	version          bigint NOT NULL,
	origin_site      cmblock.site_code NOT NULL,
	change_xid       xid8 NOT NULL,
	changed_by       text NOT NULL,
	changed_at       timestamptz NOT NULL,
	revoked_at       timestamptz,
	CHECK ((type = 'client') = (client IS NOT NULL)),
	CHECK (NOT blocked OR block_changed_at IS NOT NULL)
);
CREATE INDEX certificate_change_xid ON cmblock.certificate (change_xid, sha256);
CREATE INDEX certificate_sha1 ON cmblock.certificate (sha1);
CREATE INDEX certificate_client ON cmblock.certificate (client);
CREATE INDEX certificate_key ON cmblock.certificate (key_sha256);
CREATE INDEX certificate_blocked ON cmblock.certificate (sha256) WHERE blocked;
COMMENT ON INDEX cmblock.certificate_change_xid IS 'for the feed of replication';
COMMENT ON INDEX cmblock.certificate_sha1 IS 'for certificates named by their SHA-1';
COMMENT ON INDEX cmblock.certificate_client IS 'for the certificates of a client';
COMMENT ON INDEX cmblock.certificate_key IS 'for certificates with the same key';
COMMENT ON INDEX cmblock.certificate_blocked IS 'for blocked_certificate';
COMMENT ON TABLE cmblock.certificate IS 'the certificates the hierarchy knows, each with a block state of its own';
COMMENT ON COLUMN cmblock.certificate.revoked_at IS 'revoked by this hierarchy, whatever a CRL says: the mobile device it was of was deleted; it never becomes good again';
COMMENT ON COLUMN cmblock.certificate.key_sha256 IS 'SHA-256 of the SubjectPublicKeyInfo';
COMMENT ON COLUMN cmblock.certificate.sha256 IS 'SHA-256 thumbprint: of the DER';
COMMENT ON COLUMN cmblock.certificate.sha1 IS 'SHA-1 thumbprint: of the DER';
COMMENT ON COLUMN cmblock.certificate.type IS 'what the certificate is for';
COMMENT ON COLUMN cmblock.certificate.client IS 'the client that it is of; null where it stands by itself';
COMMENT ON COLUMN cmblock.certificate.assigned_site IS 'the primary site that it is assigned to, which is its client''s';
COMMENT ON COLUMN cmblock.certificate.subject IS 'the name of its subject';
COMMENT ON COLUMN cmblock.certificate.issuer IS 'the name of the CA that issued it';
COMMENT ON COLUMN cmblock.certificate.serial IS 'its serial number, unique for the issuer';
COMMENT ON COLUMN cmblock.certificate.not_before IS 'the beginning of its validity';
COMMENT ON COLUMN cmblock.certificate.not_after IS 'the end of its validity';
COMMENT ON COLUMN cmblock.certificate.self_signed IS 'nobody but itself vouches for it: served over HTTP only';
COMMENT ON COLUMN cmblock.certificate.der IS 'the certificate itself';
COMMENT ON COLUMN cmblock.certificate.registered_at IS 'when it was registered, or came back after it was deleted';
COMMENT ON COLUMN cmblock.certificate.deleted_at IS 'since when it is deleted; the row and its block stay';
COMMENT ON COLUMN cmblock.certificate.blocked IS 'refused everything';
COMMENT ON COLUMN cmblock.certificate.block_reason IS 'why it was blocked or unblocked last, in the words of whoever did it';
COMMENT ON COLUMN cmblock.certificate.block_ticket IS 'the ticket under which that was done';
COMMENT ON COLUMN cmblock.certificate.block_changed_at IS 'when it was blocked or unblocked last';
COMMENT ON COLUMN cmblock.certificate.block_changed_by IS 'the login role that blocked or unblocked it last';
COMMENT ON COLUMN cmblock.certificate.version IS 'grows by one with every change';
COMMENT ON COLUMN cmblock.certificate.origin_site IS 'the site that wrote this version';
COMMENT ON COLUMN cmblock.certificate.change_xid IS 'the transaction that wrote this version here: what replication asks for';
COMMENT ON COLUMN cmblock.certificate.changed_by IS 'the login role that wrote this version, at the origin site';
COMMENT ON COLUMN cmblock.certificate.changed_at IS 'when this version was written, at the origin site';

CREATE TYPE cmblock.block_action AS ENUM ('blocked', 'unblocked', 'reassigned', 'deleted', 'recovered', 'conflict', 'seized');
COMMENT ON TYPE cmblock.block_action IS 'what a row of block_event records';

CREATE TABLE cmblock.block_event (
	id               bigint PRIMARY KEY,
	action           cmblock.block_action NOT NULL,
	client           cmblock.smsid,
	certificate      cmblock.thumbprint,
	site             cmblock.site_code NOT NULL,
	to_site          cmblock.site_code,
	reason           text,
	ticket           text,
	actor            text NOT NULL,
	at               timestamptz NOT NULL,
	client_address   inet,
	application_name text,
	version          bigint NOT NULL,
	previous_hash    bytea NOT NULL CHECK (octet_length(previous_hash) = 32),
	hash             bytea NOT NULL CHECK (octet_length(hash) = 32),
	CHECK (num_nonnulls(client, certificate) = 1)
);
CREATE INDEX block_event_client ON cmblock.block_event (client);
CREATE INDEX block_event_certificate ON cmblock.block_event (certificate);
COMMENT ON INDEX cmblock.block_event_client IS 'for the history of a client';
COMMENT ON INDEX cmblock.block_event_certificate IS 'for the history of a certificate';
COMMENT ON TABLE cmblock.block_event IS 'who blocked, unblocked, reassigned, deleted or seized what at this site, and what was recovered or in conflict: append-only, each row chained to the one before by SHA-256';
COMMENT ON COLUMN cmblock.block_event.id IS 'place in the chain: 1, 2, 3 ... without a gap';
COMMENT ON COLUMN cmblock.block_event.hash IS 'SHA-256 over previous_hash and the fields of this row (docs/security.md)';
COMMENT ON COLUMN cmblock.block_event.action IS 'what was done';
COMMENT ON COLUMN cmblock.block_event.client IS 'to which client; null where it was done to a certificate';
COMMENT ON COLUMN cmblock.block_event.certificate IS 'to which certificate; null where it was done to a client';
COMMENT ON COLUMN cmblock.block_event.site IS 'the site at which it was done';
COMMENT ON COLUMN cmblock.block_event.to_site IS 'the site that a client or certificate was handed to';
COMMENT ON COLUMN cmblock.block_event.reason IS 'why, in the words of whoever did it';
COMMENT ON COLUMN cmblock.block_event.ticket IS 'the ticket under which it was done';
COMMENT ON COLUMN cmblock.block_event.actor IS 'the login role that did it';
COMMENT ON COLUMN cmblock.block_event.at IS 'when the statement that did it began';
COMMENT ON COLUMN cmblock.block_event.client_address IS 'the address that the session came from; null: a local one';
COMMENT ON COLUMN cmblock.block_event.application_name IS 'the program, as it called itself';
COMMENT ON COLUMN cmblock.block_event.version IS 'the version of the row that this made';
COMMENT ON COLUMN cmblock.block_event.previous_hash IS 'the hash of the row before; zeros in the first';

-- ---------------------------------------------------------------------------------------------
-- Trust list: the CAs that this site accepts. Each site has its own; it is not replicated.
-- ---------------------------------------------------------------------------------------------

CREATE TYPE cmblock.crl_key_policy AS ENUM ('automatic', 'same_key', 'any_key');
COMMENT ON TYPE cmblock.crl_key_policy IS 'which CRLs of a CA speak of a certificate: those signed by the key that signed the certificate, or by any key of the CA; automatic is same_key for CAs that have a CA Version, as Microsoft''s do, and any_key for others';

CREATE TYPE cmblock.delta_policy AS ENUM ('required', 'when_held', 'optional');
COMMENT ON TYPE cmblock.delta_policy IS 'when a good answer needs a valid delta CRL: required, where one was ever taken in or the CRL names one; when_held, where one was ever taken in; optional, never';

CREATE TABLE cmblock.certificate_authority (
	sha256      cmblock.thumbprint PRIMARY KEY CHECK (octet_length(sha256::bytea) = 32),
	subject     text NOT NULL,
	issuer      text NOT NULL,
	serial      cmblock.certificate_serial NOT NULL,
	not_before  timestamptz NOT NULL,
	not_after   timestamptz NOT NULL,
	key_sha256  cmblock.thumbprint NOT NULL,
	self_signed boolean NOT NULL,
	policy      cmblock.crl_policy NOT NULL,
	crl_signer  boolean NOT NULL,
	base_grace  interval NOT NULL DEFAULT '0' CHECK (base_grace >= '0'),
	delta_grace interval NOT NULL DEFAULT '0' CHECK (delta_grace >= '0'),
	max_age     interval CHECK (max_age > '0'),
	key_policy  cmblock.crl_key_policy NOT NULL DEFAULT 'automatic',
	delta_policy cmblock.delta_policy NOT NULL DEFAULT 'when_held',
	allow_sha1  boolean NOT NULL DEFAULT false,
	require_number boolean NOT NULL DEFAULT true,
	der         bytea NOT NULL,
	added_by    text NOT NULL,
	added_at    timestamptz NOT NULL
);
COMMENT ON TABLE cmblock.certificate_authority IS 'the trust list of this site: the CAs whose certificates it accepts, and the signers of their CRLs';
COMMENT ON COLUMN cmblock.certificate_authority.crl_signer IS 'may sign CRLs and no certificates: the separate CRL key of a CA, or the issuer of indirect CRLs';
COMMENT ON COLUMN cmblock.certificate_authority.base_grace IS 'how long after its next update a full CRL of this CA still says that a certificate is good';
COMMENT ON COLUMN cmblock.certificate_authority.delta_grace IS 'the same for delta CRLs';
COMMENT ON COLUMN cmblock.certificate_authority.max_age IS 'a full CRL older than this says of no certificate that it is good; one that has no next update can do so until then. NULL: no such limit';
COMMENT ON COLUMN cmblock.certificate_authority.key_policy IS 'whose CRLs count: those of the key that signed the certificate, or those of any key of the CA';
COMMENT ON COLUMN cmblock.certificate_authority.delta_policy IS 'when a good answer needs a valid delta CRL, too';
COMMENT ON COLUMN cmblock.certificate_authority.allow_sha1 IS 'takes in CRLs that this key signed with SHA-1';
COMMENT ON COLUMN cmblock.certificate_authority.require_number IS 'refuses CRLs of this key that have extensions and no CRL number';
COMMENT ON COLUMN cmblock.certificate_authority.key_sha256 IS 'SHA-256 of the SubjectPublicKeyInfo';
COMMENT ON COLUMN cmblock.certificate_authority.policy IS 'what a certificate of this CA needs: a CRL that says it is good, one if there is one, or none';
COMMENT ON COLUMN cmblock.certificate_authority.self_signed IS 'a root; a CA whose issuer is not in the list is an anchor, too';
COMMENT ON COLUMN cmblock.certificate_authority.sha256 IS 'SHA-256 thumbprint of the CA certificate';
COMMENT ON COLUMN cmblock.certificate_authority.subject IS 'the name of the CA';
COMMENT ON COLUMN cmblock.certificate_authority.issuer IS 'the name of the CA that issued its certificate';
COMMENT ON COLUMN cmblock.certificate_authority.serial IS 'the serial number of its certificate';
COMMENT ON COLUMN cmblock.certificate_authority.not_before IS 'the beginning of its validity';
COMMENT ON COLUMN cmblock.certificate_authority.not_after IS 'the end of its validity';
COMMENT ON COLUMN cmblock.certificate_authority.der IS 'the CA certificate itself';
COMMENT ON COLUMN cmblock.certificate_authority.added_by IS 'the login role that added it';
COMMENT ON COLUMN cmblock.certificate_authority.added_at IS 'when it was added';

CREATE FUNCTION cmblock.certificate_authority_changed() RETURNS trigger
	AS 'MODULE_PATHNAME', 'cmblock_certificate_authority_changed' LANGUAGE C;
COMMENT ON FUNCTION cmblock.certificate_authority_changed() IS 'trigger of certificate_authority: tells every session that the trust list changed';

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON cmblock.certificate_authority
	FOR EACH STATEMENT EXECUTE FUNCTION cmblock.certificate_authority_changed();
ALTER TABLE cmblock.certificate_authority ENABLE ALWAYS TRIGGER changed;
COMMENT ON TRIGGER changed ON cmblock.certificate_authority IS 'tells every session that the trust list changed';

CREATE FUNCTION cmblock.add_certificate_authority(certificate bytea, policy cmblock.crl_policy DEFAULT 'required')
	RETURNS cmblock.thumbprint
	AS 'MODULE_PATHNAME', 'cmblock_add_certificate_authority' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.add_certificate_authority IS 'adds a CA (DER or PEM) to the trust list of this site, or changes its revocation policy; returns its SHA-256 thumbprint';

CREATE FUNCTION cmblock.remove_certificate_authority(authority cmblock.thumbprint) RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_remove_certificate_authority' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.remove_certificate_authority IS 'takes the CA with this SHA-256 or SHA-1 thumbprint out of the trust list of this site';

CREATE FUNCTION cmblock.set_crl_policy(authority cmblock.thumbprint, policy cmblock.crl_policy DEFAULT NULL,
		base_grace interval DEFAULT NULL, delta_grace interval DEFAULT NULL, max_age interval DEFAULT NULL,
		key_policy cmblock.crl_key_policy DEFAULT NULL, delta_policy cmblock.delta_policy DEFAULT NULL,
		allow_sha1 boolean DEFAULT NULL, require_number boolean DEFAULT NULL) RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_set_crl_policy' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.set_crl_policy IS 'changes what this site expects of the CRLs of a CA; what is NULL stays as it is; a max_age of 0 takes the limit away';

-- ---------------------------------------------------------------------------------------------
-- Sites
-- ---------------------------------------------------------------------------------------------

CREATE FUNCTION cmblock.setup_site(code cmblock.site_code, kind cmblock.site_kind,
		hierarchy uuid DEFAULT gen_random_uuid(), parent cmblock.site_code DEFAULT NULL) RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_setup_site' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.setup_site IS 'says who this database is; a stand-alone primary needs nothing more';

CREATE FUNCTION cmblock.add_site(code cmblock.site_code, kind cmblock.site_kind, parent cmblock.site_code) RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_add_site' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.add_site IS 'adds a site below this one to the hierarchy';

CREATE FUNCTION cmblock.retire_site(code cmblock.site_code) RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_retire_site' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.retire_site IS 'takes a site below this one out of the hierarchy; its code stays known';

-- ---------------------------------------------------------------------------------------------
-- The guard: only the assigned primary site changes a row
-- ---------------------------------------------------------------------------------------------

CREATE FUNCTION cmblock.guard_row() RETURNS trigger
	AS 'MODULE_PATHNAME', 'cmblock_guard_row' LANGUAGE C;
COMMENT ON FUNCTION cmblock.guard_row() IS 'trigger of client and certificate: lets only the assigned primary site write, and stamps the row';

CREATE FUNCTION cmblock.guard_assigned_site() RETURNS trigger
	AS 'MODULE_PATHNAME', 'cmblock_guard_assigned_site' LANGUAGE C;
COMMENT ON FUNCTION cmblock.guard_assigned_site() IS 'trigger for a table of your own: only the primary site named in the column that is its argument may write a row';

CREATE FUNCTION cmblock.guard_command_table() RETURNS trigger
	AS 'MODULE_PATHNAME', 'cmblock_guard_command_table' LANGUAGE C;
COMMENT ON FUNCTION cmblock.guard_command_table() IS 'trigger of this_site, site and block_event: lets only cmblock''s own commands write';

CREATE FUNCTION cmblock.guard_truncate() RETURNS trigger
	AS 'MODULE_PATHNAME', 'cmblock_guard_truncate' LANGUAGE C;
COMMENT ON FUNCTION cmblock.guard_truncate() IS 'trigger: refuses TRUNCATE';

CREATE FUNCTION cmblock.record_block_event() RETURNS trigger
	AS 'MODULE_PATHNAME', 'cmblock_record_block_event' LANGUAGE C;
COMMENT ON FUNCTION cmblock.record_block_event() IS 'trigger: writes the block history when the transaction commits';

CREATE FUNCTION cmblock.this_site_changed() RETURNS trigger
	AS 'MODULE_PATHNAME', 'cmblock_this_site_changed' LANGUAGE C;
COMMENT ON FUNCTION cmblock.this_site_changed() IS 'trigger of this_site: tells every session that the site''s identity changed';

CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON cmblock.client
	FOR EACH ROW EXECUTE FUNCTION cmblock.guard_row();
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON cmblock.certificate
	FOR EACH ROW EXECUTE FUNCTION cmblock.guard_row();
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON cmblock.site
	FOR EACH ROW EXECUTE FUNCTION cmblock.guard_command_table();
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON cmblock.this_site
	FOR EACH ROW EXECUTE FUNCTION cmblock.guard_command_table();
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON cmblock.block_event
	FOR EACH ROW EXECUTE FUNCTION cmblock.guard_command_table();

CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON cmblock.client
	FOR EACH STATEMENT EXECUTE FUNCTION cmblock.guard_truncate();
CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON cmblock.certificate
	FOR EACH STATEMENT EXECUTE FUNCTION cmblock.guard_truncate();
CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON cmblock.site
	FOR EACH STATEMENT EXECUTE FUNCTION cmblock.guard_truncate();
CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON cmblock.this_site
	FOR EACH STATEMENT EXECUTE FUNCTION cmblock.guard_truncate();
CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON cmblock.block_event
	FOR EACH STATEMENT EXECUTE FUNCTION cmblock.guard_truncate();

-- Deferred, so that the chain is locked only while a transaction commits.
CREATE CONSTRAINT TRIGGER history AFTER UPDATE ON cmblock.client
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
	WHEN (OLD.blocked <> NEW.blocked OR OLD.assigned_site <> NEW.assigned_site OR OLD.deleted_at IS DISTINCT FROM NEW.deleted_at)
	EXECUTE FUNCTION cmblock.record_block_event();
CREATE CONSTRAINT TRIGGER history AFTER UPDATE ON cmblock.certificate
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
	WHEN (OLD.blocked <> NEW.blocked OR OLD.assigned_site <> NEW.assigned_site OR OLD.deleted_at IS DISTINCT FROM NEW.deleted_at)
	EXECUTE FUNCTION cmblock.record_block_event();

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON cmblock.this_site
	FOR EACH STATEMENT EXECUTE FUNCTION cmblock.this_site_changed();

-- ALWAYS: session_replication_role = replica must not switch them off.
ALTER TABLE cmblock.client      ENABLE ALWAYS TRIGGER guard, ENABLE ALWAYS TRIGGER guard_truncate, ENABLE ALWAYS TRIGGER history;
ALTER TABLE cmblock.certificate ENABLE ALWAYS TRIGGER guard, ENABLE ALWAYS TRIGGER guard_truncate, ENABLE ALWAYS TRIGGER history;
ALTER TABLE cmblock.site        ENABLE ALWAYS TRIGGER guard, ENABLE ALWAYS TRIGGER guard_truncate;
ALTER TABLE cmblock.this_site   ENABLE ALWAYS TRIGGER guard, ENABLE ALWAYS TRIGGER guard_truncate, ENABLE ALWAYS TRIGGER changed;
ALTER TABLE cmblock.block_event ENABLE ALWAYS TRIGGER guard, ENABLE ALWAYS TRIGGER guard_truncate;

COMMENT ON TRIGGER guard ON cmblock.client IS 'only the assigned primary site writes';
COMMENT ON TRIGGER guard ON cmblock.certificate IS 'only the assigned primary site writes';
COMMENT ON TRIGGER guard ON cmblock.site IS 'only cmblock''s own commands write';
COMMENT ON TRIGGER guard ON cmblock.this_site IS 'only cmblock''s own commands write';
COMMENT ON TRIGGER guard ON cmblock.block_event IS 'only cmblock''s own commands write';
COMMENT ON TRIGGER guard_truncate ON cmblock.client IS 'refuses TRUNCATE';
COMMENT ON TRIGGER guard_truncate ON cmblock.certificate IS 'refuses TRUNCATE';
COMMENT ON TRIGGER guard_truncate ON cmblock.site IS 'refuses TRUNCATE';
COMMENT ON TRIGGER guard_truncate ON cmblock.this_site IS 'refuses TRUNCATE';
COMMENT ON TRIGGER guard_truncate ON cmblock.block_event IS 'refuses TRUNCATE';
COMMENT ON TRIGGER history ON cmblock.client IS 'writes the block history when the transaction commits';
COMMENT ON TRIGGER history ON cmblock.certificate IS 'writes the block history when the transaction commits';
COMMENT ON TRIGGER changed ON cmblock.this_site IS 'tells every session that the site''s identity changed';

-- ---------------------------------------------------------------------------------------------
-- Clients and certificates
--
-- These commands, and those that block, find their rows by key. Their plans are kept for a session, and one that was
-- made while a table was still empty would be a sequential scan for as long: enable_seqscan = off prevents that.
-- ---------------------------------------------------------------------------------------------

CREATE FUNCTION cmblock.register_client(client cmblock.smsid, name text, kind cmblock.client_kind DEFAULT 'computer',
		hardware_id text DEFAULT NULL, approval integer DEFAULT 2, isv_proxied boolean DEFAULT false) RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_register_client' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION cmblock.register_client IS 'registers a client at this primary site, or brings what is known of it up to date; a block stays';

CREATE FUNCTION cmblock.delete_client(client cmblock.smsid) RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_delete_client' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION cmblock.delete_client IS 'deletes a client and its certificates; what was blocked stays blocked';

CREATE FUNCTION cmblock.reassign_client(client cmblock.smsid, site cmblock.site_code) RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_reassign_client' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION cmblock.reassign_client IS 'hands a client with its certificates and its block to another primary site';

CREATE FUNCTION cmblock.register_certificate(certificate bytea, client cmblock.smsid DEFAULT NULL,
		type cmblock.certificate_type DEFAULT 'client') RETURNS cmblock.thumbprint
	AS 'MODULE_PATHNAME', 'cmblock_register_certificate' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION cmblock.register_certificate IS 'registers a certificate (DER or PEM) of a client, of boot media, of a distribution point or of an ISV proxy; returns its SHA-256 thumbprint';

-- ---------------------------------------------------------------------------------------------
-- Blocking
-- ---------------------------------------------------------------------------------------------

CREATE FUNCTION cmblock.block_client(client cmblock.smsid, reason text DEFAULT NULL, ticket text DEFAULT NULL)
	RETURNS cmblock.block_outcome
	AS 'MODULE_PATHNAME', 'cmblock_block_client' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION cmblock.block_client IS 'blocks a client of this primary site: from the commit on it is refused everything';

CREATE FUNCTION cmblock.unblock_client(client cmblock.smsid, reason text DEFAULT NULL, ticket text DEFAULT NULL)
	RETURNS cmblock.block_outcome
	AS 'MODULE_PATHNAME', 'cmblock_unblock_client' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION cmblock.unblock_client IS 'lifts the block of a client of this primary site; it never approves the client';

CREATE FUNCTION cmblock.block_clients(clients cmblock.smsid[], blocked boolean DEFAULT true, reason text DEFAULT NULL,
		ticket text DEFAULT NULL, OUT client cmblock.smsid, OUT outcome cmblock.block_outcome, OUT detail text)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'cmblock_block_clients' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
	ROWS 1000;
COMMENT ON FUNCTION cmblock.block_clients IS 'blocks or unblocks many clients in one transaction and says for each how it went';

CREATE FUNCTION cmblock.block_certificate(certificate cmblock.thumbprint, reason text DEFAULT NULL, ticket text DEFAULT NULL)
	RETURNS cmblock.block_outcome
	AS 'MODULE_PATHNAME', 'cmblock_block_certificate' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION cmblock.block_certificate IS 'blocks a certificate of this primary site, and says whom that cuts off';

CREATE FUNCTION cmblock.unblock_certificate(certificate cmblock.thumbprint, reason text DEFAULT NULL, ticket text DEFAULT NULL)
	RETURNS cmblock.block_outcome
	AS 'MODULE_PATHNAME', 'cmblock_unblock_certificate' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION cmblock.unblock_certificate IS 'lifts the block of a certificate of this primary site';

CREATE FUNCTION cmblock.verify_block_history(OUT intact boolean, OUT events bigint, OUT first_broken bigint, OUT detail text, OUT head bytea)
	RETURNS record
	AS 'MODULE_PATHNAME', 'cmblock_verify_block_history' LANGUAGE C STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.verify_block_history IS 'recomputes the hash chain of block_event and names the first broken row';
-- ---------------------------------------------------------------------------------------------
-- CRLs held by this site, and how far each of their series has come. Not replicated: each site fetches its own.
-- ---------------------------------------------------------------------------------------------

CREATE TYPE cmblock.crl_state AS ENUM ('current', 'held_back');
COMMENT ON TYPE cmblock.crl_state IS 'current: certificates are looked up in it; held_back: too many entries vanished, a PKI administrator has to let it in';

CREATE TABLE cmblock.crl (
	sha256       cmblock.thumbprint PRIMARY KEY CHECK (octet_length(sha256::bytea) = 32),
	state        cmblock.crl_state NOT NULL,
	issuer       text NOT NULL,
	authority    cmblock.thumbprint NOT NULL,
	signer       cmblock.thumbprint NOT NULL,
	signer_key   cmblock.thumbprint NOT NULL,
	scope        bytea NOT NULL,
	is_delta     boolean NOT NULL,
	number       numeric,
	base_number  numeric,
	this_update  timestamptz NOT NULL,
	next_update  timestamptz,
	next_publish timestamptz,
	entries      integer NOT NULL,
	partition    text,
	freshest     text[] NOT NULL,
	unknown_critical_entry boolean NOT NULL,
	ca_version   bigint,
	warnings     text[] NOT NULL,
	source       text NOT NULL,
	imported_by  text NOT NULL,
	imported_at  timestamptz NOT NULL,
	issuer_der   bytea NOT NULL,
	idp          bytea,
	der          bytea NOT NULL,
	CHECK (is_delta = (base_number IS NOT NULL))
);
-- DER of signatures and random serial numbers does not compress.
ALTER TABLE cmblock.crl ALTER COLUMN der SET STORAGE EXTERNAL;
CREATE INDEX crl_scope_row ON cmblock.crl (scope);
COMMENT ON INDEX cmblock.crl_scope_row IS 'for the CRLs of a series';
COMMENT ON TABLE cmblock.crl IS 'the certificate revocation lists that this site holds: of each series the full one, and what it needs of the deltas';
COMMENT ON COLUMN cmblock.crl.authority IS 'the CA of the trust list that the CRL is about, or its signer where it is about several';
COMMENT ON COLUMN cmblock.crl.signer IS 'the certificate of the trust list whose key signed it';
COMMENT ON COLUMN cmblock.crl.signer_key IS 'SHA-256 of that key (SubjectPublicKeyInfo)';
COMMENT ON COLUMN cmblock.crl.scope IS 'the series that it belongs to: issuer, key and issuing distribution point';
COMMENT ON COLUMN cmblock.crl.partition IS 'what of the issuer''s certificates it covers, in words; NULL: all';
COMMENT ON COLUMN cmblock.crl.freshest IS 'where its delta CRLs are published, from its freshestCRL extension';
COMMENT ON COLUMN cmblock.crl.unknown_critical_entry IS 'an entry has a critical extension that is not known: it says of no certificate that it is good';
COMMENT ON COLUMN cmblock.crl.ca_version IS 'key index times 65536 plus certificate index, from the CA Version of Microsoft CAs';
COMMENT ON COLUMN cmblock.crl.source IS 'import_crl, or the URL it was fetched from';
COMMENT ON COLUMN cmblock.crl.issuer_der IS 'the issuer''s name as it stands in the CRL';
COMMENT ON COLUMN cmblock.crl.idp IS 'the issuing distribution point as it stands in the CRL';
COMMENT ON COLUMN cmblock.crl.sha256 IS 'SHA-256 of the CRL''s DER';
COMMENT ON COLUMN cmblock.crl.state IS 'current, or held back until accept_crl lets it in';
COMMENT ON COLUMN cmblock.crl.issuer IS 'the name that the CRL was issued under';
COMMENT ON COLUMN cmblock.crl.is_delta IS 'holds what changed since a full CRL';
COMMENT ON COLUMN cmblock.crl.number IS 'the CRL number';
COMMENT ON COLUMN cmblock.crl.base_number IS 'the number of the full CRL that a delta CRL starts from; null: a full CRL';
COMMENT ON COLUMN cmblock.crl.this_update IS 'when the CA made it';
COMMENT ON COLUMN cmblock.crl.next_update IS 'until when it is valid; null: it does not say';
COMMENT ON COLUMN cmblock.crl.next_publish IS 'when the CA means to publish the next one; null: it does not say';
COMMENT ON COLUMN cmblock.crl.entries IS 'how many certificates it lists';
COMMENT ON COLUMN cmblock.crl.warnings IS 'what is odd in it, although it was taken in';
COMMENT ON COLUMN cmblock.crl.imported_by IS 'the login role, or worker, that took it in';
COMMENT ON COLUMN cmblock.crl.imported_at IS 'when it was taken in';
COMMENT ON COLUMN cmblock.crl.der IS 'the CRL itself';

CREATE TABLE cmblock.crl_scope (
	scope             bytea PRIMARY KEY CHECK (octet_length(scope) = 32),
	issuer            text NOT NULL,
	signer_key        cmblock.thumbprint NOT NULL,
	partition         text,
	number            numeric,
	this_update       timestamptz,
	sha256            cmblock.thumbprint,
	delta_number      numeric,
	delta_this_update timestamptz,
	delta_next_update timestamptz,
	delta_sha256      cmblock.thumbprint
);
COMMENT ON TABLE cmblock.crl_scope IS 'the newest full and delta CRL ever taken in of each series: older ones are refused, also after the CRL itself is gone';
COMMENT ON COLUMN cmblock.crl_scope.scope IS 'the series: SHA-256 over issuer, key and issuing distribution point';
COMMENT ON COLUMN cmblock.crl_scope.issuer IS 'the name that its CRLs are issued under';
COMMENT ON COLUMN cmblock.crl_scope.signer_key IS 'SHA-256 of the key that signs them (SubjectPublicKeyInfo)';
COMMENT ON COLUMN cmblock.crl_scope.partition IS 'what of the issuer''s certificates it covers, in words; null: all';
COMMENT ON COLUMN cmblock.crl_scope.number IS 'the highest number of a full CRL';
COMMENT ON COLUMN cmblock.crl_scope.this_update IS 'the newest time of a full CRL';
COMMENT ON COLUMN cmblock.crl_scope.sha256 IS 'the full CRL that these are of';
COMMENT ON COLUMN cmblock.crl_scope.delta_number IS 'the highest number of a delta CRL';
COMMENT ON COLUMN cmblock.crl_scope.delta_this_update IS 'the newest time of a delta CRL';
COMMENT ON COLUMN cmblock.crl_scope.delta_next_update IS 'until when that delta CRL is valid';
COMMENT ON COLUMN cmblock.crl_scope.delta_sha256 IS 'the delta CRL that these are of';

CREATE FUNCTION cmblock.crl_changed() RETURNS trigger
	AS 'MODULE_PATHNAME', 'cmblock_crl_changed' LANGUAGE C;
COMMENT ON FUNCTION cmblock.crl_changed() IS 'trigger of crl and crl_scope: tells every session that other CRLs are current';

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON cmblock.crl
	FOR EACH STATEMENT EXECUTE FUNCTION cmblock.crl_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON cmblock.crl_scope
	FOR EACH STATEMENT EXECUTE FUNCTION cmblock.crl_changed();
ALTER TABLE cmblock.crl       ENABLE ALWAYS TRIGGER changed;
COMMENT ON TRIGGER changed ON cmblock.crl IS 'tells every session that other CRLs are current';
ALTER TABLE cmblock.crl_scope ENABLE ALWAYS TRIGGER changed;
COMMENT ON TRIGGER changed ON cmblock.crl_scope IS 'tells every session that other CRLs are current';

-- ---------------------------------------------------------------------------------------------
-- Revocation: taking CRLs in, and asking them
-- ---------------------------------------------------------------------------------------------

CREATE TYPE cmblock.crl_import AS (
	crl         cmblock.thumbprint,
	outcome     text,
	kind        text,
	issuer      text,
	number      numeric,
	base_number numeric,
	this_update timestamptz,
	next_update timestamptz,
	entries     integer,
	detail      text,
	warnings    text[]
);
COMMENT ON TYPE cmblock.crl_import IS 'what became of a CRL';
COMMENT ON COLUMN cmblock.crl_import.crl IS 'its SHA-256 thumbprint';
COMMENT ON COLUMN cmblock.crl_import.outcome IS 'accepted: it is current; unchanged: there was nothing new in it; held_back: see accept_crl';
COMMENT ON COLUMN cmblock.crl_import.kind IS 'base or delta';
COMMENT ON COLUMN cmblock.crl_import.issuer IS 'the name that the CRL was issued under';
COMMENT ON COLUMN cmblock.crl_import.number IS 'its CRL number';
COMMENT ON COLUMN cmblock.crl_import.base_number IS 'the number of the full CRL that a delta CRL starts from';
COMMENT ON COLUMN cmblock.crl_import.this_update IS 'when the CA made it';
COMMENT ON COLUMN cmblock.crl_import.next_update IS 'until when it is valid';
COMMENT ON COLUMN cmblock.crl_import.entries IS 'how many certificates it lists';
COMMENT ON COLUMN cmblock.crl_import.detail IS 'what became of it, in a sentence';
COMMENT ON COLUMN cmblock.crl_import.warnings IS 'what is odd in it';

CREATE FUNCTION cmblock.import_crl(crl bytea) RETURNS cmblock.crl_import
	AS 'MODULE_PATHNAME', 'cmblock_import_crl' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.import_crl IS 'takes in a full or delta CRL (DER or PEM) signed by a CA or CRL signer of the trust list';

CREATE FUNCTION cmblock.check_crl(crl bytea, OUT item text, OUT outcome text, OUT detail text, OUT certificate cmblock.thumbprint,
		OUT client cmblock.smsid, OUT subject text, OUT before cmblock.revocation, OUT after cmblock.revocation)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'cmblock_check_crl' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	ROWS 10;
COMMENT ON FUNCTION cmblock.check_crl IS 'says what import_crl would do, and which certificates that this site knows would change: nothing is changed';

CREATE FUNCTION cmblock.accept_crl(crl cmblock.thumbprint) RETURNS cmblock.crl_import
	AS 'MODULE_PATHNAME', 'cmblock_accept_crl' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.accept_crl IS 'makes a CRL current that was held back because too many of its entries had vanished';

CREATE FUNCTION cmblock.remove_crl(crl cmblock.thumbprint) RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_remove_crl' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.remove_crl IS 'drops a CRL, current or held back; how far its series had come stays known';

CREATE FUNCTION cmblock.reset_crl_scope(scope bytea) RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_reset_crl_scope' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.reset_crl_scope IS 'forgets how far a series of CRLs had come, so that lower numbers are taken in again: for a CA that was restored from a backup';

CREATE TYPE cmblock.revocation_status AS (
	status            cmblock.revocation,
	reason            text,
	detail            text,
	revoked_at        timestamptz,
	revocation_reason text,
	crl               cmblock.thumbprint,
	crl_number        numeric,
	this_update       timestamptz,
	next_update       timestamptz,
	delta             cmblock.thumbprint,
	delta_number      numeric,
	delta_this_update timestamptz,
	delta_next_update timestamptz,
	signer            cmblock.thumbprint,
	source            text,
	age               interval,
	evidence          jsonb
);
COMMENT ON TYPE cmblock.revocation_status IS 'what is known of the revocation of a certificate, and from what';
COMMENT ON COLUMN cmblock.revocation_status.status IS 'of the certificate and the CAs above it: one revoked is revoked, one unknown is unknown, else good';
COMMENT ON COLUMN cmblock.revocation_status.reason IS 'why it is revoked or unknown: see docs/revocation.md';
COMMENT ON COLUMN cmblock.revocation_status.crl IS 'the full CRL that decided';
COMMENT ON COLUMN cmblock.revocation_status.delta IS 'the delta CRL that was asked before it';
COMMENT ON COLUMN cmblock.revocation_status.signer IS 'the certificate of the trust list that signed the CRL';
COMMENT ON COLUMN cmblock.revocation_status.age IS 'how long ago the CA published the newest of the two';
COMMENT ON COLUMN cmblock.revocation_status.evidence IS 'the same for each element of the chain, the certificate first';
COMMENT ON COLUMN cmblock.revocation_status.detail IS 'the reason in a sentence';
COMMENT ON COLUMN cmblock.revocation_status.revoked_at IS 'since when it is revoked, as the CRL says';
COMMENT ON COLUMN cmblock.revocation_status.revocation_reason IS 'why the CA revoked it, as the CRL says';
COMMENT ON COLUMN cmblock.revocation_status.crl_number IS 'the number of the full CRL';
COMMENT ON COLUMN cmblock.revocation_status.this_update IS 'when the full CRL was made';
COMMENT ON COLUMN cmblock.revocation_status.next_update IS 'until when it is valid';
COMMENT ON COLUMN cmblock.revocation_status.delta_number IS 'the number of the delta CRL';
COMMENT ON COLUMN cmblock.revocation_status.delta_this_update IS 'when the delta CRL was made';
COMMENT ON COLUMN cmblock.revocation_status.delta_next_update IS 'until when it is valid';
COMMENT ON COLUMN cmblock.revocation_status.source IS 'where the CRL came from';

CREATE FUNCTION cmblock.revocation_status(certificate bytea, at timestamptz DEFAULT now()) RETURNS cmblock.revocation_status
	AS 'MODULE_PATHNAME', 'cmblock_revocation_status' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.revocation_status IS 'is this certificate (DER, PEM, or the SHA-1 or SHA-256 of a registered one) or a CA above it revoked?';

CREATE FUNCTION cmblock.crl_checking(client cmblock.smsid, OUT checker text, OUT certificates text, OUT checks boolean, OUT detail text)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'cmblock_crl_checking' LANGUAGE C STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	ROWS 2;
COMMENT ON FUNCTION cmblock.crl_checking IS 'who checks whose certificates against CRLs for this client: a row for the site, a row for the client';

-- ---------------------------------------------------------------------------------------------
-- The decision: may this request be served?
--
-- A certificate is DER or PEM, or the thumbprint (20 or 32 octets) of a registered one. An argument that is NULL
-- means its default. The functions read with the newest snapshot, so two calls in one statement can differ when a
-- block commits between them: they are VOLATILE. They write nothing, and work on a hot standby.
--
-- Reasons, in the order in which they are asked; the first one is *the* reason:
--   site_not_set_up, no_identity, client_unknown, client_deleted, certificate_unknown, certificate_deleted,
--   certificate_of_another_client, certificate_malformed, certificate_not_yet_valid, certificate_expired,
--   certificate_untrusted, certificate_revoked, crl_unavailable, certificate_blocked, client_blocked,
--   hardware_blocked, not_approved
-- Warnings are certificate_unregistered, and client_deleted, certificate_deleted, crl_unavailable and
-- hardware_blocked where they do not refuse.
-- ---------------------------------------------------------------------------------------------

CREATE TYPE cmblock.access_decision AS (
	allowed       boolean,
	reason        text,
	reasons       text[],
	assurance     cmblock.assurance,
	client        cmblock.smsid,
	certificate   cmblock.thumbprint,
	site          cmblock.site_code,
	assigned_site cmblock.site_code,
	detail        text,
	warnings      text[]
);
COMMENT ON TYPE cmblock.access_decision IS 'the answer to a request: allowed or not, and why';
COMMENT ON COLUMN cmblock.access_decision.reason IS 'the first reason to refuse; null when allowed';
COMMENT ON COLUMN cmblock.access_decision.reasons IS 'all reasons to refuse, in the order in which they are asked';
COMMENT ON COLUMN cmblock.access_decision.assurance IS 'full only for https with a certificate of the trust list';
COMMENT ON COLUMN cmblock.access_decision.client IS 'the client that the request names, or else the one that its certificate is of';
COMMENT ON COLUMN cmblock.access_decision.certificate IS 'SHA-256 thumbprint of the certificate in the request';
COMMENT ON COLUMN cmblock.access_decision.site IS 'the site that decided';
COMMENT ON COLUMN cmblock.access_decision.assigned_site IS 'the site that the client is assigned to, which alone can block and unblock it';
COMMENT ON COLUMN cmblock.access_decision.detail IS 'the first reason in words; explain_access has the others';
COMMENT ON COLUMN cmblock.access_decision.warnings IS 'what an administrator should look at, although it does not refuse';
COMMENT ON COLUMN cmblock.access_decision.allowed IS 'whether the request may be served';

CREATE FUNCTION cmblock.check_access(client cmblock.smsid DEFAULT NULL, certificate bytea DEFAULT NULL,
		transport cmblock.transport DEFAULT 'https', request cmblock.request_kind DEFAULT 'policy',
		hardware_id text DEFAULT NULL, at timestamptz DEFAULT now()) RETURNS cmblock.access_decision
	AS 'MODULE_PATHNAME', 'cmblock_check_access' LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION cmblock.check_access IS 'may this request be served? with all reasons';

CREATE FUNCTION cmblock.is_allowed(client cmblock.smsid DEFAULT NULL, certificate bytea DEFAULT NULL,
		transport cmblock.transport DEFAULT 'https', request cmblock.request_kind DEFAULT 'policy',
		hardware_id text DEFAULT NULL, at timestamptz DEFAULT now()) RETURNS boolean
	AS 'MODULE_PATHNAME', 'cmblock_is_allowed' LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION cmblock.is_allowed IS 'may this request be served? yes or no';

CREATE FUNCTION cmblock.explain_access(client cmblock.smsid DEFAULT NULL, certificate bytea DEFAULT NULL,
		transport cmblock.transport DEFAULT 'https', request cmblock.request_kind DEFAULT 'policy',
		hardware_id text DEFAULT NULL, at timestamptz DEFAULT now(),
		OUT step integer, OUT question text, OUT answer text, OUT reason text, OUT detail text) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'cmblock_explain_access' LANGUAGE C VOLATILE PARALLEL SAFE ROWS 10;
COMMENT ON FUNCTION cmblock.explain_access IS 'may this request be served? step by step, in words; an answer is passed, noted, skipped or refused';

CREATE FUNCTION cmblock.decision_cache(OUT state text, OUT size bigint, OUT from_cache bigint, OUT rows_read bigint,
		OUT from_tables bigint)
	AS 'MODULE_PATHNAME', 'cmblock_decision_cache' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION cmblock.decision_cache IS 'is the cache of decisions in use here, and how were the decisions of this session made?';

-- ---------------------------------------------------------------------------------------------
-- Where CRLs come from: the refresher fetches them. Each site has its own sources; they are not replicated.
-- ---------------------------------------------------------------------------------------------

CREATE TYPE cmblock.crl_origin AS ENUM ('configured', 'ca_certificate', 'freshest_crl');
COMMENT ON TYPE cmblock.crl_origin IS 'who named a source of CRLs: a PKI administrator, a CA certificate of the trust list, or a CRL that is held';

CREATE TYPE cmblock.crl_fetch_outcome AS ENUM ('accepted', 'unchanged', 'held_back', 'rejected', 'not_fetched');
COMMENT ON TYPE cmblock.crl_fetch_outcome IS 'what came of a fetch: a new CRL, the one that is held already, one that waits for accept_crl, one that was refused, or none';

CREATE TABLE cmblock.crl_source (
	id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	authority     cmblock.thumbprint NOT NULL,
	url           text COLLATE "C" NOT NULL CHECK (octet_length(url) BETWEEN 1 AND 2048),
	delta         boolean NOT NULL,
	origin        cmblock.crl_origin NOT NULL,
	enabled       boolean NOT NULL DEFAULT true,
	added_by      text NOT NULL DEFAULT session_user,
	added_at      timestamptz NOT NULL DEFAULT now(),
	requested_at  timestamptz,
	next_attempt  timestamptz,
	last_attempt  timestamptz,
	last_outcome  cmblock.crl_fetch_outcome,
	last_success  timestamptz,
	failures      integer NOT NULL DEFAULT 0,
	last_error    text,
	last_error_at timestamptz,
	crl           cmblock.thumbprint,
	scope         bytea,
	bytes         bigint,
	fetch_ms      bigint,
	build_ms      double precision,
	etag          text,
	last_modified text,
	UNIQUE (authority, url, delta)
);
COMMENT ON TABLE cmblock.crl_source IS 'where the refresher fetches CRLs from, and how the last fetch went';
COMMENT ON COLUMN cmblock.crl_source.authority IS 'the CA, or CRL signer, whose CRLs are there: others are refused';
COMMENT ON COLUMN cmblock.crl_source.delta IS 'delta CRLs are there: full ones are refused, and the other way round';
COMMENT ON COLUMN cmblock.crl_source.enabled IS 'false: removed by a PKI administrator, although a CA certificate or CRL names it';
COMMENT ON COLUMN cmblock.crl_source.requested_at IS 'when somebody last asked for a fetch';
COMMENT ON COLUMN cmblock.crl_source.next_attempt IS 'NULL: at once';
COMMENT ON COLUMN cmblock.crl_source.failures IS 'fetches in a row that brought no usable CRL';
COMMENT ON COLUMN cmblock.crl_source.crl IS 'the last CRL that was taken in, or held back, from here';
COMMENT ON COLUMN cmblock.crl_source.scope IS 'the series of that CRL: sources of one series are tried in turn';
COMMENT ON COLUMN cmblock.crl_source.build_ms IS 'how long it took to verify that CRL, to index and to store it';
COMMENT ON COLUMN cmblock.crl_source.etag IS 'what the server calls that version, to ask it only for another one';
COMMENT ON COLUMN cmblock.crl_source.id IS 'its number: the order in which sources are listed';
COMMENT ON COLUMN cmblock.crl_source.url IS 'http, https or file address';
COMMENT ON COLUMN cmblock.crl_source.origin IS 'who named this source';
COMMENT ON COLUMN cmblock.crl_source.added_by IS 'the login role, or worker, that added it';
COMMENT ON COLUMN cmblock.crl_source.added_at IS 'when it was added';
COMMENT ON COLUMN cmblock.crl_source.last_attempt IS 'when it was last tried to fetch from here';
COMMENT ON COLUMN cmblock.crl_source.last_outcome IS 'what came of that';
COMMENT ON COLUMN cmblock.crl_source.last_success IS 'when a CRL, new or known, was last fetched from here';
COMMENT ON COLUMN cmblock.crl_source.last_error IS 'what went wrong last';
COMMENT ON COLUMN cmblock.crl_source.last_error_at IS 'when it went wrong';
COMMENT ON COLUMN cmblock.crl_source.bytes IS 'the size of what was fetched last';
COMMENT ON COLUMN cmblock.crl_source.fetch_ms IS 'how long the last fetch took';
COMMENT ON COLUMN cmblock.crl_source.last_modified IS 'when the server says that version was made, to ask it only for a newer one';

COMMENT ON SEQUENCE cmblock.crl_source_id_seq IS 'numbers of sources';

CREATE FUNCTION cmblock.crl_source_changed() RETURNS trigger
	AS 'MODULE_PATHNAME', 'cmblock_crl_source_changed' LANGUAGE C;
COMMENT ON FUNCTION cmblock.crl_source_changed() IS 'trigger of crl_source: wakes the refresher at commit';

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON cmblock.crl_source
	FOR EACH STATEMENT EXECUTE FUNCTION cmblock.crl_source_changed();
ALTER TABLE cmblock.crl_source ENABLE ALWAYS TRIGGER changed;
COMMENT ON TRIGGER changed ON cmblock.crl_source IS 'wakes the refresher at commit';

CREATE FUNCTION cmblock.add_crl_distribution_point(authority cmblock.thumbprint, url text, delta boolean DEFAULT false) RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_add_crl_distribution_point' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.add_crl_distribution_point IS 'has the CRLs, or delta CRLs, of a CA of the trust list fetched from an http, https or file address';

CREATE FUNCTION cmblock.remove_crl_distribution_point(authority cmblock.thumbprint, url text, delta boolean DEFAULT false) RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_remove_crl_distribution_point' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.remove_crl_distribution_point IS 'has nothing fetched from this address any more, also when a CA certificate or CRL names it; CRLs that came from there stay';

CREATE FUNCTION cmblock.refresh_crls(authority cmblock.thumbprint DEFAULT NULL) RETURNS integer
	AS 'MODULE_PATHNAME', 'cmblock_refresh_crls' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.refresh_crls IS 'asks for a fetch from all sources of a CA, or of all CAs, as soon as this transaction commits; returns how many they are';

CREATE FUNCTION cmblock.refresher_state() RETURNS text
	AS 'MODULE_PATHNAME', 'cmblock_refresher_state' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION cmblock.refresher_state() IS 'the worker that fetches CRLs: running, not running, no launcher, or not preloaded';

CREATE VIEW cmblock.crl_status AS
	WITH held AS (
		-- The CRL that counts now in each series; after a delta has come to nothing only the full one does.
		SELECT DISTINCT ON (c.scope, c.is_delta) c.sha256, c.scope, c.is_delta, c.authority AS crl_authority, c.number, c.this_update,
		       c.next_update, c.next_publish, c.entries, c.partition, octet_length(c.der) AS bytes, c.imported_at
		FROM cmblock.crl c
		WHERE c.state = 'current'
		ORDER BY c.scope, c.is_delta, c.number DESC NULLS LAST, c.this_update DESC
	), line AS (
		SELECT s.id, s.authority, s.delta, s.url, s.origin, s.enabled, s.next_attempt, s.last_attempt, s.last_outcome,
		       s.last_success, s.failures, s.last_error, s.last_error_at, s.fetch_ms, s.build_ms, s.bytes AS fetched_bytes, h.*,
		       s.url !~* '^(https?|file)://' AS unsupported,
		       EXISTS (SELECT FROM cmblock.crl c WHERE c.sha256 = s.crl AND c.state = 'held_back') AS waits_for_consent,
		       EXISTS (SELECT FROM cmblock.crl_source o
		               WHERE o.scope = s.scope AND o.delta = s.delta AND o.id <> s.id AND o.enabled AND o.failures = 0) AS has_other
		FROM cmblock.crl_source s
		LEFT JOIN held h ON h.scope = s.scope AND h.is_delta = s.delta
		UNION ALL
		-- Series without a source: taken in by import_crl.
		SELECT NULL, h.crl_authority, h.is_delta, NULL, NULL, true, NULL, NULL, NULL, h.imported_at, 0, NULL, NULL, NULL, NULL, NULL, h.*,
		       false, false, false
		FROM held h
		WHERE NOT EXISTS (SELECT FROM cmblock.crl_source s WHERE s.scope = h.scope AND s.delta = h.is_delta)
		UNION ALL
		-- CAs of which nothing is known at all, although their certificates need it.
		SELECT NULL, a.sha256, false, NULL, NULL, true, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, h.*,
		       false, false, false
		FROM cmblock.certificate_authority a LEFT JOIN held h ON false
		WHERE a.policy <> 'off' AND NOT a.crl_signer
		  AND NOT EXISTS (SELECT FROM cmblock.crl_source s WHERE s.authority = a.sha256 AND NOT s.delta AND s.enabled)
		  AND NOT EXISTS (SELECT FROM cmblock.crl c WHERE c.authority = a.sha256 AND NOT c.is_delta)
	), judged AS (
		SELECT l.*,
		       CASE WHEN NOT l.enabled THEN 'disabled'
		            WHEN l.unsupported THEN 'unsupported'
		            WHEN l.waits_for_consent THEN 'held_back'
		            WHEN l.last_outcome = 'rejected' THEN 'rejected'
		            WHEN l.failures > 0 THEN 'failing'
		            WHEN l.next_update < now() THEN 'stale'
		            WHEN l.sha256 IS NULL AND l.url IS NULL THEN 'missing'
		            WHEN l.sha256 IS NULL AND NOT l.delta OR l.last_attempt IS NULL AND l.url IS NOT NULL THEN 'waiting'
		            WHEN l.next_publish < now() THEN 'due'
		            ELSE 'ok'
		       END AS state
		FROM line l
	)
	SELECT a.subject AS authority, CASE WHEN j.delta THEN 'delta' ELSE 'base' END AS kind, j.url, j.origin, j.state,
	       now() - j.this_update AS age, j.number, j.this_update, j.next_publish, j.next_update,
	       j.last_attempt, j.last_success, j.failures, j.last_error, j.last_error_at,
	       CASE WHEN j.state IN ('rejected', 'held_back') THEN j.last_error END AS rejected,
	       j.next_attempt, j.entries, coalesce(j.fetched_bytes, j.bytes) AS bytes, j.fetch_ms, j.build_ms, j.partition,
	       nullif(ltrim(CASE j.state
	           WHEN 'ok' THEN ''
	           WHEN 'disabled' THEN 'Nothing is fetched from here. To change that, call add_crl_distribution_point with this address.'
	           WHEN 'unsupported' THEN 'Addresses of this kind are not fetched. If the CA publishes over http as well, add that with add_crl_distribution_point.'
	           WHEN 'missing' THEN 'No CRL of this CA is held, and nobody said where it is: call import_crl or add_crl_distribution_point.'
	           WHEN 'held_back' THEN 'Entries vanished from the new CRL. Ask the CA why; then let it in with accept_crl.'
	           WHEN 'waiting' THEN 'The first fetch is still to come.'
	           WHEN 'due' THEN 'The CA was to publish a new one by now; it is looked for again at next_attempt.'
	           WHEN 'stale' THEN CASE WHEN j.url IS NULL
	               THEN 'The CA publishes a new CRL every time before this one ends: take that in with import_crl, or say where it is with add_crl_distribution_point.'
	               ELSE 'The server still has the old one: ask who runs the CA to publish a new CRL.' END
	           WHEN 'rejected' THEN 'The server sends something that is not acceptable as a CRL of this CA: see rejected. What is held stays in force.'
	           WHEN 'failing' THEN CASE
	               WHEN j.has_other THEN 'Another source of the same CRL works: nothing is lost as long as it does.'
	               WHEN j.sha256 IS NULL THEN 'Nothing is held from here. Look at last_error, mend the server or the address, and call refresh_crls().'
	               WHEN j.next_update < now() THEN 'The CRL that is held has expired: no certificate can be shown to be good. Mend the server, or fetch the CRL by hand and call import_crl.'
	               ELSE 'The CRL that is held is good until next_update. Mend the server before then, or fetch the CRL by hand and call import_crl.' END
	       END || CASE WHEN j.url IS NOT NULL AND j.enabled AND NOT j.unsupported AND cmblock.refresher_state() <> 'running'
	                   THEN format(' Nothing is fetched: the refresher does not run (%s).', cmblock.refresher_state()) ELSE '' END), '') AS advice
	FROM judged j
	JOIN cmblock.certificate_authority a ON a.sha256 = j.authority
	ORDER BY a.subject, j.delta, j.id;
COMMENT ON VIEW cmblock.crl_status IS 'a row for each source of CRLs, and for each series of CRLs that has none: what is held, how fresh it is, how the last fetch went, and what to do';
COMMENT ON COLUMN cmblock.crl_status.authority IS 'the CA whose CRLs are meant';
COMMENT ON COLUMN cmblock.crl_status.kind IS 'base or delta';
COMMENT ON COLUMN cmblock.crl_status.url IS 'where they are fetched from; null: they are imported by hand';
COMMENT ON COLUMN cmblock.crl_status.origin IS 'who named this source';
COMMENT ON COLUMN cmblock.crl_status.state IS 'ok, or what is the matter: see advice';
COMMENT ON COLUMN cmblock.crl_status.age IS 'time since the CA made what is held';
COMMENT ON COLUMN cmblock.crl_status.number IS 'the number of the CRL that is held';
COMMENT ON COLUMN cmblock.crl_status.this_update IS 'when the CA made it';
COMMENT ON COLUMN cmblock.crl_status.next_publish IS 'when the CA means to publish the next one';
COMMENT ON COLUMN cmblock.crl_status.next_update IS 'until when it is valid';
COMMENT ON COLUMN cmblock.crl_status.last_attempt IS 'when it was last tried to fetch one';
COMMENT ON COLUMN cmblock.crl_status.last_success IS 'when one was last fetched, or imported';
COMMENT ON COLUMN cmblock.crl_status.failures IS 'attempts in a row that failed';
COMMENT ON COLUMN cmblock.crl_status.last_error IS 'what went wrong last';
COMMENT ON COLUMN cmblock.crl_status.last_error_at IS 'when it went wrong';
COMMENT ON COLUMN cmblock.crl_status.rejected IS 'why the newest one was not taken in';
COMMENT ON COLUMN cmblock.crl_status.next_attempt IS 'when it is tried again';
COMMENT ON COLUMN cmblock.crl_status.entries IS 'how many certificates it lists';
COMMENT ON COLUMN cmblock.crl_status.bytes IS 'its size';
COMMENT ON COLUMN cmblock.crl_status.fetch_ms IS 'how long the last fetch took';
COMMENT ON COLUMN cmblock.crl_status.build_ms IS 'how long it took to verify, to index and to store';
COMMENT ON COLUMN cmblock.crl_status.partition IS 'what of the issuer''s certificates it covers; null: all';
COMMENT ON COLUMN cmblock.crl_status.advice IS 'what to do';

-- ---------------------------------------------------------------------------------------------
-- What an administrator reads
-- ---------------------------------------------------------------------------------------------

CREATE VIEW cmblock.blocked_client AS
	SELECT c.smsid AS client, c.name, c.kind, c.assigned_site, c.block_changed_at AS blocked_at,
	       c.block_changed_by AS blocked_by, c.block_reason AS reason, c.block_ticket AS ticket, c.deleted_at
	FROM cmblock.client c
	WHERE c.blocked
	ORDER BY c.block_changed_at DESC;
COMMENT ON VIEW cmblock.blocked_client IS 'the blocked clients of the hierarchy, the latest first; deleted ones stay blocked';
COMMENT ON COLUMN cmblock.blocked_client.client IS 'the identity of the client';
COMMENT ON COLUMN cmblock.blocked_client.name IS 'its name';
COMMENT ON COLUMN cmblock.blocked_client.kind IS 'what kind of device it is';
COMMENT ON COLUMN cmblock.blocked_client.assigned_site IS 'the primary site that can unblock it';
COMMENT ON COLUMN cmblock.blocked_client.blocked_at IS 'since when it is blocked';
COMMENT ON COLUMN cmblock.blocked_client.blocked_by IS 'the login role that blocked it';
COMMENT ON COLUMN cmblock.blocked_client.reason IS 'why';
COMMENT ON COLUMN cmblock.blocked_client.ticket IS 'the ticket under which that was done';
COMMENT ON COLUMN cmblock.blocked_client.deleted_at IS 'since when it is deleted; it stays blocked';

CREATE VIEW cmblock.blocked_certificate AS
	SELECT x.sha256 AS certificate, x.type, x.subject, x.client, x.assigned_site, x.block_changed_at AS blocked_at,
	       x.block_changed_by AS blocked_by, x.block_reason AS reason, x.block_ticket AS ticket, x.not_after, x.deleted_at
	FROM cmblock.certificate x
	WHERE x.blocked
	ORDER BY x.block_changed_at DESC;
COMMENT ON VIEW cmblock.blocked_certificate IS 'the blocked certificates of the hierarchy, the latest first';
COMMENT ON COLUMN cmblock.blocked_certificate.certificate IS 'its SHA-256 thumbprint';
COMMENT ON COLUMN cmblock.blocked_certificate.type IS 'what the certificate is for';
COMMENT ON COLUMN cmblock.blocked_certificate.subject IS 'the name of its subject';
COMMENT ON COLUMN cmblock.blocked_certificate.client IS 'the client that it is of';
COMMENT ON COLUMN cmblock.blocked_certificate.assigned_site IS 'the primary site that can unblock it';
COMMENT ON COLUMN cmblock.blocked_certificate.blocked_at IS 'since when it is blocked';
COMMENT ON COLUMN cmblock.blocked_certificate.blocked_by IS 'the login role that blocked it';
COMMENT ON COLUMN cmblock.blocked_certificate.reason IS 'why';
COMMENT ON COLUMN cmblock.blocked_certificate.ticket IS 'the ticket under which that was done';
COMMENT ON COLUMN cmblock.blocked_certificate.not_after IS 'the end of its validity';
COMMENT ON COLUMN cmblock.blocked_certificate.deleted_at IS 'since when it is deleted; it stays blocked';

CREATE VIEW cmblock.block_history AS
	SELECT e.at, e.actor, e.action, coalesce(c.name, x.subject) AS name, e.client, e.certificate, e.reason, e.ticket,
	       e.site, e.to_site, e.client_address, e.application_name, e.id
	FROM cmblock.block_event e
	LEFT JOIN cmblock.client c ON c.smsid = e.client
	LEFT JOIN cmblock.certificate x ON x.sha256 = e.certificate
	ORDER BY e.id DESC;
COMMENT ON VIEW cmblock.block_history IS 'who blocked, unblocked, reassigned or deleted what at this site, the latest first';
COMMENT ON COLUMN cmblock.block_history.at IS 'when the statement that did it began';
COMMENT ON COLUMN cmblock.block_history.actor IS 'the login role that did it';
COMMENT ON COLUMN cmblock.block_history.action IS 'what was done';
COMMENT ON COLUMN cmblock.block_history.name IS 'the name of the client, or the subject of the certificate';
COMMENT ON COLUMN cmblock.block_history.client IS 'to which client';
COMMENT ON COLUMN cmblock.block_history.certificate IS 'to which certificate';
COMMENT ON COLUMN cmblock.block_history.reason IS 'why';
COMMENT ON COLUMN cmblock.block_history.ticket IS 'the ticket under which it was done';
COMMENT ON COLUMN cmblock.block_history.site IS 'the site at which it was done';
COMMENT ON COLUMN cmblock.block_history.to_site IS 'the site that it was handed to';
COMMENT ON COLUMN cmblock.block_history.client_address IS 'the address that the session came from';
COMMENT ON COLUMN cmblock.block_history.application_name IS 'the program, as it called itself';
COMMENT ON COLUMN cmblock.block_history.id IS 'place in the chain';

CREATE VIEW cmblock.suspected_rejoin AS
	WITH resemblance (blocked, suspect, evidence) AS (
		SELECT b.smsid, s.smsid, 'hardware id'
		FROM cmblock.client b JOIN cmblock.client s ON s.hardware_id = b.hardware_id
		WHERE b.blocked
		UNION ALL
		SELECT b.smsid, s.smsid, 'name'
		FROM cmblock.client b JOIN cmblock.client s ON lower(s.name) = lower(b.name)
		WHERE b.blocked
		UNION ALL
		SELECT b.smsid, s.client, 'certificate key'
		FROM cmblock.client b
		JOIN cmblock.certificate bx ON bx.client = b.smsid
		JOIN cmblock.certificate s ON s.key_sha256 = bx.key_sha256
		WHERE b.blocked
	)
	SELECT s.registered_at, s.smsid AS client, s.name, s.assigned_site,
	       array_agg(DISTINCT r.evidence ORDER BY r.evidence) AS evidence,
	       b.smsid AS blocked_client, b.name AS blocked_name, b.block_changed_at AS blocked_at,
	       s.registered_at >= b.block_changed_at AS registered_after_block
	FROM resemblance r
	JOIN cmblock.client b ON b.smsid = r.blocked
	JOIN cmblock.client s ON s.smsid = r.suspect
	WHERE s.smsid <> b.smsid AND NOT s.blocked AND s.deleted_at IS NULL
	GROUP BY s.smsid, b.smsid
	ORDER BY s.registered_at DESC;
COMMENT ON VIEW cmblock.suspected_rejoin IS 'clients that look like a blocked client coming back, with the evidence';
COMMENT ON COLUMN cmblock.suspected_rejoin.registered_at IS 'when the suspect was registered';
COMMENT ON COLUMN cmblock.suspected_rejoin.client IS 'the suspect';
COMMENT ON COLUMN cmblock.suspected_rejoin.name IS 'its name';
COMMENT ON COLUMN cmblock.suspected_rejoin.assigned_site IS 'the primary site that can block it';
COMMENT ON COLUMN cmblock.suspected_rejoin.evidence IS 'what it has in common with the blocked client';
COMMENT ON COLUMN cmblock.suspected_rejoin.blocked_client IS 'the blocked client';
COMMENT ON COLUMN cmblock.suspected_rejoin.blocked_name IS 'the name of the blocked client';
COMMENT ON COLUMN cmblock.suspected_rejoin.blocked_at IS 'since when that is blocked';
COMMENT ON COLUMN cmblock.suspected_rejoin.registered_after_block IS 'the suspect was registered after that';

-- ---------------------------------------------------------------------------------------------
-- Replication
-- ---------------------------------------------------------------------------------------------

CREATE FUNCTION cmblock.fdw_validator(options text[], catalog oid) RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_fdw_validator' LANGUAGE C STRICT PARALLEL SAFE;
COMMENT ON FUNCTION cmblock.fdw_validator IS 'accepts libpq''s connection options, each where it belongs: server or user mapping';

CREATE FOREIGN DATA WRAPPER cmblock_fdw VALIDATOR cmblock.fdw_validator;
COMMENT ON FOREIGN DATA WRAPPER cmblock_fdw IS 'how to reach the neighbour sites; has no foreign tables';

CREATE TYPE cmblock.link_state AS ENUM ('active', 'degraded', 'failed');
COMMENT ON TYPE cmblock.link_state IS 'degraded after 12 failures in a row, failed after 24; a failed link is still tried';

CREATE TABLE cmblock.replication_link (
	neighbour           cmblock.site_code PRIMARY KEY,
	server              name,
	peer_role           name UNIQUE,
	paused              boolean NOT NULL DEFAULT false,
	resend_requested    timestamptz,
	state               cmblock.link_state NOT NULL DEFAULT 'active',
	acknowledged        pg_snapshot,
	failures            integer NOT NULL DEFAULT 0,
	last_error          text,
	last_error_sqlstate text,
	last_error_at       timestamptz,
	next_retry_at       timestamptz,
	last_success_at     timestamptz,
	rows_sent           bigint NOT NULL DEFAULT 0,
	batches_sent        bigint NOT NULL DEFAULT 0,
	bytes_sent          bigint NOT NULL DEFAULT 0,
	compared_at         timestamptz,
	compared_rows       bigint,
	compared_different  bigint,
	compared_sent       bigint,
	compared_taken      bigint,
	compared_conflicts  bigint,
	compared_unrepaired bigint,
	compared_examples   text[],
	linked_by           text NOT NULL DEFAULT session_user,
	linked_at           timestamptz NOT NULL DEFAULT statement_timestamp()
);
COMMENT ON TABLE cmblock.replication_link IS 'the neighbours: whom this site sends to, and whose calls it accepts';
COMMENT ON COLUMN cmblock.replication_link.server IS 'the foreign server to send to; null: nothing is sent';
COMMENT ON COLUMN cmblock.replication_link.peer_role IS 'the login role under which the neighbour calls; null: it may not';
COMMENT ON COLUMN cmblock.replication_link.resend_requested IS 'reinitialize_link was called then: the next round sends everything anew';
COMMENT ON COLUMN cmblock.replication_link.compared_at IS 'when the last comparison with the neighbour began; what follows is what came of it, as compare_site returns it';
COMMENT ON COLUMN cmblock.replication_link.compared_rows IS 'rows of this site that were compared';
COMMENT ON COLUMN cmblock.replication_link.compared_different IS 'rows that differed';
COMMENT ON COLUMN cmblock.replication_link.compared_sent IS 'those of them that were sent to the neighbour';
COMMENT ON COLUMN cmblock.replication_link.compared_taken IS 'those that were taken from the neighbour';
COMMENT ON COLUMN cmblock.replication_link.compared_conflicts IS 'those that both sides had changed';
COMMENT ON COLUMN cmblock.replication_link.compared_unrepaired IS 'those that neither side may decide';
COMMENT ON COLUMN cmblock.replication_link.compared_examples IS 'some of the rows that differed, in words';
COMMENT ON COLUMN cmblock.replication_link.acknowledged IS 'what the neighbour was last known to have: for people, the neighbour''s own record decides';
COMMENT ON COLUMN cmblock.replication_link.neighbour IS 'the neighbour site';
COMMENT ON COLUMN cmblock.replication_link.paused IS 'nothing is sent until resume_link';
COMMENT ON COLUMN cmblock.replication_link.state IS 'how well sending goes';
COMMENT ON COLUMN cmblock.replication_link.failures IS 'attempts in a row that failed';
COMMENT ON COLUMN cmblock.replication_link.last_error IS 'what went wrong last';
COMMENT ON COLUMN cmblock.replication_link.last_error_sqlstate IS 'SQLSTATE of that';
COMMENT ON COLUMN cmblock.replication_link.last_error_at IS 'when it went wrong';
COMMENT ON COLUMN cmblock.replication_link.next_retry_at IS 'when it is tried again';
COMMENT ON COLUMN cmblock.replication_link.last_success_at IS 'when the neighbour last took something in';
COMMENT ON COLUMN cmblock.replication_link.rows_sent IS 'rows sent since the link was made';
COMMENT ON COLUMN cmblock.replication_link.batches_sent IS 'batches sent since then';
COMMENT ON COLUMN cmblock.replication_link.bytes_sent IS 'octets sent since then';
COMMENT ON COLUMN cmblock.replication_link.linked_by IS 'the login role that made the link';
COMMENT ON COLUMN cmblock.replication_link.linked_at IS 'when the link was made';

CREATE TABLE cmblock.replication_cursor (
	neighbour        cmblock.site_code PRIMARY KEY,
	incarnation      text NOT NULL,
	snapshot         pg_snapshot,
	position         pg_lsn,
	progress         text,
	received_at      timestamptz NOT NULL,
	rows_received    bigint NOT NULL,
	rows_ignored     bigint NOT NULL,
	batches_received bigint NOT NULL
);
COMMENT ON TABLE cmblock.replication_cursor IS 'what has been received from each neighbour';
COMMENT ON COLUMN cmblock.replication_cursor.incarnation IS 'the neighbour''s cluster, timeline and database, and the start of its server: the snapshot means nothing in another life of it';
COMMENT ON COLUMN cmblock.replication_cursor.position IS 'where the neighbour''s WAL was when the snapshot was taken';
COMMENT ON COLUMN cmblock.replication_cursor.progress IS 'how far the next round of the neighbour has come, in its own words: where it goes on when the connection breaks';
COMMENT ON COLUMN cmblock.replication_cursor.snapshot IS 'everything visible in this snapshot of the neighbour is here';
COMMENT ON COLUMN cmblock.replication_cursor.rows_ignored IS 'rows that were not newer than what was here already';
COMMENT ON COLUMN cmblock.replication_cursor.neighbour IS 'the neighbour site that sends';
COMMENT ON COLUMN cmblock.replication_cursor.received_at IS 'when the last batch was taken in';
COMMENT ON COLUMN cmblock.replication_cursor.rows_received IS 'rows that it sent';
COMMENT ON COLUMN cmblock.replication_cursor.batches_received IS 'batches that it sent';

CREATE TABLE cmblock.site_run (
	number      bigint PRIMARY KEY,
	incarnation text NOT NULL,
	token       text NOT NULL,
	began       pg_lsn NOT NULL,
	noted_at    timestamptz NOT NULL
);
COMMENT ON TABLE cmblock.site_run IS 'the starts of this site''s server: a neighbour''s cursor names the one it was made in, so that a database that was set back is noticed';
COMMENT ON COLUMN cmblock.site_run.number IS 'which start, counted from 1';
COMMENT ON COLUMN cmblock.site_run.incarnation IS 'cluster, timeline and database';
COMMENT ON COLUMN cmblock.site_run.token IS 'random, so that two starts with the same number are told apart';
COMMENT ON COLUMN cmblock.site_run.noted_at IS 'when the replicator noted it';
COMMENT ON COLUMN cmblock.site_run.began IS 'where in the WAL it began, or earlier: no commit of a run before it that is here lies behind';

CREATE FUNCTION cmblock.accept_restored_state() RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_accept_restored_state' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.accept_restored_state IS 'lets a site that was restored be changed before it has compared with its neighbours';

CREATE FUNCTION cmblock.seize_clients(from_site cmblock.site_code, to_site cmblock.site_code, reason text DEFAULT NULL, ticket text DEFAULT NULL,
		force boolean DEFAULT false, OUT clients bigint, OUT certificates bigint)
	RETURNS record
	AS 'MODULE_PATHNAME', 'cmblock_seize_clients' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.seize_clients IS 'at the central site: gives the clients and certificates of a primary site that is gone to another, with their blocks';

CREATE FUNCTION cmblock.link_site(neighbour cmblock.site_code, server name) RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_link_site' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.link_site IS 'sends this site''s changes to a neighbour, through a foreign server of cmblock_fdw';

CREATE FUNCTION cmblock.accept_link(neighbour cmblock.site_code, role name) RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_accept_link' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.accept_link IS 'accepts a neighbour''s changes from sessions of this login role';

CREATE FUNCTION cmblock.unlink_site(neighbour cmblock.site_code) RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_unlink_site' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.unlink_site IS 'ends both directions of the link with a neighbour at this site';

CREATE FUNCTION cmblock.reinitialize_link(neighbour cmblock.site_code) RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_reinitialize_link' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.reinitialize_link IS 'sends a neighbour everything anew; it keeps what it has newer';

CREATE FUNCTION cmblock.pause_link(neighbour cmblock.site_code) RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_pause_link' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.pause_link IS 'sends a neighbour nothing until resume_link';

CREATE FUNCTION cmblock.resume_link(neighbour cmblock.site_code) RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_resume_link' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.resume_link IS 'sends to a paused neighbour again; what it missed goes first';

CREATE FUNCTION cmblock.compare_site(site cmblock.site_code, OUT neighbour cmblock.site_code, OUT equal boolean, OUT rows bigint, OUT different bigint,
		OUT sent bigint, OUT taken bigint, OUT conflicts bigint, OUT unrepaired bigint, OUT examples text[], OUT compared_at timestamptz)
	RETURNS record
	AS 'MODULE_PATHNAME', 'cmblock_compare_site' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.compare_site IS 'compares this site''s rows with those of a neighbour that it sends to, and repairs what differs';

-- The calls of the protocol (docs/protocol.md). Only the role that accept_link named gets an answer.
CREATE FUNCTION cmblock.open_link(protocol integer, hierarchy uuid, sender cmblock.site_code, receiver cmblock.site_code,
		incarnation text, OUT protocol_spoken integer, OUT receiver_incarnation text, OUT cursor pg_snapshot,
		OUT cursor_incarnation text, OUT cursor_position pg_lsn, OUT progress text)
	RETURNS record
	AS 'MODULE_PATHNAME', 'cmblock_open_link' LANGUAGE C VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.open_link IS 'called by a neighbour: who is calling, and up to where have I received, on disk?';

CREATE FUNCTION cmblock.apply_changes(protocol integer, hierarchy uuid, sender cmblock.site_code, receiver cmblock.site_code,
		incarnation text, changes bytea, cursor pg_snapshot DEFAULT NULL, "position" pg_lsn DEFAULT NULL,
		repair boolean DEFAULT false, progress text DEFAULT NULL, OUT applied bigint, OUT ignored bigint)
	RETURNS record
	AS 'MODULE_PATHNAME', 'cmblock_apply_changes' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.apply_changes IS 'called by a neighbour: takes in a batch of rows, all or none';

CREATE FUNCTION cmblock.ask_enforcement(protocol integer, hierarchy uuid, sender cmblock.site_code, receiver cmblock.site_code,
		incarnation text, question bigint, client cmblock.smsid) RETURNS bytea
	AS 'MODULE_PATHNAME', 'cmblock_ask_enforcement' LANGUAGE C VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.ask_enforcement IS 'called by a neighbour: which version of this client is here? the sites behind this one are asked, too';

CREATE FUNCTION cmblock.tell_enforcement(protocol integer, hierarchy uuid, sender cmblock.site_code, receiver cmblock.site_code,
		incarnation text, question bigint, answers bytea) RETURNS boolean
	AS 'MODULE_PATHNAME', 'cmblock_tell_enforcement' LANGUAGE C VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.tell_enforcement IS 'called by a neighbour: what the sites behind it answered; returns whether anybody still asks';

-- Where a block is in force.
CREATE TYPE cmblock.enforcement_state AS ENUM ('enforced', 'pending', 'unknown');
COMMENT ON TYPE cmblock.enforcement_state IS 'enforced: the site has the current state of the client; pending: it has an older one or none; unknown: it could not be asked';

CREATE FUNCTION cmblock.enforcement(client cmblock.smsid, timeout interval DEFAULT '5 s', OUT site cmblock.site_code,
		OUT kind cmblock.site_kind, OUT state cmblock.enforcement_state, OUT version bigint, OUT enforced_at timestamptz,
		OUT confirmed_at timestamptz, OUT detail text)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'cmblock_enforcement' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	ROWS 100;
COMMENT ON FUNCTION cmblock.enforcement IS 'asks all sites of the hierarchy whether they have the current state of a client, and since when';

CREATE FUNCTION cmblock.wait_for_enforcement(client cmblock.smsid, timeout interval DEFAULT '10 s',
		sites cmblock.site_code[] DEFAULT NULL) RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'cmblock_wait_for_enforcement' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.wait_for_enforcement IS 'waits until all sites, or those named, have the current state of a client; returns the time from which on that is certain';

CREATE FUNCTION cmblock.compare_rows(protocol integer, hierarchy uuid, sender cmblock.site_code, receiver cmblock.site_code,
		incarnation text, relation text, after bytea, upto bytea, rows bigint, digest bigint, OUT entries bytea, OUT reached bytea)
	RETURNS record
	AS 'MODULE_PATHNAME', 'cmblock_compare_rows' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off;
COMMENT ON FUNCTION cmblock.compare_rows IS 'called by a neighbour: is this range of rows the same here? If not, what is it?';

CREATE FUNCTION cmblock.fetch_rows(protocol integer, hierarchy uuid, sender cmblock.site_code, receiver cmblock.site_code,
		incarnation text, relation text, keys bytea) RETURNS bytea
	AS 'MODULE_PATHNAME', 'cmblock_fetch_rows' LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION cmblock.fetch_rows IS 'called by a neighbour: these rows as they are here';

CREATE FUNCTION cmblock.replication_worker() RETURNS text
	AS 'MODULE_PATHNAME', 'cmblock_replication_worker' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION cmblock.replication_worker IS 'whether this database has its replicator: running, not running, no launcher, or not preloaded';

CREATE FUNCTION cmblock.link_phase(neighbour cmblock.site_code, OUT phase text, OUT rows_under_way bigint) RETURNS record
	AS 'MODULE_PATHNAME', 'cmblock_link_phase' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION cmblock.link_phase IS 'what the replicator of this database is doing for a neighbour; null when there is none';

-- LIMIT 1: so that the planner knows that this_site has a single row. A table of that size is never analyzed.
CREATE VIEW cmblock.replication_status AS
	SELECT l.neighbour,
	       CASE WHEN l.neighbour = t.parent THEN 'up' ELSE 'down' END AS direction,
	       'send' AS flow,
	       l.state,
	       p.phase,
	       lag.lag_rows,
	       CASE WHEN lag.lag_rows = 0 THEN 0
	            ELSE extract(epoch FROM statement_timestamp() - greatest(lag.since, l.last_success_at))
	       END::numeric(20, 3) AS lag_seconds,
	       l.last_error,
	       CASE
	           WHEN w.worker = 'not preloaded' THEN
	               'Add shared_preload_libraries = ''cmblock'' to postgresql.conf and restart the server: without it nothing is sent.'
	           WHEN s.oid IS NULL THEN
	               format('Server %I is missing. Create it: CREATE SERVER %I FOREIGN DATA WRAPPER cmblock_fdw OPTIONS (host ''...'', dbname ''...'').', l.server, l.server)
	           WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_user_mapping m WHERE m.umserver = s.oid AND m.umuser IN (0, s.srvowner)) THEN
	               format('A user mapping is missing. Create it: CREATE USER MAPPING FOR %I SERVER %I OPTIONS (user ''...'', password ''...'').',
	                      pg_catalog.pg_get_userbyid(s.srvowner), l.server)
	           WHEN w.worker = 'no launcher' THEN
	               'The cmblock launcher is not running. On a standby that is right; elsewhere the server log says why.'
	           WHEN l.paused THEN
	               format('The link is paused. Go on with: SELECT cmblock.resume_link(%L).', l.neighbour)
	           WHEN w.worker = 'not running' THEN
	               'No replicator is running in this database: the server log says why. It often helps to raise max_worker_processes.'
	           WHEN l.failures > 0 AND l.last_error_sqlstate = '42501' AND (l.last_error LIKE 'permission denied%' OR l.last_error LIKE 'role "%" is not the one accepted%') THEN
	               format('%s does not accept this link. There, with the role of the user mapping here: SELECT cmblock.accept_link(%L, ''role'').', l.neighbour, t.code)
	           WHEN t.restored_at IS NOT NULL THEN
	               'This site was restored to an earlier state: it takes no changes until it has compared with its parent, or at the top with all neighbours. If that cannot be: SELECT cmblock.accept_restored_state().'
	       END AS advice,
	       l.failures,
	       l.next_retry_at,
	       l.last_error_at,
	       l.last_error_sqlstate,
	       l.last_success_at,
	       l.paused,
	       p.rows_under_way,
	       l.rows_sent AS rows,
	       l.batches_sent AS batches,
	       l.bytes_sent AS bytes,
	       l.server,
	       NULL::name AS peer_role
	FROM cmblock.replication_link l
	CROSS JOIN (SELECT * FROM cmblock.this_site LIMIT 1) t
	CROSS JOIN LATERAL (SELECT cmblock.replication_worker() AS worker) w
	CROSS JOIN LATERAL cmblock.link_phase(l.neighbour) p
	LEFT JOIN pg_catalog.pg_foreign_server s ON s.srvname = l.server
	CROSS JOIN LATERAL (
		SELECT count(*) AS lag_rows, min(r.changed_at) AS since
		FROM (SELECT change_xid, origin_site, changed_at FROM cmblock.site
		      UNION ALL
		      SELECT change_xid, origin_site, changed_at FROM cmblock.client
		      UNION ALL
		      SELECT change_xid, origin_site, changed_at FROM cmblock.certificate) r
		WHERE r.change_xid >= coalesce(pg_snapshot_xmin(l.acknowledged), '0'::xid8)
		  AND NOT pg_visible_in_snapshot(r.change_xid, coalesce(l.acknowledged, '1:1:'::pg_snapshot))
		  AND CASE WHEN l.neighbour = t.parent THEN r.origin_site = t.code ELSE r.origin_site <> l.neighbour END) lag
	WHERE l.server IS NOT NULL
	UNION ALL
	SELECT coalesce(l.neighbour, c.neighbour),
	       CASE WHEN coalesce(l.neighbour, c.neighbour) = t.parent THEN 'down' ELSE 'up' END,
	       'receive',
	       NULL, NULL, NULL, NULL, NULL,
	       CASE
	           WHEN l.peer_role IS NULL THEN
	               format('Nothing is accepted from %s any more. Accept it with: SELECT cmblock.accept_link(%L, ''role'').', c.neighbour, c.neighbour)
	           WHEN c.neighbour IS NULL THEN
	               format('%s has sent nothing yet. There, look at cmblock.replication_status.', l.neighbour)
	       END,
	       NULL, NULL, NULL, NULL,
	       c.received_at,
	       NULL, NULL,
	       c.rows_received, c.batches_received, NULL,
	       NULL, l.peer_role
	FROM (SELECT * FROM cmblock.replication_link WHERE peer_role IS NOT NULL) l
	FULL JOIN cmblock.replication_cursor c ON c.neighbour = l.neighbour
	CROSS JOIN (SELECT * FROM cmblock.this_site LIMIT 1) t
	ORDER BY 1, 3 DESC;
COMMENT ON VIEW cmblock.replication_status IS 'the links of this site: what is sent and received, how far behind, and why';
COMMENT ON COLUMN cmblock.replication_status.neighbour IS 'the neighbour site';
COMMENT ON COLUMN cmblock.replication_status.direction IS 'up: towards the central site; down: away from it';
COMMENT ON COLUMN cmblock.replication_status.flow IS 'send or receive: a link has a row for each';
COMMENT ON COLUMN cmblock.replication_status.state IS 'active, degraded after 12 failures in a row, failed after 24; null for receive';
COMMENT ON COLUMN cmblock.replication_status.phase IS 'what the replicator is doing for this link';
COMMENT ON COLUMN cmblock.replication_status.lag_rows IS 'rows that the neighbour does not have yet';
COMMENT ON COLUMN cmblock.replication_status.lag_seconds IS 'for how long the oldest of them waits';
COMMENT ON COLUMN cmblock.replication_status.last_error IS 'what went wrong last';
COMMENT ON COLUMN cmblock.replication_status.advice IS 'what to do';
COMMENT ON COLUMN cmblock.replication_status.failures IS 'attempts in a row that failed';
COMMENT ON COLUMN cmblock.replication_status.next_retry_at IS 'when it is tried again';
COMMENT ON COLUMN cmblock.replication_status.last_error_at IS 'when it went wrong';
COMMENT ON COLUMN cmblock.replication_status.last_error_sqlstate IS 'SQLSTATE of that';
COMMENT ON COLUMN cmblock.replication_status.last_success_at IS 'when rows last went over';
COMMENT ON COLUMN cmblock.replication_status.paused IS 'nothing is sent until resume_link';
COMMENT ON COLUMN cmblock.replication_status.rows_under_way IS 'rows of the present round that are sent so far';
COMMENT ON COLUMN cmblock.replication_status.rows IS 'rows that went over';
COMMENT ON COLUMN cmblock.replication_status.batches IS 'batches that went over';
COMMENT ON COLUMN cmblock.replication_status.bytes IS 'octets that were sent';
COMMENT ON COLUMN cmblock.replication_status.server IS 'the foreign server with the address of the neighbour';
COMMENT ON COLUMN cmblock.replication_status.peer_role IS 'the role that the neighbour logs in as';

-- ---------------------------------------------------------------------------------------------
-- CRL cache
-- ---------------------------------------------------------------------------------------------

-- One for all databases of the server, so CRLs of other databases are in it as well.
CREATE FUNCTION cmblock.crl_cache_entries(
	OUT place text, OUT sha256 cmblock.thumbprint, OUT state text, OUT issuer text, OUT entries bigint, OUT bytes bigint,
	OUT hits bigint, OUT builds bigint, OUT build_ms float8, OUT pins bigint, OUT built_at timestamptz, OUT last_used timestamptz
) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'cmblock_crl_cache_entries' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION cmblock.crl_cache_entries IS 'the rows of view crl_cache';

CREATE FUNCTION cmblock.crl_cache_totals(
	OUT place text, OUT size bigint, OUT used bigint, OUT hits bigint, OUT builds bigint, OUT build_ms float8,
	OUT evictions bigint, OUT failed_builds bigint, OUT waits bigint, OUT no_room bigint
) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'cmblock_crl_cache_totals' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION cmblock.crl_cache_totals IS 'the rows of view crl_cache_total';

CREATE VIEW cmblock.crl_cache AS
	SELECT * FROM cmblock.crl_cache_entries() ORDER BY place DESC, last_used DESC;
COMMENT ON VIEW cmblock.crl_cache IS 'the CRLs held in memory: shared by all sessions, and local to this one';
COMMENT ON COLUMN cmblock.crl_cache.place IS 'shared by all sessions, or local to this one';
COMMENT ON COLUMN cmblock.crl_cache.sha256 IS 'SHA-256 of the CRL''s DER';
COMMENT ON COLUMN cmblock.crl_cache.state IS 'ready, or being built';
COMMENT ON COLUMN cmblock.crl_cache.issuer IS 'the name that the CRL was issued under';
COMMENT ON COLUMN cmblock.crl_cache.entries IS 'how many certificates it lists';
COMMENT ON COLUMN cmblock.crl_cache.bytes IS 'the memory that it takes';
COMMENT ON COLUMN cmblock.crl_cache.hits IS 'how often it was found here';
COMMENT ON COLUMN cmblock.crl_cache.builds IS 'how often it was put here';
COMMENT ON COLUMN cmblock.crl_cache.build_ms IS 'how long that took the last time';
COMMENT ON COLUMN cmblock.crl_cache.pins IS 'sessions that are reading it now';
COMMENT ON COLUMN cmblock.crl_cache.built_at IS 'when it was put here';
COMMENT ON COLUMN cmblock.crl_cache.last_used IS 'when it was last asked for';

CREATE VIEW cmblock.crl_cache_total AS
	SELECT * FROM cmblock.crl_cache_totals();
COMMENT ON VIEW cmblock.crl_cache_total IS 'the memory for CRLs: its size, and what happened in it since the server (or this session) started';
COMMENT ON COLUMN cmblock.crl_cache_total.place IS 'shared by all sessions, or local to this one';
COMMENT ON COLUMN cmblock.crl_cache_total.size IS 'the memory there is';
COMMENT ON COLUMN cmblock.crl_cache_total.used IS 'the memory in use';
COMMENT ON COLUMN cmblock.crl_cache_total.hits IS 'how often a CRL was found here';
COMMENT ON COLUMN cmblock.crl_cache_total.builds IS 'how often one was put here';
COMMENT ON COLUMN cmblock.crl_cache_total.build_ms IS 'how long that took in all';
COMMENT ON COLUMN cmblock.crl_cache_total.evictions IS 'how often one had to make room';
COMMENT ON COLUMN cmblock.crl_cache_total.failed_builds IS 'how often one could not be put here';
COMMENT ON COLUMN cmblock.crl_cache_total.waits IS 'how often a session waited for another that was putting it here';
COMMENT ON COLUMN cmblock.crl_cache_total.no_room IS 'how often there was no room';

CREATE VIEW cmblock.blocked_not_revoked AS
	SELECT x.sha256 AS certificate, x.type, x.subject, x.issuer, x.serial, x.client, c.name, x.assigned_site,
	       CASE WHEN x.blocked THEN x.block_changed_at ELSE c.block_changed_at END AS blocked_at,
	       CASE WHEN x.blocked THEN x.block_changed_by ELSE c.block_changed_by END AS blocked_by,
	       s.status, s.reason, s.detail, x.not_after
	FROM cmblock.certificate x
	LEFT JOIN cmblock.client c ON c.smsid = x.client
	CROSS JOIN LATERAL cmblock.revocation_status(x.sha256::bytea) s
	WHERE (x.blocked OR c.blocked) AND NOT x.self_signed AND x.not_after > now() AND s.status <> 'revoked'
	ORDER BY 9 DESC;
COMMENT ON VIEW cmblock.blocked_not_revoked IS 'blocked certificates, and those of blocked clients, that no CRL revokes: what to ask the PKI administrators for';
COMMENT ON COLUMN cmblock.blocked_not_revoked.certificate IS 'its SHA-256 thumbprint';
COMMENT ON COLUMN cmblock.blocked_not_revoked.type IS 'what the certificate is for';
COMMENT ON COLUMN cmblock.blocked_not_revoked.subject IS 'the name of its subject';
COMMENT ON COLUMN cmblock.blocked_not_revoked.issuer IS 'the CA to ask';
COMMENT ON COLUMN cmblock.blocked_not_revoked.serial IS 'the serial number to name there';
COMMENT ON COLUMN cmblock.blocked_not_revoked.client IS 'the client that it is of';
COMMENT ON COLUMN cmblock.blocked_not_revoked.name IS 'the name of that client';
COMMENT ON COLUMN cmblock.blocked_not_revoked.assigned_site IS 'the primary site that it is assigned to';
COMMENT ON COLUMN cmblock.blocked_not_revoked.blocked_at IS 'since when it, or its client, is blocked';
COMMENT ON COLUMN cmblock.blocked_not_revoked.blocked_by IS 'the login role that did that';
COMMENT ON COLUMN cmblock.blocked_not_revoked.status IS 'what is known of its revocation';
COMMENT ON COLUMN cmblock.blocked_not_revoked.reason IS 'why that is not known';
COMMENT ON COLUMN cmblock.blocked_not_revoked.detail IS 'the reason in a sentence';
COMMENT ON COLUMN cmblock.blocked_not_revoked.not_after IS 'the end of its validity';

CREATE VIEW cmblock.revoked_not_blocked AS
	SELECT x.sha256 AS certificate, x.type, x.subject, x.issuer, x.serial, x.client, c.name, x.assigned_site,
	       s.reason, s.detail, s.revoked_at, s.revocation_reason, x.not_after
	FROM cmblock.certificate x
	LEFT JOIN cmblock.client c ON c.smsid = x.client
	CROSS JOIN LATERAL cmblock.revocation_status(x.sha256::bytea) s
	WHERE NOT x.blocked AND NOT coalesce(c.blocked, false) AND x.deleted_at IS NULL AND x.not_after > now()
	  AND s.status = 'revoked'
	ORDER BY s.revoked_at DESC;
COMMENT ON VIEW cmblock.revoked_not_blocked IS 'certificates that are revoked, while neither they nor their clients are blocked: a client with another certificate still gets in';
COMMENT ON COLUMN cmblock.revoked_not_blocked.certificate IS 'its SHA-256 thumbprint';
COMMENT ON COLUMN cmblock.revoked_not_blocked.type IS 'what the certificate is for';
COMMENT ON COLUMN cmblock.revoked_not_blocked.subject IS 'the name of its subject';
COMMENT ON COLUMN cmblock.revoked_not_blocked.issuer IS 'the CA that revoked it';
COMMENT ON COLUMN cmblock.revoked_not_blocked.serial IS 'its serial number';
COMMENT ON COLUMN cmblock.revoked_not_blocked.client IS 'the client that it is of';
COMMENT ON COLUMN cmblock.revoked_not_blocked.name IS 'the name of that client';
COMMENT ON COLUMN cmblock.revoked_not_blocked.assigned_site IS 'the primary site that can block it';
COMMENT ON COLUMN cmblock.revoked_not_blocked.reason IS 'why it counts as revoked';
COMMENT ON COLUMN cmblock.revoked_not_blocked.detail IS 'the reason in a sentence';
COMMENT ON COLUMN cmblock.revoked_not_blocked.revoked_at IS 'since when it is revoked, as the CRL says';
COMMENT ON COLUMN cmblock.revoked_not_blocked.revocation_reason IS 'why the CA revoked it, as the CRL says';
COMMENT ON COLUMN cmblock.revoked_not_blocked.not_after IS 'the end of its validity';

-- ---------------------------------------------------------------------------------------------
-- Being watched
-- ---------------------------------------------------------------------------------------------

CREATE FUNCTION cmblock.version() RETURNS text
	AS 'MODULE_PATHNAME', 'cmblock_version' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION cmblock.version() IS 'version of the loaded library';

CREATE FUNCTION cmblock.decision_counts(OUT reason text, OUT transport cmblock.transport, OUT request cmblock.request_kind,
		OUT decisions bigint, OUT stats_reset timestamptz) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'cmblock_decision_counts' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 378;
COMMENT ON FUNCTION cmblock.decision_counts() IS 'how many decisions of this database came out how: a row for each reason, transport and kind of request';

CREATE FUNCTION cmblock.reset_decision_statistics() RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_reset_decision_statistics' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION cmblock.reset_decision_statistics() IS 'lets the counts of decisions of this database begin at zero again';

CREATE VIEW cmblock.decision_statistics AS
	SELECT d.reason,
	       sum(d.decisions)::bigint AS decisions,
	       (sum(d.decisions) FILTER (WHERE d.transport = 'http'))::bigint AS http,
	       (sum(d.decisions) FILTER (WHERE d.transport = 'enhanced_http'))::bigint AS enhanced_http,
	       (sum(d.decisions) FILTER (WHERE d.transport = 'https'))::bigint AS https,
	       (sum(d.decisions) FILTER (WHERE d.request = 'registration'))::bigint AS registrations,
	       min(d.stats_reset) AS stats_reset
	FROM cmblock.decision_counts() WITH ORDINALITY AS d (reason, transport, request, decisions, stats_reset, place)
	GROUP BY d.reason
	ORDER BY min(d.place);
COMMENT ON VIEW cmblock.decision_statistics IS 'how many requests were allowed, and how many refused for which reason, since stats_reset; empty where cmblock is not preloaded';
COMMENT ON COLUMN cmblock.decision_statistics.reason IS 'allowed, or the first reason to refuse';
COMMENT ON COLUMN cmblock.decision_statistics.decisions IS 'how often that was the answer';
COMMENT ON COLUMN cmblock.decision_statistics.http IS 'of these, over http';
COMMENT ON COLUMN cmblock.decision_statistics.enhanced_http IS 'of these, over enhanced http';
COMMENT ON COLUMN cmblock.decision_statistics.https IS 'of these, over https';
COMMENT ON COLUMN cmblock.decision_statistics.registrations IS 'of these, requests to be registered';
COMMENT ON COLUMN cmblock.decision_statistics.stats_reset IS 'since when is counted: the start of the server, or reset_decision_statistics';

CREATE FUNCTION cmblock.history_check(events integer DEFAULT 1000, OUT intact boolean, OUT newest bigint, OUT "position" bigint,
		OUT round_ended_at timestamptz, OUT first_broken bigint, OUT detail text) RETURNS record
	AS 'MODULE_PATHNAME', 'cmblock_history_check' LANGUAGE C VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.history_check IS 'looks at what is new in the block history and at the next piece of what is old, at most so many events: for tools that ask every minute';

CREATE FUNCTION cmblock.running_commands(OUT pid integer, OUT command text, OUT phase text, OUT done bigint, OUT total bigint,
		OUT unit text, OUT started_at timestamptz, OUT phase_started_at timestamptz) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'cmblock_running_commands' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 10;
COMMENT ON FUNCTION cmblock.running_commands() IS 'the rows of view progress';

CREATE VIEW cmblock.progress AS
	SELECT * FROM cmblock.running_commands() ORDER BY started_at;
COMMENT ON VIEW cmblock.progress IS 'the long commands that run in this database, and how far they have come; links are in replication_status';
COMMENT ON COLUMN cmblock.progress.pid IS 'the process, as in pg_stat_activity';
COMMENT ON COLUMN cmblock.progress.command IS 'import_crl (also when the refresher takes a CRL in), check_crl or verify_block_history';
COMMENT ON COLUMN cmblock.progress.phase IS 'what it is doing';
COMMENT ON COLUMN cmblock.progress.done IS 'how many are done in this phase, where they are counted one by one';
COMMENT ON COLUMN cmblock.progress.total IS 'how many there are';
COMMENT ON COLUMN cmblock.progress.unit IS 'of what';
COMMENT ON COLUMN cmblock.progress.started_at IS 'when the command began';
COMMENT ON COLUMN cmblock.progress.phase_started_at IS 'when the phase began';

-- Numbers that a tool may ask for every few seconds: of large tables the planner's estimate, and of blocks the exact count, from
-- an index that holds nothing else.
CREATE VIEW cmblock.site_status AS
	SELECT t.code, t.kind, t.parent, t.hierarchy,
	       pg_is_in_recovery() AS standby,
	       cmblock.version() AS version,
	       (SELECT count(*) FROM cmblock.site s WHERE s.retired_at IS NULL) AS sites,
	       (SELECT CASE WHEN r.reltuples >= 10000 THEN r.reltuples::bigint ELSE (SELECT count(*) FROM cmblock.client) END
	        FROM pg_catalog.pg_class r WHERE r.oid = 'cmblock.client'::regclass) AS clients,
	       (SELECT count(*) FROM cmblock.client c WHERE c.blocked) AS blocked_clients,
	       (SELECT CASE WHEN r.reltuples >= 10000 THEN r.reltuples::bigint ELSE (SELECT count(*) FROM cmblock.certificate) END
	        FROM pg_catalog.pg_class r WHERE r.oid = 'cmblock.certificate'::regclass) AS certificates,
	       (SELECT count(*) FROM cmblock.certificate x WHERE x.blocked) AS blocked_certificates,
	       (SELECT max(c.block_changed_at) FROM cmblock.client c WHERE c.blocked) AS last_block_at,
	       cmblock.replication_worker() AS replicator,
	       cmblock.refresher_state() AS refresher
	FROM (SELECT * FROM cmblock.this_site LIMIT 1) t;
COMMENT ON VIEW cmblock.site_status IS 'this site in numbers; one row, none before setup_site';
COMMENT ON COLUMN cmblock.site_status.code IS 'the code of this site';
COMMENT ON COLUMN cmblock.site_status.kind IS 'central, primary or secondary';
COMMENT ON COLUMN cmblock.site_status.parent IS 'the site above it';
COMMENT ON COLUMN cmblock.site_status.hierarchy IS 'the identity of the hierarchy';
COMMENT ON COLUMN cmblock.site_status.standby IS 'this server is a standby: it decides, and sends and fetches nothing';
COMMENT ON COLUMN cmblock.site_status.version IS 'of the library that is loaded';
COMMENT ON COLUMN cmblock.site_status.sites IS 'sites of the hierarchy that this one knows, without retired ones';
COMMENT ON COLUMN cmblock.site_status.clients IS 'clients of the hierarchy that this site knows, deleted ones included; an estimate from 10,000 on';
COMMENT ON COLUMN cmblock.site_status.blocked_clients IS 'of these, those that are blocked';
COMMENT ON COLUMN cmblock.site_status.certificates IS 'registered certificates; an estimate from 10,000 on';
COMMENT ON COLUMN cmblock.site_status.blocked_certificates IS 'certificates that are blocked by themselves';
COMMENT ON COLUMN cmblock.site_status.last_block_at IS 'when a client that is blocked now was blocked last';
COMMENT ON COLUMN cmblock.site_status.replicator IS 'the worker that sends to the neighbours: running, not running, no launcher, or not preloaded';
COMMENT ON COLUMN cmblock.site_status.refresher IS 'the worker that fetches CRLs, in the same words';

-- A function around the query, for its setting: the planner takes it for dear, since it knows little of small tables, and would
-- spend seconds on compiling what runs in milliseconds.
CREATE FUNCTION cmblock.attention_items(OUT severity text, OUT topic text, OUT subject text, OUT problem text, OUT advice text)
	RETURNS SETOF record LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off ROWS 10 AS $$
	WITH item (severity, topic, subject, problem, advice) AS (
		SELECT 'critical', 'site', NULL, 'This database is not a site yet: it refuses every request.', 'Call cmblock.setup_site.'
		WHERE NOT EXISTS (SELECT FROM cmblock.this_site)
		UNION ALL
		SELECT 'critical', 'site', t.code::text,
		       format('The database was set back to an older state, which was noticed at %s. It takes no changes until it has compared with its neighbours.', t.restored_at::timestamptz(0)),
		       'It compares as soon as the links work: look at those first. cmblock.accept_restored_state() goes on without.'
		FROM cmblock.this_site t WHERE t.restored_at IS NOT NULL
		UNION ALL
		SELECT 'critical', 'site', t.code::text,
		       format('This site was retired at %s: no other site takes anything from it, or sends it anything.', s.retired_at::timestamptz(0)),
		       'Let nobody ask it any more, and drop the database. docs/operations.md, on decommissioning, has the steps.'
		FROM cmblock.this_site t JOIN cmblock.site s ON s.code = t.code WHERE s.retired_at IS NOT NULL
		UNION ALL
		SELECT 'critical', 'history', format('event %s', h.first_broken), format('The chain of the block history is broken: %s.', h.detail),
		       'Somebody changed cmblock.block_event behind the guard, or storage is damaged. Compare with a backup; cmblock.verify_block_history() looks at all of it again.'
		FROM cmblock.history_check() h WHERE NOT h.intact
		UNION ALL
		SELECT CASE WHEN r.state = 'failed' OR r.lag_seconds > 60 AND cmblock.replication_worker() <> 'running' THEN 'critical'
		            WHEN r.state = 'degraded' OR r.lag_seconds > 300 AND NOT r.paused OR r.advice IS NOT NULL AND NOT r.paused THEN 'warning'
		            ELSE 'notice' END,
		       'link', format('%s to %s', t.code, r.neighbour),
		       coalesce(nullif(concat_ws(' ', CASE r.state WHEN 'degraded' THEN 'The link is degraded.' WHEN 'failed' THEN 'The link has failed.' END,
		                 CASE WHEN r.lag_rows = 1 THEN '1 row waits to be sent.' WHEN r.lag_rows > 1 THEN format('%s rows wait to be sent.', r.lag_rows) END,
		                 CASE WHEN r.failures > 0 THEN format(CASE r.failures WHEN 1 THEN 'The last attempt has failed: %2$s' ELSE '%1$s attempts in a row have failed: %2$s' END, r.failures, r.last_error)
		                      WHEN r.paused THEN 'It is paused.' END), ''), 'Nothing can be sent.'),
		       coalesce(r.advice, CASE
		           WHEN r.last_error_sqlstate LIKE '08%' OR r.last_error_sqlstate LIKE '57P%' THEN 'Is the server there up, and reachable from here? Blocks reach it as soon as it is.'
		           WHEN r.last_error_sqlstate LIKE '28%' THEN 'The login is refused there: correct the user mapping here, or the role there.'
		           WHEN r.failures > 0 THEN 'The error says what is wrong. It is tried again by itself.'
		           ELSE 'Look at phase and rows_under_way in cmblock.replication_status: do they move?' END)
		FROM cmblock.replication_status r CROSS JOIN (SELECT * FROM cmblock.this_site LIMIT 1) t
		WHERE r.flow = 'send' AND NOT pg_is_in_recovery()
		  AND (r.state <> 'active' OR r.failures > 0 OR r.advice IS NOT NULL OR r.lag_seconds > 300)
		UNION ALL
		SELECT 'warning', 'link', format('%s to %s', r.neighbour, t.code), 'Nothing has come from there, or nothing is accepted any more.', r.advice
		FROM cmblock.replication_status r CROSS JOIN (SELECT * FROM cmblock.this_site LIMIT 1) t
		WHERE r.flow = 'receive' AND r.advice IS NOT NULL AND NOT pg_is_in_recovery()
		UNION ALL
		SELECT 'warning', 'link', format('%s to %s', t.code, s.code), 'There is no link: blocks do not reach that site, nor the sites behind it.',
		       'Link it with cmblock.link_site, as docs/tutorial.md tells; if it is gone, take it out with cmblock.retire_site.'
		FROM cmblock.site s CROSS JOIN (SELECT * FROM cmblock.this_site LIMIT 1) t
		WHERE s.retired_at IS NULL AND t.kind <> 'secondary' AND (s.parent = t.code OR s.code = t.parent) AND NOT pg_is_in_recovery()
		  AND NOT EXISTS (SELECT FROM cmblock.replication_link l WHERE l.neighbour = s.code AND l.server IS NOT NULL)
		UNION ALL
		SELECT 'warning', 'link', format('%s to %s', s.code, t.code), 'Nothing is accepted from there: blocks do not reach this site.',
		       'Accept it with cmblock.accept_link, as docs/tutorial.md tells; if it is gone, take it out with cmblock.retire_site.'
		FROM cmblock.site s CROSS JOIN (SELECT * FROM cmblock.this_site LIMIT 1) t
		WHERE s.retired_at IS NULL AND (s.code = t.parent OR s.parent = t.code AND s.kind = 'primary') AND NOT pg_is_in_recovery()
		  AND NOT EXISTS (SELECT FROM cmblock.replication_link l WHERE l.neighbour = s.code AND l.peer_role IS NOT NULL)
		UNION ALL
		SELECT 'warning', 'link', format('%s to %s', t.code, l.neighbour),
		       format('%s rows differ here and there, and neither site may decide.', l.compared_unrepaired),
		       'Column compared_examples of cmblock.replication_link names some of them; docs/operations.md says what to do.'
		FROM cmblock.replication_link l CROSS JOIN (SELECT * FROM cmblock.this_site LIMIT 1) t
		WHERE l.compared_unrepaired > 0
		UNION ALL
		SELECT CASE WHEN c.state IN ('stale', 'missing') OR c.next_update < now() THEN 'critical'
		            WHEN c.state = 'failing' AND c.advice LIKE 'Another source%' THEN 'notice'
		            ELSE 'warning' END,
		       'crl', concat_ws(' ', c.authority, CASE WHEN c.kind = 'delta' THEN '(delta)' END),
		       concat_ws(' ', CASE c.state
		           WHEN 'stale' THEN 'The revocation list has expired.'
		           WHEN 'missing' THEN 'There is no revocation list.'
		           WHEN 'held_back' THEN 'A new revocation list is held back.'
		           WHEN 'rejected' THEN 'What the server sends is not accepted.'
		           WHEN 'failing' THEN format(CASE c.failures WHEN 1 THEN 'The last fetch has failed.' ELSE '%s fetches in a row have failed.' END, c.failures)
		           ELSE 'The revocation list ends soon.' END,
		           c.last_error, CASE WHEN c.next_update < now() THEN 'It was valid until ' ELSE 'It is valid until ' END || c.next_update::timestamptz(0) || '.', c.url),
		       coalesce(c.advice, 'A new one is to come before that: ask who runs the CA, or call import_crl.')
		FROM cmblock.crl_status c
		WHERE c.state IN ('stale', 'missing', 'held_back', 'rejected', 'failing')
		   OR c.state IN ('ok', 'due') AND c.next_update - now() < (c.next_update - c.this_update) / 10
		UNION ALL
		SELECT 'warning', 'crl', NULL, format('No revocation list is fetched: the refresher does not run (%s).', cmblock.refresher_state()),
		       CASE cmblock.refresher_state() WHEN 'not preloaded' THEN 'Add shared_preload_libraries = ''cmblock'' to postgresql.conf and restart the server.'
		           ELSE 'The server log says why. It often helps to raise max_worker_processes.' END
		WHERE cmblock.refresher_state() <> 'running' AND NOT pg_is_in_recovery()
		  AND EXISTS (SELECT FROM cmblock.crl_source s WHERE s.enabled AND s.url ~* '^(https?|file)://')
		UNION ALL
		SELECT CASE WHEN a.not_after < now() THEN 'warning' ELSE 'notice' END, 'authority', a.subject,
		       format(CASE WHEN a.not_after < now() THEN 'The certificate of the CA expired at %s.' ELSE 'The certificate of the CA expires at %s.' END, a.not_after::timestamptz(0)),
		       'Add the new certificate of the CA with add_certificate_authority.'
		FROM cmblock.certificate_authority a WHERE a.not_after < now() + interval '30 days'
		UNION ALL
		SELECT 'warning', 'rejoin', NULL,
		       format(CASE WHEN count(DISTINCT r.client) = 1 THEN '%s client looks' ELSE '%s clients look' END || ' like a blocked one coming back.', count(DISTINCT r.client)),
		       'Look at cmblock.suspected_rejoin, and block them or rename them.'
		FROM cmblock.suspected_rejoin r WHERE r.registered_after_block HAVING count(*) > 0
	)
	SELECT i.severity, i.topic, i.subject, i.problem, i.advice
	FROM item i
	ORDER BY array_position(ARRAY['critical', 'warning', 'notice'], i.severity), i.topic, i.subject
$$;
COMMENT ON FUNCTION cmblock.attention_items() IS 'the rows of view attention';

CREATE VIEW cmblock.attention AS
	SELECT * FROM cmblock.attention_items();
COMMENT ON VIEW cmblock.attention IS 'what an administrator should look into, the worst first, and what to do about it; empty when all is well';
COMMENT ON COLUMN cmblock.attention.severity IS 'critical: clients are refused or blocks do not arrive; warning: that will come, or may have; notice: good to know';
COMMENT ON COLUMN cmblock.attention.topic IS 'site, link, crl, authority, rejoin or history';
COMMENT ON COLUMN cmblock.attention.subject IS 'which one';
COMMENT ON COLUMN cmblock.attention.problem IS 'what is wrong';
COMMENT ON COLUMN cmblock.attention.advice IS 'what to do';

CREATE FUNCTION cmblock.report() RETURNS SETOF text LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off ROWS 40 AS $$
	WITH line (part, place, text) AS (
		SELECT 1, 1::bigint, format('Site %s, a %s site%s%s. cmblock %s on PostgreSQL %s, %s.', s.code, s.kind, ' below ' || s.parent,
		                    CASE WHEN s.standby THEN ', on a standby server' END, s.version, current_setting('server_version'), now()::timestamptz(0))
		FROM cmblock.site_status s
		UNION ALL
		SELECT 1, 1, format('This database is not a site yet. cmblock %s on PostgreSQL %s, %s.', cmblock.version(), current_setting('server_version'), now()::timestamptz(0))
		WHERE NOT EXISTS (SELECT FROM cmblock.site_status)
		UNION ALL
		SELECT 2, 0, ''
		UNION ALL
		SELECT 2, 1, CASE count(*) WHEN 0 THEN 'Nothing needs attention.' ELSE format('Needs attention (%s):', count(*)) END
		FROM cmblock.attention
		UNION ALL
		-- Lines of up to 88 characters that end before a blank; a longer word is left whole.
		SELECT 2, 1000 * a.place + w.n, rpad(CASE w.n WHEN 1 THEN '  ' || upper(a.severity) ELSE '' END, 12) || w.line[1]
		FROM (SELECT *, row_number() OVER () AS place FROM cmblock.attention) a,
		     regexp_matches(regexp_replace(concat_ws(': ', concat_ws(' ', a.topic, a.subject), a.problem), '[[:cntrl:]]+', ' ', 'g') || E'\n' || coalesce(a.advice, ''),
		                    E'([^\n]{1,88}(?=[[:space:]]|$)|[^[:space:]]+)[[:space:]]*', 'g') WITH ORDINALITY w (line, n)
		WHERE a.place <= 20
		UNION ALL
		SELECT 3, 0, ''
		UNION ALL
		SELECT 3, v.place, v.text
		FROM cmblock.site_status s CROSS JOIN LATERAL (VALUES
			(1, format('Hierarchy     %s, with %s', s.hierarchy, CASE s.sites WHEN 1 THEN '1 site' ELSE s.sites || ' sites' END)),
			(2, format('Clients       %s, of which %s blocked%s', s.clients, s.blocked_clients, ', the last at ' || s.last_block_at::timestamptz(0))),
			(3, format('Certificates  %s, of which %s blocked by themselves', s.certificates, s.blocked_certificates))) v (place, text)
		UNION ALL
		SELECT 3, 4, format('Decisions     %s allowed, %s refused since %s%s', sum(d.decisions) FILTER (WHERE d.reason = 'allowed'),
		                    sum(d.decisions) FILTER (WHERE d.reason <> 'allowed'), min(d.stats_reset)::timestamptz(0),
		                    ' (' || string_agg(d.reason || ' ' || d.decisions, ', ' ORDER BY d.decisions DESC) FILTER (WHERE d.reason <> 'allowed' AND d.decisions > 0) || ')')
		FROM cmblock.decision_statistics d HAVING count(*) > 0
		UNION ALL
		SELECT 3, 5, format('History       %s, %s%s', CASE h.newest WHEN 1 THEN '1 event' ELSE h.newest || ' events' END, h.detail, '; all of it was looked at until ' || h.round_ended_at::timestamptz(0))
		FROM cmblock.history_check() h
		UNION ALL
		SELECT 4, v.place, v.text FROM (VALUES (0, ''), (1, 'Links')) v (place, text)
		WHERE EXISTS (SELECT FROM cmblock.replication_status)
		UNION ALL
		SELECT 4, 1 + r.place, CASE r.flow
		    WHEN 'send' THEN format('  %s sends to %s     %s%s%s', t.code, r.neighbour, rpad(r.state::text, 10),
		                            CASE r.lag_rows WHEN 0 THEN 'it has everything' WHEN 1 THEN '1 row waits' ELSE r.lag_rows || ' rows wait' END,
		                            coalesce(', ' || r.phase, ''))
		    ELSE format('  %s receives from %s %s', t.code, r.neighbour, coalesce('last at ' || r.last_success_at::timestamptz(0), 'nothing yet')) END
		FROM (SELECT *, row_number() OVER (ORDER BY (state = 'active') NULLS LAST, lag_rows DESC NULLS LAST, neighbour) AS place FROM cmblock.replication_status) r
		CROSS JOIN (SELECT * FROM cmblock.this_site LIMIT 1) t
		WHERE r.place <= 30
		UNION ALL
		SELECT 4, 32, format('  and %s more that are no worse', count(*) - 30) FROM cmblock.replication_status HAVING count(*) > 30
		UNION ALL
		SELECT 5, v.place, v.text FROM (VALUES (0, ''), (1, 'Revocation lists')) v (place, text)
		WHERE EXISTS (SELECT FROM cmblock.crl_status)
		UNION ALL
		SELECT 5, 1 + c.place, format('  %s %s %s', rpad(c.state, 10), concat_ws(' ', c.authority, CASE c.kind WHEN 'delta' THEN '(delta)' END),
		                              concat_ws(', ', 'number ' || c.number, c.entries || CASE c.entries WHEN 1 THEN ' entry' ELSE ' entries' END,
		                                        'valid until ' || c.next_update::timestamptz(0)))
		FROM (SELECT *, row_number() OVER (ORDER BY state IN ('ok', 'due'), next_update) AS place FROM cmblock.crl_status) c
		WHERE c.place <= 20
		UNION ALL
		SELECT 5, 22, format('  and %s more that are no worse', count(*) - 20) FROM cmblock.crl_status HAVING count(*) > 20
	)
	-- Names and errors come from elsewhere: they get no line breaks and no terminal codes in here.
	SELECT regexp_replace(l.text, '[[:cntrl:]]+', ' ', 'g') FROM line l ORDER BY l.part, l.place
$$;
COMMENT ON FUNCTION cmblock.report() IS 'the state of this site on a page: what needs attention and what to do, clients and decisions, links, revocation lists';

-- ---------------------------------------------------------------------------------------------
-- Privileges: PUBLIC has none, but for the data types' own functions, which touch no data
-- ---------------------------------------------------------------------------------------------

CREATE FUNCTION cmblock.grant_privilege(role name, kind text) RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_grant_privilege' LANGUAGE C VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.grant_privilege IS 'makes a role a block_changer, pki_administrator, site_system, replication_peer or reader';

CREATE FUNCTION cmblock.revoke_privilege(role name, kind text) RETURNS void
	AS 'MODULE_PATHNAME', 'cmblock_revoke_privilege' LANGUAGE C VOLATILE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cmblock.revoke_privilege IS 'takes back what grant_privilege gave, but for what another kind that the role is needs';

-- Everything that is not the support function of a data type is taken from PUBLIC.
DO $$
DECLARE
	f regprocedure;
BEGIN
	FOR f IN
		SELECT p.oid
		FROM pg_catalog.pg_proc p
		WHERE p.pronamespace = 'cmblock'::regnamespace
		  AND p.proname !~ '^(site_code|smsid|thumbprint|certificate_serial)'
		  AND p.prokind = 'f'
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
	END LOOP;
END
$$;

-- What a monitoring tool reads: no names of clients, no certificates, no reasons of blocks.
GRANT USAGE ON SCHEMA cmblock TO pg_monitor;
GRANT SELECT ON cmblock.this_site, cmblock.site, cmblock.replication_status, cmblock.crl_status, cmblock.crl_cache,
	cmblock.crl_cache_total, cmblock.decision_statistics, cmblock.progress, cmblock.site_status, cmblock.attention TO pg_monitor;
GRANT EXECUTE ON FUNCTION cmblock.version(), cmblock.replication_worker(), cmblock.link_phase, cmblock.refresher_state(),
	cmblock.crl_cache_entries(), cmblock.crl_cache_totals(), cmblock.decision_counts(), cmblock.running_commands(), cmblock.attention_items(),
	cmblock.verify_block_history(), cmblock.history_check, cmblock.report() TO pg_monitor;

-- ---------------------------------------------------------------------------------------------
-- What pg_dump keeps. A superuser restores it with cmblock.restore = on.
-- ---------------------------------------------------------------------------------------------

SELECT pg_catalog.pg_extension_config_dump('cmblock.this_site', '');
SELECT pg_catalog.pg_extension_config_dump('cmblock.site', '');
SELECT pg_catalog.pg_extension_config_dump('cmblock.client', '');
SELECT pg_catalog.pg_extension_config_dump('cmblock.certificate', '');
SELECT pg_catalog.pg_extension_config_dump('cmblock.block_event', '');
SELECT pg_catalog.pg_extension_config_dump('cmblock.certificate_authority', '');
SELECT pg_catalog.pg_extension_config_dump('cmblock.crl', '');
SELECT pg_catalog.pg_extension_config_dump('cmblock.crl_scope', '');
SELECT pg_catalog.pg_extension_config_dump('cmblock.crl_source', '');
SELECT pg_catalog.pg_extension_config_dump('cmblock.crl_source_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('cmblock.replication_link', '');
SELECT pg_catalog.pg_extension_config_dump('cmblock.replication_cursor', '');
SELECT pg_catalog.pg_extension_config_dump('cmblock.site_run', '');
