-- The same rows without cmblock: copies of its tables with their columns, constraints and indexes, but without the guard, and a
-- function that changes the row as the guard would and writes it down, without a chain of hashes.
CREATE SCHEMA plain;
CREATE TABLE plain.client (LIKE cmblock.client INCLUDING ALL);
INSERT INTO plain.client SELECT * FROM cmblock.client;
CREATE TABLE plain.event (LIKE cmblock.block_event INCLUDING ALL);
CREATE SEQUENCE plain.event_id;
CREATE FUNCTION plain.block(client cmblock.smsid, block boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	changed plain.client;
BEGIN
	UPDATE plain.client c SET blocked = block, block_changed_by = session_user, block_changed_at = now(), changed_by = session_user,
			changed_at = now(), version = version + 1, change_xid = pg_current_xact_id()
		WHERE c.smsid = block.client RETURNING * INTO changed;
	INSERT INTO plain.event (id, action, client, site, actor, at, application_name, version, previous_hash, hash)
		VALUES (nextval('plain.event_id'), 'blocked', changed.smsid, changed.assigned_site, session_user, now(), current_setting('application_name'),
			changed.version, repeat('x', 32)::bytea, repeat('y', 32)::bytea);
END $$;
VACUUM (ANALYZE, FREEZE) plain.client;
CHECKPOINT;
