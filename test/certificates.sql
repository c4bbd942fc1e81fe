-- For the regression scripts that need certificates: \i this after \c to an empty database.
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
CREATE EXTENSION cmblock;
SET search_path = public, cmblock; -- for the operators

-- cert('name') is one of the certificates that test/certificates.sh makes anew in each run.
\set directory `mktemp -d`
\setenv CMBLOCK_CERTIFICATES :directory
\! "$PG_ABS_SRCDIR/test/certificates.sh" "$CMBLOCK_CERTIFICATES"
CREATE TABLE made_certificate (name text PRIMARY KEY, octets bytea NOT NULL);
\copy made_certificate FROM PROGRAM 'cat "$CMBLOCK_CERTIFICATES/certificates.tsv"'
\! rm -r "$CMBLOCK_CERTIFICATES"
CREATE FUNCTION cert(wanted text) RETURNS bytea LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
	RETURN (SELECT octets FROM made_certificate WHERE name = wanted AND wanted IS NOT NULL) ;
END $$;

-- Clients are pc(1), pc(2), ...
CREATE FUNCTION pc(n integer) RETURNS cmblock.smsid LANGUAGE sql IMMUTABLE PARALLEL SAFE
	AS $$ SELECT lpad(n::text, 32, '0')::uuid::cmblock.smsid $$;

-- Thumbprints and times of the run are not the same in the next one.
CREATE FUNCTION steady(line text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT regexp_replace(regexp_replace(regexp_replace(line, '[0-9A-F]{64}', '<sha256>', 'g'),
		'[0-9A-F]{40}', '<sha1>', 'g'), 'Blocked by \S+ at [^.,]+\.?\d*[^.,]*', 'Blocked by <whom> at <when>', 'g') $$;

-- What a command is refused with, or what it returned.
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE command INTO result;
	RETURN steady(concat_ws(' ', 'ok', result));
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN steady(concat_ws(E'\n  ', SQLSTATE || ' ' || message, nullif(detail, ''), nullif(hint, '')));
END $$;

-- A decision in one line: allowed, assurance, reasons, warnings.
CREATE FUNCTION verdict(d cmblock.access_decision) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT concat_ws(' ', CASE WHEN d.allowed THEN 'allowed' ELSE 'refused' END, d.assurance,
		nullif(array_to_string(d.reasons, ','), ''), 'warnings:' || nullif(array_to_string(d.warnings, ','), '')) $$;
