-- Blocking: one client, many clients, certificates; at the site that may and at those that may not.
\set VERBOSITY default
\pset format unaligned
\pset tuples_only on
SELECT current_database() AS start, current_user AS starter \gset
CREATE ROLE regress_block_alice SUPERUSER LOGIN;
CREATE ROLE regress_block_bob SUPERUSER LOGIN;
CREATE DATABASE regress_block_template TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C';
\c regress_block_template regress_block_alice
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
-- A short name for a client's id, and back.
CREATE FUNCTION id(n int) RETURNS cmblock.smsid IMMUTABLE LANGUAGE sql AS
	$$SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid::cmblock.smsid$$;
CREATE FUNCTION ids(VARIADIC n int[]) RETURNS cmblock.smsid[] IMMUTABLE LANGUAGE sql AS $$SELECT array_agg(id(i)) FROM unnest(n) i$$;
CREATE VIEW blocks AS
	SELECT right(smsid::text, 4) AS client, approval, blocked, left(block_reason, 20) AS reason, left(block_ticket, 20) AS ticket,
		block_changed_by AS by, version
	FROM cmblock.client WHERE right(smsid::text, 12) < '000000100000' ORDER BY smsid;
CREATE FUNCTION sha256_of(n int) RETURNS cmblock.thumbprint LANGUAGE sql AS $$SELECT lpad(n::text, 64, '0')::cmblock.thumbprint$$;
CREATE FUNCTION sha1_of(n int) RETURNS cmblock.thumbprint LANGUAGE sql AS $$SELECT lpad(n::text, 40, '0')::cmblock.thumbprint$$;
-- A certificate as its registration would write it: made-up bytes, and thumbprints that can be read.
CREATE FUNCTION certificate(n int, kind cmblock.certificate_type, client cmblock.smsid, self_signed boolean DEFAULT false)
RETURNS void LANGUAGE sql AS $$
	INSERT INTO cmblock.certificate (sha256, sha1, type, client, assigned_site, subject, issuer, serial, not_before, not_after,
		self_signed, key_sha256, der)
	VALUES (sha256_of(n), sha1_of(n), kind, client, 'P01', 'CN=' || n, 'CN=CA', '01', '2020-01-01', '2040-01-01',
		self_signed, sha256_of(n), '\x30')
$$;
-- Clients of P01 and P02 as every site of the hierarchy has them through replication.
CREATE FUNCTION replicated() RETURNS void LANGUAGE sql SET cmblock.restore = on AS $$
	INSERT INTO cmblock.client
	SELECT id(n), 'pc' || n, 'computer', CASE WHEN n < 20 THEN 'P01' ELSE 'P02' END::cmblock.site_code, NULL, 2, false,
		now(), NULL, false, NULL, NULL, NULL, NULL, 1, CASE WHEN n < 20 THEN 'P01' ELSE 'P02' END::cmblock.site_code, '1', 'somebody', now()
	FROM unnest(ARRAY[1, 2, 20]) n;
$$;
\c :start :starter
CREATE DATABASE regress_block_p01 TEMPLATE regress_block_template;
CREATE DATABASE regress_block_cen TEMPLATE regress_block_template;
CREATE DATABASE regress_block_s01 TEMPLATE regress_block_template;

\c regress_block_p01 regress_block_alice
SET search_path = public, cmblock;
-- ---------- before set-up ----------
SELECT try($$SELECT block_client(id(1))$$);
SELECT try($$SELECT * FROM block_clients(ids(1))$$);
SELECT try($$SELECT block_certificate(sha256_of(1))$$);

SELECT setup_site('P01', 'primary', '00000000-0000-0000-0000-00000000c0de', 'CEN');
SELECT replicated();
SELECT register_client(id(3), 'pc3', approval => 0::smallint);
SELECT register_client(id(4), 'isv4', isv_proxied => true);
SELECT register_client(id(5), 'pc5');
SELECT certificate(5, 'client', id(5));

-- ---------- one client ----------
SELECT try($$SELECT block_client(NULL)$$);
SELECT try($$SELECT unblock_client(NULL)$$);
SELECT try($$SELECT block_client(id(99))$$);
SELECT try($$SELECT unblock_client(id(99))$$);
SELECT try($$SELECT block_client(id(20))$$);
SELECT try($$SELECT unblock_client(id(20))$$);
SELECT try($$SELECT block_client(id(3), repeat('x', 1001))$$);
SELECT try($$SELECT block_client(id(3), NULL, repeat('x', 256))$$);
SELECT try($$SELECT unblock_client(id(3), repeat('x', 1001))$$);
-- Clients without a PKI certificate can come back under another name: the block says so.
SELECT block_client(id(3), 'stolen', 'T-1');
-- With one there is nothing to warn of, but a self-signed or a deleted one is none.
SELECT block_client(id(5), repeat('ü', 1000), repeat('ü', 255));
SELECT register_client(id(6), 'pc6');
SELECT certificate(6, 'client', id(6), true);
SELECT block_client(id(6));
SELECT length(block_reason), length(block_ticket) FROM client WHERE smsid = id(5);

-- Blocking the blocked changes nothing, whoever repeats it and with whatever reason: the whole row is compared.
CREATE TABLE before AS SELECT * FROM client;
-- (the detail has the time, which differs each time)
\set VERBOSITY terse
SELECT block_client(id(3), 'another reason', 'T-2');
SELECT unblock_client(id(1));
\c - regress_block_bob
SET search_path = public, cmblock;
\set VERBOSITY terse
SELECT block_client(id(3), 'and another', 'T-3');
SELECT unblock_client(id(1), 'why not');
SELECT outcome FROM block_clients(ids(3, 5, 6), reason => 'again');
TABLE before EXCEPT TABLE client;
SELECT * FROM blocks;

-- Unblocking never approves.
SELECT unblock_client(id(3), 'found again', 'T-4');
SELECT * FROM blocks WHERE client = '0003';
-- Blocked again: another actor, another version.
SELECT block_client(id(3));
SELECT * FROM blocks WHERE client = '0003';

-- A client behind an ISV proxy cannot be blocked: an error, never a no-op.
SELECT try($$SELECT block_client(id(4))$$);
SELECT unblock_client(id(4));
-- A deleted client can be, so that it does not come back; and it can be unblocked.
SELECT delete_client(id(1));
SELECT block_client(id(1));
SELECT deleted_at IS NOT NULL, blocked FROM client WHERE smsid = id(1);
SELECT unblock_client(id(1));

-- ---------- many clients ----------
SELECT try($$SELECT * FROM block_clients(NULL)$$);
SELECT try($$SELECT * FROM block_clients(ids(2), NULL)$$);
SELECT try($$SELECT * FROM block_clients(ids(2), reason => repeat('x', 1001))$$);
SELECT try($$SELECT * FROM block_clients(ids(2), ticket => repeat('x', 256))$$);
SELECT * FROM block_clients('{}');
-- One row an element, in their order: a second mention finds it blocked; a null is not found.
SELECT right(client::text, 4), outcome, detail FROM block_clients(ids(2, 3, 2, 20, 4, 99) || NULL::smsid || id(5), reason => 'lot', ticket => 'T-5');
SELECT * FROM blocks;
SELECT right(client::text, 4), outcome, detail FROM block_clients(ids(2, 2, 20, 4, 99), false, 'found', 'T-6');
SELECT right(client::text, 4), outcome FROM block_clients(ARRAY[ids(2, 5), ids(5, 6)]);
SELECT * FROM blocks WHERE client = '0002';
-- 25,000 in one call.
SELECT count(register_client(id(n), 'lot' || n, isv_proxied => n % 1000 = 0)) FROM generate_series(100001, 125000) n;
SELECT outcome, detail, count(*) FROM block_clients((SELECT array_agg(id(n)) FROM generate_series(100001, 125010) n)) GROUP BY 1, 2 ORDER BY 1;
SELECT count(*), count(DISTINCT version), max(version) FROM client WHERE blocked AND smsid > id(100000);
SELECT outcome, count(*) FROM block_clients((SELECT array_agg(id(n)) FROM generate_series(100001, 125010) n), false) GROUP BY 1 ORDER BY 1;
SELECT intact FROM verify_block_history();
SELECT action, count(*) FROM block_event WHERE client > id(100000) GROUP BY 1 ORDER BY 1;

-- ---------- certificates ----------
\set VERBOSITY default
SELECT certificate(11, 'boot_media', NULL);
SELECT certificate(12, 'distribution_point', NULL);
SELECT certificate(13, 'isv_proxy', NULL);
SELECT certificate(14, 'client', id(2));
SELECT certificate(15, 'client', id(2));
SELECT certificate(16, 'client', id(2));
SELECT try($$SELECT block_certificate(NULL)$$);
SELECT try($$SELECT unblock_certificate(NULL)$$);
SELECT try($$SELECT block_certificate(sha256_of(99))$$);
SELECT try($$SELECT unblock_certificate(sha1_of(99))$$);
SELECT try($$SELECT block_certificate(sha256_of(11), repeat('x', 1001))$$);
SELECT try($$SELECT block_certificate(sha256_of(11), ticket => repeat('x', 256))$$);
-- The command says what it cuts off.
SELECT block_certificate(sha256_of(11), 'lost in a train', 'T-7');
SELECT block_certificate(sha1_of(12));
SELECT block_certificate(sha256_of(13));
SELECT block_certificate(sha1_of(14));
SELECT block_certificate(sha256_of(15));
-- The client is not blocked by that.
SELECT blocked FROM client WHERE smsid = id(2);
-- Idempotent, under both thumbprints.
CREATE TABLE certificates_before AS SELECT * FROM certificate;
\set VERBOSITY terse
SELECT block_certificate(sha1_of(11), 'again');
SELECT block_certificate(sha256_of(11), 'again');
SELECT unblock_certificate(sha256_of(16));
TABLE certificates_before EXCEPT TABLE certificate;
SELECT unblock_certificate(sha1_of(11), 'found', 'T-8');
SELECT subject, blocked, block_reason, block_ticket, block_changed_by, version FROM certificate ORDER BY sha256;
-- Two certificates with one SHA-1 can be made: then the SHA-1 names none of them.
INSERT INTO certificate (sha256, sha1, type, assigned_site, subject, issuer, serial, not_before, not_after, self_signed, key_sha256, der)
VALUES (sha256_of(17), sha1_of(11), 'boot_media', 'P01', 'CN=twin', 'CN=CA', '02', '2020-01-01', '2040-01-01', false, sha256_of(17), '\x30');
SELECT try($$SELECT block_certificate(sha1_of(11))$$);
SELECT block_certificate(sha256_of(17));
-- A certificate of another site.
SET cmblock.restore = on;
UPDATE certificate SET assigned_site = 'P02' WHERE sha256 = sha256_of(17);
RESET cmblock.restore;
SELECT try($$SELECT unblock_certificate(sha256_of(17))$$);

-- ---------- what administrators read ----------
SELECT certificate, type, subject, assigned_site, blocked_by, reason, ticket FROM blocked_certificate ORDER BY certificate;
SELECT right(client::text, 4), name, blocked_by, reason, ticket FROM blocked_client WHERE client < id(100) AND client <> id(5) ORDER BY client;
SELECT actor, action, name, reason, ticket, site FROM block_history WHERE ticket <> '' AND client IS DISTINCT FROM id(5);

-- ---------- restore mode changes nothing for the commands ----------
SET cmblock.restore = on;
SELECT block_client(id(1), 'in restore mode');
RESET cmblock.restore;
SELECT * FROM blocks WHERE client = '0001';
SELECT block_changed_at = changed_at FROM client WHERE smsid = id(1);

-- ---------- a trigger of the user's own that blocks in its turn, after a change of the catalog ----------
SELECT register_client(id(n), 'chained ' || n) FROM generate_series(16, 18) n;
CREATE FUNCTION block_next() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.blocked AND NOT OLD.blocked AND NEW.smsid < public.id(18) THEN
		EXECUTE format('CREATE SCHEMA regress_block_%s', right(NEW.smsid::text, 2));
		PERFORM cmblock.block_client(public.id(right(NEW.smsid::text, 2)::int + 1), 'goes with ' || NEW.name);
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER block_next AFTER UPDATE ON client FOR EACH ROW EXECUTE FUNCTION block_next();
SET client_min_messages = error;
SELECT block_client(id(16), 'the first');
RESET client_min_messages;
DROP TRIGGER block_next ON client;
SELECT * FROM blocks WHERE client BETWEEN '0016' AND '0018';

-- ---------- the central site and a secondary site may not ----------
\c regress_block_cen regress_block_alice
SET search_path = public, cmblock;
SELECT setup_site('CEN', 'central', '00000000-0000-0000-0000-00000000c0de');
SELECT replicated();
SELECT try($$SELECT block_client(id(1))$$);
SELECT try($$SELECT unblock_client(id(20))$$);
SELECT try($$SELECT block_client(id(99))$$);
SELECT right(client::text, 4), outcome, detail FROM block_clients(ids(1, 20, 99) || NULL::smsid);
SELECT count(*) FROM client WHERE blocked;
\c regress_block_s01 regress_block_alice
SET search_path = public, cmblock;
SELECT setup_site('S01', 'secondary', '00000000-0000-0000-0000-00000000c0de', 'P01');
SELECT replicated();
SELECT try($$SELECT block_client(id(1))$$);
SELECT try($$SELECT unblock_client(id(1))$$);
SELECT try($$SELECT block_client(id(20))$$);
SELECT right(client::text, 4), outcome, detail FROM block_clients(ids(1, 20, 1, 99), false);
SELECT count(*), max(version) FROM client;
SELECT count(*) FROM block_event;

\c :start :starter
DROP DATABASE regress_block_p01;
DROP DATABASE regress_block_cen;
DROP DATABASE regress_block_s01;
DROP DATABASE regress_block_template;
DROP ROLE regress_block_alice;
DROP ROLE regress_block_bob;
