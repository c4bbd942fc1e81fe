-- Sources of CRLs: what an address may look like, and what the commands do. t/07*.pl test the fetching.
SELECT current_database() AS start \gset
CREATE DATABASE regress_crl_source;
\c regress_crl_source
\getenv source PG_ABS_SRCDIR
\set include :source '/test/certificates.sql'
\set ECHO none
\i :include
\set ECHO all
-- Without preload there is a WARNING that nobody fetches.
SET client_min_messages = error;
SELECT cmblock.add_certificate_authority(cert('root')) AS ca \gset
CREATE FUNCTION add(url text) RETURNS text LANGUAGE sql
	AS $$ SELECT try(format('SELECT cmblock.add_crl_distribution_point(sha256, %L) FROM cmblock.certificate_authority', url)) $$;

-- ---------- addresses ----------
SELECT add('http://127.0.0.1:1/ca.crl');
SELECT add('HTTPS://127.0.0.1:1/ca%20one+.crl?x=y');
SELECT add('http://[::1]:1/ca.crl');
SELECT add('ldap:///CN=CA,CN=CDP?certificateRevocationList');
SELECT add('ldaps://127.0.0.1/CN=CA');
SELECT add('ftp://127.0.0.1/ca.crl');
SELECT add('127.0.0.1/ca.crl');
SELECT add('');
SELECT add('http://');
SELECT add('http:///ca.crl');
SELECT add('http://:80/ca.crl');
SELECT add('http://user:secret@127.0.0.1/ca.crl');
SELECT add('http://user@127.0.0.1/ca.crl');
SELECT add('http://127.0.0.1:1/name@domain.crl');
SELECT add('http://127.0.0.1/a b.crl');
SELECT add(E'http://127.0.0.1/a\r\nHost: other');
SELECT add('http://127.0.0.1/' || chr(228));
SELECT add('http://127.0.0.1:1/' || repeat('x', 2048 - 19));
SELECT add('http://127.0.0.1:1/' || repeat('x', 2048 - 18));
SELECT add('file:///srv/crl/ca.crl');
SELECT add('file://host/srv/crl/ca.crl');
SELECT add('file:ca.crl');
SELECT add('file:///srv/crl/../../etc/passwd');
SELECT add('file:///srv/crl/%2e%2e/%2E%2e/etc/passwd');
SELECT add('file:///srv/crl/..');
SELECT add('file:///srv/crl/ca%00.crl');
SELECT add('file:///srv/crl/ca%2');
SELECT add('file:///srv/crl/ca%');
SELECT add('file:///srv/crl/ca%g0');
SELECT add('file:///srv/crl/..ca..crl');
SELECT count(*) FROM cmblock.crl_source;

-- ---------- commands ----------
SELECT try(format('SELECT cmblock.add_crl_distribution_point(%L, %L)', repeat('00', 32), 'http://127.0.0.1:1/'));
SELECT try(format('SELECT cmblock.add_crl_distribution_point(encode(sha256(cert(%L)), %L)::cmblock.thumbprint, %L)', 'root', 'hex', 'http://127.0.0.1:1/'));
SELECT try($$SELECT cmblock.add_crl_distribution_point(NULL, 'http://127.0.0.1:1/')$$);
-- The same again changes nothing; a delta is another source.
SELECT cmblock.add_crl_distribution_point(:'ca', 'http://127.0.0.1:1/');
SELECT cmblock.add_crl_distribution_point(:'ca', 'http://127.0.0.1:1/', delta => true);
SELECT delta, origin, enabled, added_by = session_user FROM cmblock.crl_source WHERE url = 'http://127.0.0.1:1/' ORDER BY delta;
SELECT cmblock.refresh_crls() = count(*) FROM cmblock.crl_source;
SELECT cmblock.refresh_crls(:'ca') = count(*) FROM cmblock.crl_source;
SELECT try(format('SELECT cmblock.refresh_crls(%L)', repeat('00', 32)));
SELECT bool_and(requested_at IS NOT NULL) FROM cmblock.crl_source;
SELECT cmblock.remove_crl_distribution_point(:'ca', 'http://127.0.0.1:1/', true);
SELECT try(format('SELECT cmblock.remove_crl_distribution_point(%L, %L, true)', :'ca', 'http://127.0.0.1:1/'));
SELECT count(*) FROM cmblock.crl_source WHERE url = 'http://127.0.0.1:1/';
-- A CA takes its sources along.
SELECT cmblock.remove_certificate_authority(:'ca');
SELECT count(*) FROM cmblock.crl_source;
SELECT count(*) FROM cmblock.crl_status;
SELECT cmblock.refresh_crls();
SELECT cmblock.crl_source_changed();

-- ---------- the end ----------
\c :start
DROP DATABASE regress_crl_source;
