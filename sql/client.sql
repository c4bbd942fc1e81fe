-- Clients: registering, deleting, registering again, handing over, and blocked ones that come back.
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
SELECT current_database() AS start \gset
CREATE DATABASE regress_client TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C';
\c regress_client
CREATE EXTENSION cmblock;
SET search_path = public, cmblock;

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
-- A short name for a client's id.
CREATE FUNCTION id(n int) RETURNS cmblock.smsid IMMUTABLE LANGUAGE sql AS
	$$SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid::cmblock.smsid$$;
CREATE VIEW clients AS
	SELECT right(smsid::text, 4) AS client, name, kind, assigned_site AS site, hardware_id AS hw, approval, isv_proxied AS isv,
		deleted_at IS NOT NULL AS deleted, blocked, block_reason AS reason, version, origin_site AS origin
	FROM cmblock.client ORDER BY smsid;
-- A certificate as its registration would write it; only the bytes are made up.
CREATE FUNCTION certificate(name text, client cmblock.smsid, key text) RETURNS void LANGUAGE sql AS $$
	INSERT INTO cmblock.certificate (sha256, sha1, type, client, assigned_site, subject, issuer, serial, not_before, not_after,
		self_signed, key_sha256, der)
	VALUES (encode(sha256(convert_to(name, 'UTF8')), 'hex')::cmblock.thumbprint,
		left(encode(sha256(convert_to(name, 'UTF8')), 'hex'), 40)::cmblock.thumbprint, 'client', client, 'P01', 'CN=' || name, 'CN=CA', '01',
		'2020-01-01', '2040-01-01', false, encode(sha256(convert_to(key, 'UTF8')), 'hex')::cmblock.thumbprint, '\x30')
$$;

SELECT cmblock.setup_site('P01', 'primary', '00000000-0000-0000-0000-00000000c0de', 'CEN');
SELECT cmblock.add_site('S01', 'secondary', 'P01');
-- Sites that replication would have told us of.
SET cmblock.restore = on;
INSERT INTO cmblock.site VALUES
	('P02', 'primary', 'CEN', NULL, 1, 'CEN', '1', 'somebody', now()),
	('P03', 'primary', 'CEN', now(), 2, 'CEN', '1', 'somebody', now());
RESET cmblock.restore;

-- ---------- registering ----------
SELECT cmblock.register_client(id(1), 'pc1');
SELECT cmblock.register_client(id(2), 'mac2', 'mac', 'hw2', 1::smallint, true);
SELECT cmblock.register_client(client => id(3), name => 'phone3', kind => 'mobile_device', approval => 0::smallint);
SELECT * FROM clients;
SELECT bool_and(registered_at = changed_at AND changed_by = session_user AND changed_at <= now()) FROM cmblock.client;

-- Bounds and nulls; hardware_id alone may be null.
SELECT try($$SELECT cmblock.register_client(NULL, 'pc')$$);
SELECT try($$SELECT cmblock.register_client(id(9), NULL)$$);
SELECT try($$SELECT cmblock.register_client(id(9), 'pc', NULL)$$);
SELECT try($$SELECT cmblock.register_client(id(9), 'pc', approval => NULL)$$);
SELECT try($$SELECT cmblock.register_client(id(9), 'pc', isv_proxied => NULL)$$);
SELECT try($$SELECT cmblock.register_client(id(9), 'pc', approval => -1)$$);
SELECT try($$SELECT cmblock.register_client(id(9), 'pc', approval => 3)$$);
SELECT try($$SELECT cmblock.register_client(id(9), '')$$);
SELECT try($$SELECT cmblock.register_client(id(9), repeat('x', 256))$$);
SELECT try($$SELECT cmblock.register_client(id(9), 'pc', hardware_id => '')$$);
SELECT try($$SELECT cmblock.register_client(id(9), 'pc', hardware_id => repeat('x', 256))$$);
SELECT count(*) FROM cmblock.client WHERE smsid = id(9);
-- The limit is counted in characters.
SELECT cmblock.register_client(id(4), repeat('ü', 255), hardware_id => repeat('é', 255));
SELECT length(name), octet_length(name), length(hardware_id) FROM cmblock.client WHERE smsid = id(4);

-- ---------- registering again ----------
-- The same again changes nothing at all.
CREATE TABLE before AS SELECT * FROM cmblock.client;
SELECT cmblock.register_client(id(1), 'pc1');
SELECT cmblock.register_client(id(2), 'mac2', 'mac', 'hw2', 1::smallint, true);
SELECT count(*) FROM (TABLE before EXCEPT TABLE cmblock.client) changed;
-- Something else is brought up to date.
SELECT cmblock.register_client(id(1), 'pc1-new', hardware_id => 'hw1', approval => 1);
SELECT * FROM clients WHERE client = '0001';
-- The time of the registration stays.
SELECT c.registered_at = b.registered_at, c.changed_at > b.changed_at FROM before b JOIN cmblock.client c USING (smsid) WHERE smsid = id(1);

-- ---------- deleting, and back again: the block stays ----------
SELECT cmblock.block_client(id(1), 'stolen', 'T-1');
SELECT cmblock.delete_client(id(1));
SELECT * FROM clients WHERE client = '0001';
SELECT try($$SELECT cmblock.delete_client(id(1))$$);
SELECT try($$SELECT cmblock.delete_client(id(99))$$);
SELECT try($$SELECT cmblock.delete_client(NULL)$$);
SELECT client, reason, ticket, deleted_at IS NOT NULL FROM cmblock.blocked_client;
SELECT cmblock.register_client(id(1), 'pc1-again');
SELECT * FROM clients WHERE client = '0001';
SELECT blocked, block_reason, block_ticket FROM cmblock.client WHERE smsid = id(1);
-- What a blocked client is recognized by cannot be taken away by its registration either, only learnt.
SELECT cmblock.register_client(id(1), 'pc1-new', hardware_id => 'hw1');
SELECT cmblock.register_client(id(1), 'pc1-new', hardware_id => 'hw-other');
SELECT cmblock.register_client(id(12), 'pc12');
SELECT cmblock.block_client(id(12));
SELECT cmblock.register_client(id(12), 'pc12', hardware_id => 'hw12');
SELECT client, name, hw, blocked FROM clients WHERE client IN ('0001', '0012');
SELECT cmblock.unblock_client(id(12));
SELECT cmblock.register_client(id(12), 'pc12-new');
SELECT client, name, hw, blocked FROM clients WHERE client = '0012';
SELECT c.registered_at > b.registered_at AS registered_anew FROM before b JOIN cmblock.client c USING (smsid) WHERE smsid = id(1);
-- Nor can a block be shed by becoming a client that cannot be blocked.
SELECT try($$SELECT cmblock.register_client(id(1), 'pc1-again', isv_proxied => true)$$);
-- Its certificates go with it, and come back only by their own registration.
SELECT certificate('one', id(3), 'key one');
SELECT certificate('two', id(3), 'key two');
SELECT cmblock.delete_client(id(3));
SELECT subject, deleted_at IS NOT NULL, version FROM cmblock.certificate ORDER BY subject;
SELECT cmblock.register_client(id(3), 'phone3', 'mobile_device');
SELECT subject, deleted_at IS NOT NULL, version FROM cmblock.certificate ORDER BY subject;

-- ---------- blocked clients that come back ----------
SELECT cmblock.register_client(id(10), 'Thief', hardware_id => 'hw10');
SELECT certificate('thief', id(10), 'thief key');
SELECT cmblock.block_client(id(10), 'stolen');
\set VERBOSITY default
SELECT cmblock.register_client(id(11), 'other', hardware_id => 'hw10');
\set VERBOSITY terse
SELECT cmblock.register_client(id(12), 'THIEF');
SELECT cmblock.register_client(id(13), 'thief', hardware_id => 'hw10');
SELECT cmblock.register_client(id(14), 'innocent', hardware_id => 'hw14');
SELECT certificate('innocent', id(14), 'thief key');
SELECT right(client::text, 4), name, evidence, right(blocked_client::text, 4), blocked_name, registered_after_block
FROM cmblock.suspected_rejoin ORDER BY client;
-- Its own registration is no suspicion, and who is blocked or deleted is no suspect any more.
SELECT cmblock.register_client(id(10), 'Thief', hardware_id => 'hw10');
SELECT cmblock.block_client(id(11));
SELECT cmblock.delete_client(id(12));
SELECT right(client::text, 4), evidence, right(blocked_client::text, 4) FROM cmblock.suspected_rejoin ORDER BY client, blocked_client;
-- The deleted client is still watched for: here by its name.
SELECT cmblock.delete_client(id(10));
SELECT cmblock.register_client(id(15), 'thief');
-- Or they are refused.
SET cmblock.rejoin_policy = 'refuse';
SELECT try($$SELECT cmblock.register_client(id(16), 'x', hardware_id => 'hw10')$$);
SELECT try($$SELECT cmblock.register_client(id(16), 'tHIEF')$$);
SELECT try($$SELECT cmblock.register_client(id(15), 'thief')$$);
SELECT try($$SELECT cmblock.register_client(id(16), 'x', hardware_id => 'hw16')$$);
SELECT count(*) FROM cmblock.client WHERE smsid = id(16);
SELECT cmblock.unblock_client(id(10));
SELECT cmblock.unblock_client(id(11));
SELECT try($$SELECT cmblock.register_client(id(17), 'thief', hardware_id => 'hw10')$$);
RESET cmblock.rejoin_policy;
SELECT try($$SET cmblock.rejoin_policy = 'ignore'$$);

-- ---------- handing over ----------
SELECT try($$SELECT cmblock.reassign_client(id(99), 'P02')$$);
SELECT try($$SELECT cmblock.reassign_client(id(1), 'P77')$$);
SELECT try($$SELECT cmblock.reassign_client(id(1), 'P03')$$);
SELECT try($$SELECT cmblock.reassign_client(id(1), 'S01')$$);
SELECT try($$SELECT cmblock.reassign_client(id(1), 'CEN')$$);
SELECT cmblock.reassign_client(id(1), 'P01');
SELECT try($$SELECT cmblock.reassign_client(NULL, 'P02')$$), try($$SELECT cmblock.reassign_client(id(1), NULL)$$);
SELECT version FROM cmblock.client WHERE smsid = id(1);
SELECT certificate('pc1', id(1), 'pc1 key');
SELECT cmblock.reassign_client(id(1), 'P02');
-- With its block and its certificates, and this site has written that version.
SELECT * FROM clients WHERE client = '0001';
SELECT subject, assigned_site, version, origin_site FROM cmblock.certificate WHERE client = id(1);
-- From now on this site cannot change it.
SELECT try($$SELECT cmblock.unblock_client(id(1))$$);
SELECT try($$SELECT cmblock.register_client(id(1), 'mine again')$$);
SELECT try($$SELECT cmblock.delete_client(id(1))$$);
SELECT try($$SELECT cmblock.reassign_client(id(1), 'P01')$$);
SELECT try($$SELECT cmblock.block_certificate(sha256) FROM cmblock.certificate WHERE client = id(1)$$);
-- A tombstone is handed over too: its block is still somebody's to lift.
SELECT cmblock.reassign_client(id(10), 'P02');
SELECT name, site, deleted, blocked FROM clients WHERE client = '0010';

SELECT intact FROM cmblock.verify_block_history();
SELECT action, right(client::text, 4), left(certificate::text, 4), site, to_site, reason, ticket FROM cmblock.block_event ORDER BY id;

\c :start
DROP DATABASE regress_client;
