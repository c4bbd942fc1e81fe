-- The decision: every reason, their order, and what a decision sees.
SELECT current_database() AS start \gset
CREATE DATABASE regress_decision;
\c regress_decision
\getenv source PG_ABS_SRCDIR
\set include :source '/test/certificates.sql'
\set ECHO none
\i :include
\set ECHO all
SET client_min_messages = warning;
-- Decisions in here are about this day.
CREATE FUNCTION decide(client cmblock.smsid DEFAULT NULL, certificate bytea DEFAULT NULL, transport cmblock.transport DEFAULT 'https',
		request cmblock.request_kind DEFAULT 'policy', hardware_id text DEFAULT NULL) RETURNS text LANGUAGE sql
	AS $$ SELECT verdict(cmblock.check_access(client, certificate, transport, request, hardware_id, '2026-06-01 00:00+00')) $$;
CREATE FUNCTION thumb(name text) RETURNS bytea LANGUAGE sql STABLE AS $$ SELECT sha256(cert(name)) $$;

-- ---------- before set-up ----------
SELECT decide(pc(1), cert('pc1'));
SELECT * FROM cmblock.explain_access(pc(1));
SELECT cmblock.is_allowed(pc(1));

SELECT cmblock.setup_site('P01', 'primary');
SELECT cmblock.add_certificate_authority(cert('root'), 'off') IS NOT NULL;
SELECT cmblock.register_client(pc(n), 'pc' || n, hardware_id => 'board ' || n) FROM generate_series(1, 8) n;
SELECT cmblock.register_client(pc(9), 'proxied', isv_proxied => true);
SELECT cmblock.register_client(pc(10), 'waiting', approval => 0::smallint);
SELECT cmblock.register_client(pc(11), 'approved', approval => 1::smallint);
SELECT cmblock.register_certificate(cert('pc1'), pc(1)) IS NOT NULL;
SELECT cmblock.register_certificate(cert('pc2'), pc(2)) IS NOT NULL;
SELECT cmblock.register_certificate(cert('self'), pc(3)) IS NOT NULL;
SELECT cmblock.register_certificate(cert('of_other'), pc(4)) IS NOT NULL;
SELECT cmblock.register_certificate(cert('expired'), pc(5)) IS NOT NULL;
SELECT cmblock.register_certificate(cert('future'), pc(5)) IS NOT NULL;
SELECT cmblock.register_certificate(cert('media'), type => 'boot_media') IS NOT NULL;
SELECT cmblock.register_certificate(cert('point'), type => 'distribution_point') IS NOT NULL;
SELECT cmblock.register_certificate(cert('proxy'), type => 'isv_proxy') IS NOT NULL;

-- ---------- who is known ----------
SELECT decide();
SELECT decide(hardware_id => 'board 1');
SELECT decide(pc(1)) AS smsid_alone;
SELECT decide(pc(99)) AS nobody;
SELECT decide(certificate => cert('pc1')) AS der, decide(certificate => cert('pem')) AS pem, decide(certificate => thumb('pc1')) AS sha256;
SELECT decide(certificate => sha1::bytea) AS sha1 FROM cmblock.certificate WHERE client = pc(1);
SELECT decide(pc(1), cert('pc1')) AS both, decide(pc(1), cert('pc1'), 'http') AS http, decide(pc(1), cert('pc1'), 'enhanced_http') AS enhanced;
SELECT (d).client, (d).certificate::bytea = thumb('pc1') AS certificate, (d).site, (d).assigned_site, (d).reason, (d).detail
	FROM cmblock.check_access(certificate => cert('pc1')) d;
SELECT decide(certificate => thumb('pc3')) AS thumbprint_unknown;
SELECT decide(pc(1), thumb('pc3')) AS thumbprint_unknown;
SELECT decide(pc(2), cert('pc1')) AS of_another;
SELECT decide(pc(99), cert('pc1')) AS of_another;
-- Not registered, but of a CA of the trust list.
SELECT decide(pc(3), cert('pc3')) AS renewed, decide(certificate => cert('pc3')) AS nobodys, decide(pc(99), cert('pc3')) AS unknown;
SELECT decide(pc(1), cert('renewed')) AS own_key, decide(pc(2), cert('renewed')) AS key_of_another;
SELECT decide(pc(3), cert('of_middle')) AS no_chain, decide(pc(3), cert('flipped')) AS flipped, decide(pc(1), cert('altered')) AS altered;

-- ---------- the certificate ----------
SELECT name, decide(pc(6), cert(name)) FROM unnest('{empty,text,garbage,truncated,trailing,huge,ber,badusage,cut,double,key,crl}'::text[]) name;
SELECT name, decide(certificate => cert(name)) FROM unnest('{empty,garbage}'::text[]) name;
SELECT decide(pc(6), convert_to(repeat('0', 10000000), 'UTF8')) AS huge;
SELECT decide(pc(5), cert('expired')), decide(pc(5), cert('future'));
SELECT verdict(cmblock.check_access(pc(5), cert('expired'), at => '2020-06-01')), verdict(cmblock.check_access(pc(5), cert('future'), at => '2098-06-01'));
SELECT verdict(cmblock.check_access(pc(1), cert('pc1'), at => '-infinity')), verdict(cmblock.check_access(pc(1), cert('pc1'), at => 'infinity'));
SELECT verdict(cmblock.check_access(pc(1), cert('pc1'), at => not_after)), verdict(cmblock.check_access(pc(1), cert('pc1'), at => not_after + '1 us'))
	FROM cmblock.certificate WHERE client = pc(1);
SELECT decide(pc(4), cert('of_other')), decide(pc(4), cert('of_other'), 'http');
-- Self-signed: registered, not registered, and of a known client.
SELECT decide(pc(3), cert('self'), 'http'), decide(pc(3), thumb('self'), 'enhanced_http'), decide(pc(3), cert('self'), 'https');
SELECT decide(pc(3), cert('self2'), 'http'), decide(pc(3), cert('self2'), 'https');

-- ---------- boot media, distribution points, ISV proxies ----------
SELECT decide(certificate => cert('media'), request => 'os_deployment'), decide(pc(99), cert('media'), request => 'os_deployment'), decide(pc(1), thumb('media'));
SELECT decide(certificate => cert('point'), request => 'content'), decide(pc(99), cert('point'));
SELECT decide(certificate => cert('proxy')), decide(pc(9), cert('proxy')), decide(pc(1), cert('proxy')), decide(pc(99), cert('proxy'));
SELECT cmblock.block_certificate(thumb('media')::cmblock.thumbprint, 'left in a train', 'INC-7');
SELECT cmblock.block_certificate(thumb('proxy')::cmblock.thumbprint);
SELECT decide(certificate => cert('media'), request => 'os_deployment'), decide(pc(99), thumb('media'), request => 'os_deployment');
SELECT decide(pc(9), cert('proxy')), decide(pc(9));
SELECT steady((cmblock.check_access(certificate => cert('media'))).detail);
SELECT cmblock.unblock_certificate(thumb('media')::cmblock.thumbprint);
SELECT decide(certificate => cert('media'), request => 'os_deployment');

-- ---------- blocked ----------
SELECT cmblock.block_client(pc(1), 'stolen', 'INC-1');
SELECT r, decide(pc(1), request => r) FROM unnest(enum_range(NULL::cmblock.request_kind)) r;
SELECT decide(certificate => cert('pc1')) AS by_certificate, decide(pc(1), cert('pc1')) AS both, decide(pc(2), cert('pc1')) AS under_another_name;
SELECT decide(pc(1), cert('renewed')) AS renewed, decide(pc(99), cert('renewed'), request => 'registration') AS new_name;
SELECT decide(pc(1), cert('media')) AS from_media;
SELECT decide(pc(2), hardware_id => 'board 1') AS its_board, decide(pc(2), hardware_id => 'board 2') AS own_board;
SET cmblock.rejoin_policy = refuse;
SELECT decide(pc(2), hardware_id => 'board 1') AS its_board, decide(pc(98), request => 'registration', transport => 'http', hardware_id => 'board 1') AS new_name;
RESET cmblock.rejoin_policy;
-- Rewritten by somebody who has only the blocked certificate.
SELECT cmblock.add_certificate_authority(cert('middle'), 'off') IS NOT NULL;
SELECT cmblock.register_certificate(cert('of_middle'), pc(6)) IS NOT NULL;
SELECT cmblock.block_certificate(thumb('of_middle')::cmblock.thumbprint);
SELECT decide(pc(6), cert('of_middle')), decide(pc(6), cert('rewritten')), decide(pc(2), cert('rewritten'));
-- All reasons, in order.
SELECT cmblock.block_client(pc(5));
SELECT cmblock.block_certificate(thumb('expired')::cmblock.thumbprint);
SELECT cmblock.remove_certificate_authority(thumb('root')::cmblock.thumbprint);
SELECT decide(pc(10), cert('expired'), hardware_id => 'board 1');
SELECT step, question, answer, reason, steady(detail) FROM cmblock.explain_access(pc(10), cert('expired'), hardware_id => 'board 1', at => '2026-06-01 00:00+00');
SELECT cmblock.add_certificate_authority(cert('root'), 'off') IS NOT NULL;

-- ---------- deleted, registering, approval ----------
SELECT cmblock.delete_client(pc(2));
SELECT cmblock.delete_client(pc(1));
SELECT decide(pc(2)), decide(certificate => cert('pc2')), decide(pc(2), cert('media'));
SELECT decide(pc(2), cert('pc2'), request => 'registration') AS deleted, decide(pc(1), cert('pc1'), request => 'registration') AS blocked;
SELECT decide(pc(99), cert('pc3'), request => 'registration') AS pki, decide(pc(99), cert('self2'), 'http', 'registration') AS self_signed,
       decide(pc(99), transport => 'http', request => 'registration') AS nothing;
SELECT decide(pc(99), cert('self2'), request => 'registration') AS https_self_signed, decide(pc(99), request => 'registration') AS https_nothing,
       decide(pc(99), cert('of_other'), 'http', 'registration') AS untrusted;
SELECT decide(certificate => cert('pc3'), request => 'registration') AS no_name, decide(request => 'registration') AS no_one;
SELECT decide(pc(10)), decide(pc(10), request => 'registration'), decide(pc(11));

-- ---------- revocation policies, while no CRL is there ----------
SELECT cmblock.add_certificate_authority(cert('root'), 'required') IS NOT NULL;
SELECT decide(pc(7), cert('plain')), decide(pc(7));
SELECT cmblock.add_certificate_authority(cert('root'), 'best_effort') IS NOT NULL;
SELECT decide(pc(7), cert('plain'));
-- The CA above counts, too.
SELECT cmblock.add_certificate_authority(cert('root'), 'required') IS NOT NULL;
SELECT answer, reason, detail FROM cmblock.explain_access(pc(6), cert('of_middle')) WHERE step IN (5, 6);
SELECT cmblock.add_certificate_authority(cert('root'), 'off') IS NOT NULL;

-- ---------- NULL is the default ----------
SELECT verdict(cmblock.check_access(pc(7), cert('self2'), NULL, NULL, NULL, NULL)) = verdict(cmblock.check_access(pc(7), cert('self2')));
SELECT decide(pc(7), hardware_id => '');

-- ---------- the three agree ----------
SELECT count(*) AS decisions, count(*) FILTER (WHERE NOT (d).allowed) > 100 AS many_refused,
       count(*) FILTER (WHERE (d).allowed <> allowed) AS is_allowed_differs,
       count(*) FILTER (WHERE (d).reasons <> coalesce(reasons, '{}')) AS explain_differs,
       count(*) FILTER (WHERE (d).allowed <> ((d).reason IS NULL) OR (d).reason IS DISTINCT FROM (d).reasons[1]) AS reason_differs,
       count(*) FILTER (WHERE (d).reason IS NOT NULL AND (d).detail IS NULL) AS no_detail, count(*) FILTER (WHERE steps <> 10) AS steps_missing
	FROM made_certificate, unnest('{1,3,6,10}'::integer[]) n, unnest(enum_range(NULL::cmblock.transport)) t, unnest('{policy,registration}'::cmblock.request_kind[]) r,
	     LATERAL (SELECT cmblock.check_access(pc(n), octets, t, r) AS d, cmblock.is_allowed(pc(n), octets, t, r) AS allowed) a,
	     LATERAL (SELECT array_agg(DISTINCT reason) IS NOT NULL AS any, count(DISTINCT step) AS steps,
	                     (SELECT array_agg(reason ORDER BY first) FROM (SELECT reason, min(place) AS first FROM unnest(array_agg(CASE answer WHEN 'refused' THEN reason END))
	                             WITH ORDINALITY u (reason, place) WHERE reason IS NOT NULL GROUP BY reason) f) AS reasons
	              FROM cmblock.explain_access(pc(n), octets, t, r)) e;

-- ---------- what a decision sees ----------
-- Its own transaction's changes, and no others'.
BEGIN;
SELECT cmblock.is_allowed(pc(8)), cmblock.block_client(pc(8));
SELECT cmblock.is_allowed(pc(8));
ROLLBACK;
SELECT cmblock.is_allowed(pc(8));
BEGIN;
SAVEPOINT s;
SELECT cmblock.block_client(pc(8));
ROLLBACK TO s;
SELECT cmblock.is_allowed(pc(8));
COMMIT;
-- Read only.
BEGIN READ ONLY;
SELECT decide(pc(8)), decide(certificate => cert('pc1'));
COMMIT;
-- In parallel workers.
CREATE TABLE request AS SELECT pc(n % 12) AS client, CASE n % 3 WHEN 0 THEN cert('pc3') WHEN 1 THEN thumb('pc1') END AS certificate FROM generate_series(1, 20000) n;
SELECT count(*) FILTER (WHERE cmblock.is_allowed(client, certificate)) AS allowed FROM request;
BEGIN;
SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0;
SET LOCAL min_parallel_table_scan_size = 0;
ALTER TABLE request SET (parallel_workers = 2);
EXPLAIN (COSTS OFF) SELECT count(*) FILTER (WHERE cmblock.is_allowed(client, certificate)) FROM request;
SELECT count(*) FILTER (WHERE cmblock.is_allowed(client, certificate)) AS allowed FROM request;
SELECT cmblock.block_client(pc(8));
SELECT count(*) FILTER (WHERE cmblock.is_allowed(client, certificate)) AS allowed_without_pc8 FROM request;
ROLLBACK;
SELECT count(*) FILTER (WHERE cmblock.is_allowed(client, certificate)) AS allowed FROM request;


-- ---------- indexes ----------
-- REINDEX CONCURRENTLY puts others under the names of those that the session has used.
SELECT cmblock.block_client(pc(8));
REINDEX SCHEMA CONCURRENTLY cmblock;
SELECT decide(pc(8)), decide(pc(12)), decide(pc(1), thumb('pc1'));
SELECT decide(pc(1), cert('pc1_renewed')), decide(pc(7), hardware_id => 'board 8');
-- One that may lack rows is no answer.
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'cmblock.client_blocked_hardware_id'::regclass;
SELECT try($$SELECT decide(pc(7), hardware_id => 'board 8')$$);
REINDEX INDEX cmblock.client_blocked_hardware_id;
SELECT decide(pc(7), hardware_id => 'board 8');
SELECT cmblock.unblock_client(pc(8));
SELECT intact FROM cmblock.verify_block_history();

-- ---------- who may ask ----------
CREATE ROLE regress_decision_user;
GRANT USAGE ON SCHEMA cmblock TO regress_decision_user;
GRANT SELECT ON made_certificate TO regress_decision_user;
SET ROLE regress_decision_user;
SELECT try('SELECT cmblock.is_allowed()'), try('SELECT cmblock.check_access()'), try('SELECT cmblock.explain_access()');
RESET ROLE;
SELECT cmblock.grant_privilege('regress_decision_user', 'site_system');
SET ROLE regress_decision_user;
SELECT decide(pc(7)), decide(pc(7), cert('plain'));
SELECT try('SELECT count(*) FROM cmblock.client');
RESET ROLE;
\c :start
DROP DATABASE regress_decision;
DROP ROLE regress_decision_user;
