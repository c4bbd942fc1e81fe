-- The trust list: which CAs may be in it, and which certificates it lets in.
SELECT current_database() AS start \gset
CREATE DATABASE regress_trust;
\c regress_trust
\getenv source PG_ABS_SRCDIR
\set include :source '/test/certificates.sql'
\set ECHO none
\i :include
\set ECHO all

-- ---------- what may be a CA ----------
SELECT try($$SELECT cmblock.add_certificate_authority(cert('root'))$$);
SELECT sha256::bytea = sha256(der), subject, issuer, self_signed, policy, not_before, not_after, added_by = session_user, der = cert('root')
	FROM cmblock.certificate_authority;
-- Again: only the policy changes.
SELECT cmblock.add_certificate_authority(cert('root'), 'off') IS NOT NULL;
SELECT count(*), min(policy) FROM cmblock.certificate_authority;
SELECT name || ': ' || try(format('SELECT cmblock.add_certificate_authority(cert(%L))', name))
	FROM unnest('{pc1,twin,self,critical_ca,garbage,crl}'::text[]) name;
SELECT try($$SELECT cmblock.add_certificate_authority(NULL)$$);
SELECT try($$SELECT cmblock.add_certificate_authority(cert('root'), NULL)$$);
SELECT try($$SELECT cmblock.add_certificate_authority(cert('v1'), 'off')$$);
SELECT try($$SELECT cmblock.add_certificate_authority(cert('old'), 'off')$$);
SELECT count(*) FROM cmblock.certificate_authority;

-- It signs CRLs and no certificates: the list says so.
SELECT try($$SELECT cmblock.add_certificate_authority(cert('crlsign'))$$);
SELECT subject, crl_signer FROM cmblock.certificate_authority ORDER BY 1;
SELECT cmblock.remove_certificate_authority(sha256(cert('crlsign'))::cmblock.thumbprint);

-- ---------- taking one out ----------
SELECT cmblock.remove_certificate_authority(sha256(cert('v1'))::cmblock.thumbprint);
SELECT try($$SELECT cmblock.remove_certificate_authority(sha256(cert('v1'))::cmblock.thumbprint)$$);
SELECT cmblock.setup_site('P01', 'primary');
SELECT cmblock.register_certificate(cert('of_old'), type => 'boot_media') IS NOT NULL;
SELECT subject FROM cmblock.certificate_authority ORDER BY 1;
-- By SHA-1, too: here that of the old root, which nothing in SQL computes.
\set ECHO none
SELECT encode(cert('old'), 'base64') AS old \gset
\setenv CMBLOCK_OLD :old
\set old_sha1 `printenv CMBLOCK_OLD | openssl base64 -d | openssl dgst -sha1 -r | cut -c1-40`
\set ECHO all
SELECT cmblock.remove_certificate_authority(:'old_sha1');
SELECT subject FROM cmblock.certificate_authority ORDER BY 1;

-- ---------- who is trusted ----------
SELECT cmblock.register_client(pc(1), 'pc1');
CREATE FUNCTION trust(name text, at timestamptz DEFAULT '2026-06-01 00:00+00') RETURNS text LANGUAGE sql AS $$
	SELECT rpad(name, 13) || answer || ': ' || detail
	FROM cmblock.explain_access(pc(1), cert(name), at => at) WHERE step = 5 $$;
SELECT trust(name) FROM unnest('{pc1,pc2,forever,plain,flipped,altered,of_twin,of_other,of_middle,server,critical,sha1,md5,self,impostor,root}'::text[]) name;
SET cmblock.allow_sha1 = on;
SELECT trust(name) FROM unnest('{sha1,md5}'::text[]) name;
RESET cmblock.allow_sha1;
CREATE ROLE regress_trust_user;
GRANT USAGE ON SCHEMA cmblock TO regress_trust_user;
SET ROLE regress_trust_user;
SET cmblock.allow_sha1 = on;
RESET ROLE;
DROP OWNED BY regress_trust_user;
DROP ROLE regress_trust_user;

-- Intermediates: by themselves an anchor, else below their issuer.
SELECT cmblock.add_certificate_authority(cert('middle'), 'off') IS NOT NULL;
SELECT trust('of_middle');
SELECT cmblock.remove_certificate_authority(sha256(cert('root'))::cmblock.thumbprint);
SELECT trust('of_middle');
SELECT trust('pc1');
-- An ECDSA signature that somebody rewrote is valid, so the same certificate has two thumbprints.
SELECT trust('rewritten'), cert('rewritten') <> cert('of_middle');
SELECT cmblock.add_certificate_authority(cert('root'), 'off') IS NOT NULL;
-- The middle CA may have no CA below it, although somebody put one into the list.
SELECT cmblock.add_certificate_authority(cert('low'), 'off') IS NOT NULL;
SELECT trust('of_low');
SELECT cmblock.remove_certificate_authority(sha256(cert('middle'))::cmblock.thumbprint);
SELECT trust('of_low');
SELECT cmblock.add_certificate_authority(cert('named'), 'off') IS NOT NULL;
SELECT trust(name) FROM unnest('{of_named,of_named_not}'::text[]) name;
SELECT cmblock.add_certificate_authority(cert('v1'), 'off') IS NOT NULL;
SELECT trust('of_v1', now());
SELECT cmblock.add_certificate_authority(cert('old'), 'off') IS NOT NULL;
SELECT trust('of_old');
SELECT trust('of_old', '2020-06-01 00:00+00');
-- Two CAs of one name: each signs for itself.
SELECT cmblock.add_certificate_authority(cert('impostor'), 'off') IS NOT NULL;
SELECT trust(name) FROM unnest('{pc1,impostor,of_twin}'::text[]) name;

-- ---------- what a session remembers ----------
-- A rolled-back change, in a transaction and in a savepoint.
TRUNCATE cmblock.certificate_authority;
SELECT trust('pc1');
BEGIN;
SELECT cmblock.add_certificate_authority(cert('root'), 'off') IS NOT NULL;
SELECT trust('pc1');
ROLLBACK;
SELECT trust('pc1');
BEGIN;
SAVEPOINT s;
SELECT cmblock.add_certificate_authority(cert('root'), 'off') IS NOT NULL;
SELECT trust('pc1');
ROLLBACK TO s;
SELECT trust('pc1');
COMMIT;
-- Changes by hand, by the table's owner.
SELECT cmblock.add_certificate_authority(cert('root'), 'off') IS NOT NULL;
SELECT trust('pc1');
BEGIN;
DELETE FROM cmblock.certificate_authority;
SELECT trust('pc1');
ROLLBACK;
SELECT trust('pc1');
UPDATE cmblock.certificate_authority SET policy = 'best_effort';
SELECT answer, reason, detail FROM cmblock.explain_access(pc(1), cert('pc1')) WHERE step = 6;
UPDATE cmblock.certificate_authority SET policy = 'required';
SELECT answer, reason, detail FROM cmblock.explain_access(pc(1), cert('pc1')) WHERE step = 6;
-- A row that somebody broke costs its own CA, and says so.
SELECT cmblock.add_certificate_authority(cert('other'), 'off') IS NOT NULL;
UPDATE cmblock.certificate_authority SET der = '\x3000' WHERE subject ~ 'Other';
SELECT trust(name) FROM unnest('{pc1,of_other}'::text[]) name;
DELETE FROM cmblock.certificate_authority WHERE subject ~ 'Other';
-- Another extension, another list.
CREATE FUNCTION trusted() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT detail FROM cmblock.explain_access(certificate => cert('pc1')) WHERE step = 5);
END $$;
SELECT trusted();
DROP EXTENSION cmblock CASCADE;
CREATE EXTENSION cmblock;
SELECT cmblock.setup_site('P01', 'primary');
SELECT trusted();
\c :start
DROP DATABASE regress_trust;
