-- Certificates: reading DER and PEM, and the rules of registering them.
SELECT current_database() AS start \gset
CREATE DATABASE regress_certificate;
\c regress_certificate
\getenv source PG_ABS_SRCDIR
\set include :source '/test/certificates.sql'
\set ECHO none
\i :include
\set ECHO all
SET client_min_messages = warning;

-- ---------- where ----------
SELECT try($$SELECT cmblock.register_certificate(cert('pc1'), pc(1))$$);
SELECT cmblock.setup_site('P01', 'primary');
SELECT try($$SELECT cmblock.register_certificate(cert('pc1'), pc(1))$$);
SELECT cmblock.register_client(pc(n), 'pc' || n) FROM generate_series(1, 9) n;
SELECT cmblock.add_certificate_authority(cert('root')) IS NOT NULL;

-- ---------- what is no certificate ----------
SELECT name || ': ' || try(format('SELECT cmblock.register_certificate(cert(%L), pc(9))', name))
	FROM unnest('{empty,text,garbage,truncated,trailing,huge,ber,twice,badusage,cut,double,key,crl,pkcs7}'::text[]) name;
SELECT try($$SELECT cmblock.register_certificate(NULL, pc(9))$$);
-- A value that is small in the table and huge when unpacked is refused by its size.
CREATE TABLE bomb AS SELECT convert_to(repeat('0', 10000000), 'UTF8') AS octets;
SELECT try($$SELECT cmblock.register_certificate(octets, pc(9)) FROM bomb$$);
SELECT count(*) FROM cmblock.certificate;

-- ---------- what is kept of one ----------
SELECT cmblock.register_certificate(cert('pc1'), pc(1))::bytea = sha256(cert('pc1')) AS der;
SELECT cmblock.register_certificate(cert('pem'), pc(1))::bytea = sha256(cert('pc1')) AS pem;
SELECT cmblock.register_certificate(cert('wordy'), pc(1))::bytea = sha256(cert('pc1')) AS text_around;
SELECT cmblock.register_certificate(cert('pc2'), pc(2))::bytea = sha256(cert('pc2')) AS rsa;
SELECT name, type, client, assigned_site, subject, issuer, not_before, not_after, self_signed, der = octets AS der,
       octet_length(sha1::bytea) AS sha1, octet_length(key_sha256::bytea) AS key, blocked, version
	FROM cmblock.certificate JOIN made_certificate ON sha256::bytea = sha256(octets) ORDER BY name;
SELECT cmblock.register_certificate(cert('self'), pc(3)) IS NOT NULL;
SELECT self_signed, subject = issuer AS one_name FROM cmblock.certificate WHERE client = pc(3);
-- It has the issuer's name, but not its key.
SELECT cmblock.register_certificate(cert('of_twin'), pc(3)) IS NOT NULL;
SELECT count(*) FROM cmblock.certificate WHERE client = pc(3) AND NOT self_signed;
SELECT cmblock.register_certificate(cert('forever'), pc(3)) IS NOT NULL;
SELECT not_after FROM cmblock.certificate WHERE subject ~ 'forever';

-- Every octet of a serial number, its sign included; 24 of them are more than RFC 5280 allows, and are kept.
SELECT cmblock.register_certificate(cert('serial_' || kind), pc(3)) IS NOT NULL FROM unnest('{positive,negative,long}'::text[]) kind;
SELECT name, serial FROM cmblock.certificate JOIN made_certificate ON sha256::bytea = sha256(octets) WHERE name ~ '^serial' ORDER BY name;

-- Names that people or attackers choose.
SELECT cmblock.register_certificate(cert('umlaut'), pc(4)) IS NOT NULL;
SELECT cmblock.register_certificate(cert('nul'), pc(4)) IS NOT NULL;
SELECT try($$SELECT cmblock.register_certificate(cert('invalid'), pc(4))$$);
SELECT name, subject FROM cmblock.certificate JOIN made_certificate ON sha256::bytea = sha256(octets) WHERE client = pc(4) ORDER BY name;
-- The same in a database that lacks the characters.
CREATE DATABASE regress_certificate_latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C';
SELECT encode(cert('umlaut'), 'hex') AS umlaut \gset
\c regress_certificate_latin
CREATE EXTENSION cmblock;
SELECT cmblock.setup_site('P01', 'primary');
SELECT cmblock.register_client('11111111-1111-1111-1111-111111111111', 'pc');
\set ECHO none
SELECT cmblock.register_certificate(decode(:'umlaut', 'hex'), '11111111-1111-1111-1111-111111111111') IS NOT NULL;
\set ECHO all
SELECT subject FROM cmblock.certificate;
\c regress_certificate
SET search_path = public, cmblock;
DROP DATABASE regress_certificate_latin;

-- ---------- whose it is ----------
SELECT try($$SELECT cmblock.register_certificate(cert('pc3'))$$);
SELECT try($$SELECT cmblock.register_certificate(cert('pc3'), pc(3), NULL)$$);
SELECT try(format('SELECT cmblock.register_certificate(cert(%L), pc(3), %L)', 'media', type))
	FROM unnest('{boot_media,distribution_point,isv_proxy}'::text[]) type;
SELECT try($$SELECT cmblock.register_certificate(cert('pc3'), pc(99))$$);
SELECT cmblock.register_certificate(cert('media'), type => 'boot_media') IS NOT NULL;
SELECT cmblock.register_certificate(cert('point'), type => 'distribution_point') IS NOT NULL;
SELECT cmblock.register_certificate(cert('proxy'), type => 'isv_proxy') IS NOT NULL;
SELECT type, client, version FROM cmblock.certificate WHERE client IS NULL ORDER BY type;
-- Again: nothing changes.
SELECT cmblock.register_certificate(cert('media'), type => 'boot_media') IS NOT NULL;
SELECT cmblock.register_certificate(cert('pc1'), pc(1)) IS NOT NULL;
SELECT count(*) FROM cmblock.certificate WHERE version <> 1;
-- For somebody or something else.
SELECT try($$SELECT cmblock.register_certificate(cert('pc1'), pc(2))$$);
SELECT try($$SELECT cmblock.register_certificate(cert('pc1'), type => 'boot_media')$$);
SELECT try($$SELECT cmblock.register_certificate(cert('media'), type => 'isv_proxy')$$);
SELECT try($$SELECT cmblock.register_certificate(cert('media'), pc(1))$$);
-- Several of one client.
SELECT cmblock.register_certificate(cert('renewed'), pc(1)) IS NOT NULL;
SELECT count(*), count(DISTINCT key_sha256) FROM cmblock.certificate WHERE client = pc(1);

-- ---------- deleted, blocked, coming back ----------
SELECT cmblock.block_certificate(sha256(cert('pc2'))::cmblock.thumbprint, 'lost');
SELECT cmblock.delete_client(pc(2));
SELECT blocked, deleted_at IS NOT NULL AS deleted FROM cmblock.certificate WHERE client = pc(2);
SELECT try($$SELECT cmblock.register_certificate(cert('pc2'), pc(2))$$);
SELECT try($$SELECT cmblock.register_certificate(cert('pc2'), pc(5))$$);
SELECT cmblock.register_client(pc(2), 'pc2');
SELECT cmblock.register_certificate(cert('pc2'), pc(2)) IS NOT NULL;
SELECT blocked, block_reason, deleted_at IS NOT NULL AS deleted FROM cmblock.certificate WHERE client = pc(2);

-- The key of a blocked client under another name.
SELECT cmblock.block_client(pc(1));
SELECT cmblock.delete_client(pc(1));
SELECT try($$SELECT cmblock.register_certificate(cert('pc1'), pc(6))$$);
SELECT cmblock.register_certificate(cert('pc3'), pc(5)) IS NOT NULL;
SELECT cmblock.block_client(pc(5));
SET cmblock.rejoin_policy = refuse;
SELECT split_part(try($$SELECT cmblock.register_certificate(cert('serial_positive'), pc(3))$$), E'\n', 1);
RESET cmblock.rejoin_policy;

-- ---------- a warning when decisions will refuse it ----------
SELECT cmblock.register_certificate(cert('of_other'), pc(7)) IS NOT NULL;
SELECT cmblock.register_certificate(cert('expired'), pc(7)) IS NOT NULL;
SELECT cmblock.register_certificate(cert('future'), pc(7)) IS NOT NULL;

-- ---------- another site's ----------
SET cmblock.restore = on;
INSERT INTO cmblock.client (smsid, name, kind, assigned_site, approval, isv_proxied, registered_at, blocked, version,
		origin_site, change_xid, changed_by, changed_at)
	VALUES (pc(20), 'pc20', 'computer', 'P02', 2, false, now(), false, 1, 'P02', pg_current_xact_id(), 'them', now());
INSERT INTO cmblock.certificate
	SELECT sha256(cert('of_middle'))::cmblock.thumbprint, sha1, 'boot_media', NULL, 'P02', subject, issuer, serial, not_before, not_after,
	       self_signed, key_sha256, cert('of_middle'), registered_at, NULL, false, NULL, NULL, NULL, NULL, 1, 'P02',
	       pg_current_xact_id(), 'them', now()
	FROM cmblock.certificate WHERE subject ~ 'ISV';
RESET cmblock.restore;
SELECT try($$SELECT cmblock.register_certificate(cert('plain'), pc(20))$$);
SELECT try($$SELECT cmblock.register_certificate(cert('of_middle'), type => 'boot_media')$$);

-- The file of the CA in place of that of the medium.
SELECT cmblock.register_certificate(cert('root'), type => 'boot_media') IS NOT NULL;

-- A site that has none of its own.
CREATE DATABASE regress_certificate_cen TEMPLATE template0;
\c regress_certificate_cen
CREATE EXTENSION cmblock;
SELECT cmblock.setup_site('CEN', 'central');
SELECT cmblock.register_certificate('\x00', type => 'boot_media');
\c :start
DROP DATABASE regress_certificate_cen;
DROP DATABASE regress_certificate;
