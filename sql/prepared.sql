-- The block history and prepared transactions. With max_prepared_transactions = 0 all of it is refused, and
-- expected/prepared_1.out has that.
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
SELECT current_database() AS start, current_user AS starter \gset
CREATE DATABASE regress_prepared TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C';
\c regress_prepared
CREATE EXTENSION cmblock;
SET search_path = public, cmblock;
SELECT setup_site('P01', 'primary');
SELECT register_client('00000000-0000-0000-0000-000000000001', 'pc1'), register_client('00000000-0000-0000-0000-000000000002', 'pc2');

BEGIN;
SELECT block_client('00000000-0000-0000-0000-000000000001', 'prepared');
PREPARE TRANSACTION 'regress_prepared';
-- Not yet in force, and not yet in the history.
SELECT blocked FROM client ORDER BY smsid;
SELECT count(*) FROM block_event;
-- It keeps its place in the line until it ends: nobody else can record meanwhile.
SET lock_timeout = '10ms';
SELECT block_client('00000000-0000-0000-0000-000000000002', 'behind it');
RESET lock_timeout;
COMMIT PREPARED 'regress_prepared';
SELECT blocked FROM client ORDER BY smsid;
SELECT block_client('00000000-0000-0000-0000-000000000002', 'after it');
BEGIN;
SELECT unblock_client('00000000-0000-0000-0000-000000000001', 'prepared in vain');
PREPARE TRANSACTION 'regress_prepared';
ROLLBACK PREPARED 'regress_prepared';
SELECT delete_client('00000000-0000-0000-0000-000000000001');
SELECT id, action, reason FROM block_event ORDER BY id;
SELECT intact, events FROM verify_block_history();
-- A set-up that is prepared is not believed before its time either.
DROP EXTENSION cmblock;
CREATE EXTENSION cmblock;
BEGIN;
SELECT setup_site('P02', 'primary');
PREPARE TRANSACTION 'regress_prepared';
SELECT register_client('00000000-0000-0000-0000-000000000001', 'pc1');
COMMIT PREPARED 'regress_prepared';
SELECT register_client('00000000-0000-0000-0000-000000000001', 'pc1');
SELECT assigned_site FROM client;

\c :start :starter
DROP DATABASE regress_prepared;
