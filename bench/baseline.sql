-- What a user would write instead: two tables with primary keys and a function in PL/pgSQL. It asks the same questions but for
-- those of trust and CRLs: whether a certificate is revoked is a column here, which somebody has to keep up to date.
CREATE SCHEMA baseline;
CREATE TABLE baseline.client (
	id          uuid PRIMARY KEY,
	hardware_id text,
	approval    smallint NOT NULL,
	deleted     boolean NOT NULL,
	blocked     boolean NOT NULL,
	reason      text,
	changed_by  text,
	changed_at  timestamptz,
	version     bigint NOT NULL
);
CREATE TABLE baseline.certificate (
	sha256     bytea PRIMARY KEY,
	client     uuid NOT NULL,
	not_before timestamptz NOT NULL,
	not_after  timestamptz NOT NULL,
	deleted    boolean NOT NULL,
	blocked    boolean NOT NULL,
	revoked    boolean NOT NULL
);
CREATE TABLE baseline.audit (
	id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	client  uuid NOT NULL,
	blocked boolean NOT NULL,
	actor   text NOT NULL,
	at      timestamptz NOT NULL
);
INSERT INTO baseline.client SELECT smsid::uuid, hardware_id, approval, false, false, NULL, NULL, NULL, 1 FROM cmblock.client;
INSERT INTO baseline.certificate SELECT sha256::bytea, client::uuid, not_before, not_after, false, false, false FROM cmblock.certificate;
CREATE INDEX ON baseline.client (hardware_id) WHERE blocked;
CREATE INDEX ON baseline.client (blocked) WHERE blocked;

-- One statement by primary key for each: nothing that PL/pgSQL can do takes less.
CREATE FUNCTION baseline.is_allowed(client uuid DEFAULT NULL, certificate bytea DEFAULT NULL, at timestamptz DEFAULT now())
	RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
	allowed boolean;
BEGIN
	IF certificate IS NULL THEN
		SELECT NOT (c.blocked OR c.deleted OR c.approval = 0) INTO allowed FROM baseline.client c WHERE c.id = is_allowed.client;
	ELSE
		SELECT NOT (c.blocked OR c.deleted OR c.approval = 0 OR x.blocked OR x.deleted OR x.revoked)
		       AND is_allowed.at BETWEEN x.not_before AND x.not_after AND (is_allowed.client IS NULL OR x.client = is_allowed.client)
			INTO allowed
			FROM baseline.certificate x JOIN baseline.client c ON c.id = x.client WHERE x.sha256 = is_allowed.certificate;
	END IF;
	RETURN coalesce(allowed, false);
END $$;

CREATE FUNCTION baseline.block(client uuid, block boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	UPDATE baseline.client c SET blocked = block, changed_by = session_user, changed_at = now(), version = version + 1 WHERE c.id = block.client;
	INSERT INTO baseline.audit (client, blocked, actor, at) VALUES (client, block, session_user, now());
END $$;
