# The cache of decisions: that it is used, and that no decision is ever older than a COMMIT that returned before it began.
# Each way in which rows change, each way in which a transaction ends, and what happens behind the guard's back.
#
# Sessions that stay are the point: what they or the shared memory remember must not count after it has become wrong.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockSession;
use CmblockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $p01 = new_site('p01', code => 'P01', kind => 'primary', conf => 'restart_after_crash = on');
my $root = ca('Root');
my $pc1 = leaf($root, 'pc1');
my @pc = map { sprintf("'%08d-0000-0000-0000-000000000000'", $_) } 0 .. 20;
my $by_certificate = "SELECT cmblock.is_allowed(certificate => '\\x$pc1->{sha256}')";

sub allowed
{
	return "SELECT cmblock.is_allowed($pc[shift()])";
}


sql($p01, "SELECT cmblock.register_client($pc[$_], 'pc$_', hardware_id => 'HW$_')") foreach 0 .. 12;
sql($p01, "SELECT cmblock.add_certificate_authority(${\ bytea($root) })");
sql($p01, "SELECT cmblock.import_crl(${\ bytea(crl($root, number => 1)) })");
sql($p01, "SELECT cmblock.register_certificate(${\ bytea($pc1) }, $pc[1])");

my $decider = session($p01);
my $other = session($p01);
my $administrator = session($p01);

# What a query returns, and whether it was answered from the cache alone: "t cache", "f table".
sub decide
{
	my ($session, $query) = @_;
	my @before = split(/\|/, ask($session, 'SELECT from_cache, rows_read, from_tables FROM cmblock.decision_cache()'));
	my $answer = ask($session, $query);
	my @after = split(/\|/, ask($session, 'SELECT from_cache, rows_read, from_tables FROM cmblock.decision_cache()'));
	my $how =
	    $after[2] > $before[2] ? 'table'
	  : $after[1] > $before[1] ? 'read'
	  : $after[0] > $before[0] ? 'cache'
	  : 'nothing';

	return "$answer $how";
}

sub state_is
{
	my ($session, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return like(ask($session, 'SELECT state FROM cmblock.decision_cache()'), $expected, $name);
}

# The second time it comes from the cache, in whatever session.
sub warm
{
	my ($query, $answer, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	ask($other, $query);
	is(decide($decider, $query), "$answer cache", $name);
	return;
}

# ---------- it is used ----------
state_is($decider, qr/^on$/, 'the cache is in use');
is(decide($decider, allowed(1)), 't read', 'the first decision reads the row');
is(decide($decider, allowed(1)), 't cache', 'the next does not');
is(decide($other, allowed(1)), 't cache', 'nor does that of another session');
is(decide($decider, $by_certificate), 't read', 'a certificate is judged once');
is(decide($other, $by_certificate), 't cache', 'for all sessions');
is(decide($other, "SELECT allowed, reasons, assurance, client, site, assigned_site, detail, warnings FROM cmblock.check_access($pc[1], ${\ bytea($pc1) }, 'https')"),
	't|{}|full|GUID:00000001-0000-0000-0000-000000000000|P01|P01||{} cache', 'also when it comes as DER');
is(decide($decider, "SELECT cmblock.is_allowed($pc[20])"), 'f table', 'a stranger is not remembered');
is(decide($decider, "SELECT cmblock.is_allowed($pc[20])"), 'f table', 'however often it comes');
is(decide($decider, "SELECT cmblock.is_allowed($pc[1], request => 'registration')"), 't table', 'a registration is asked in full');

# ---------- block, unblock ----------
ask($administrator, "SELECT cmblock.block_client($pc[1])");
is(decide($decider, allowed(1)), 'f read', 'a block is seen');
is(decide($other, allowed(1)), 'f cache', 'by each session');
like(decide($decider, $by_certificate), qr/^f /, 'and with the certificate');
is(ask($decider, "SELECT reasons FROM cmblock.check_access($pc[1])"), '{client_blocked}', 'the reasons are the tables\'');
ask($administrator, "SELECT cmblock.unblock_client($pc[1])");
is(decide($decider, allowed(1)), 't read', 'and so is its end');
ask($decider, $by_certificate);
ask($administrator, "SELECT cmblock.block_certificate('$pc1->{sha256}')");
is(ask($decider, $by_certificate), 'f', 'the block of a certificate');
ask($administrator, "SELECT cmblock.unblock_certificate('$pc1->{sha256}')");
is(ask($decider, $by_certificate), 't', 'and its end');
ask($administrator, "SELECT outcome FROM cmblock.block_clients(ARRAY[$pc[2], $pc[3]]::cmblock.smsid[])");
is(ask($decider, allowed(2)) . ask($decider, allowed(3)), 'ff', 'a bulk block');
ask($administrator, "SELECT outcome FROM cmblock.block_clients(ARRAY[$pc[2], $pc[3]]::cmblock.smsid[], false)");
warm(allowed(2), 't', 'and its end');
ask($administrator, "SELECT cmblock.delete_client($pc[12])");
is(ask($decider, allowed(12)), 'f', 'a deletion');

# ---------- a transaction sees its own changes, nobody sees those of others before COMMIT ----------
warm(allowed(2), 't', 'a client in the cache');
ask($administrator, 'BEGIN');
ask($administrator, "SELECT cmblock.block_client($pc[2])");
is(decide($administrator, allowed(2)), 'f table', 'its own block');
is(decide($decider, allowed(2)), 't table', 'another session reads what is committed');
ask($administrator, 'SAVEPOINT s');
ask($administrator, "SELECT cmblock.unblock_client($pc[2])");
is(decide($administrator, allowed(2)), 't table', 'its own end of a block');
ask($administrator, 'ROLLBACK TO s');
is(decide($administrator, allowed(2)), 'f table', 'rolled back to a savepoint');
ask($administrator, 'COMMIT');
is(decide($decider, allowed(2)), 'f read', 'COMMIT makes it so');
is(decide($administrator, allowed(2)), 'f cache', 'for all');
ask($administrator, "BEGIN; SELECT cmblock.unblock_client($pc[2])");
ask($administrator, 'ROLLBACK');
is(decide($decider, allowed(2)), 'f read', 'what was rolled back never was');
ask($administrator, "BEGIN; SAVEPOINT s; SELECT cmblock.unblock_client($pc[2])");
ask($administrator, 'ROLLBACK TO s');
ask($administrator, 'COMMIT');
is(ask($decider, allowed(2)), 'f', 'nor what a savepoint took back');
ask($administrator, "SELECT cmblock.unblock_client($pc[2])");

# An error, and an end of the session in the middle.
ask($administrator, "DO \$\$ BEGIN PERFORM cmblock.block_client($pc[2]); RAISE 'no'; END \$\$");
warm(allowed(2), 't', 'an error leaves nothing behind');
my $leaver = session($p01);
ask($leaver, "BEGIN; SELECT cmblock.block_client($pc[2])");
is(decide($decider, allowed(2)), 't table', 'a bucket in use');
sql($p01, "SELECT pg_terminate_backend($leaver->{pid}, 10000)");
warm(allowed(2), 't', 'a session that is ended gives its buckets back');
leave($leaver);

# A snapshot from before does not matter.
ask($decider, 'BEGIN ISOLATION LEVEL REPEATABLE READ');
is(ask($decider, allowed(2)), 't', 'in REPEATABLE READ');
ask($administrator, "SELECT cmblock.block_client($pc[2])");
is(ask($decider, allowed(2)), 'f', 'decisions are newer than the snapshot');
is(ask($decider, "SELECT blocked FROM cmblock.client WHERE smsid = $pc[2]"), 'f', 'which does not see the block');
ask($decider, 'COMMIT');
ask($administrator, "SELECT cmblock.unblock_client($pc[2])");

# ---------- hardware ids ----------
ask($administrator, "SELECT cmblock.register_client($pc[13], 'pc13', hardware_id => 'HW7')");
my $warnings = "SELECT warnings FROM cmblock.check_access($pc[13])";
warm($warnings, '{}', 'no blocked hardware');
ask($administrator, "SELECT cmblock.block_client($pc[7])");
is(ask($decider, $warnings), '{hardware_blocked}', 'that of a blocked client');
is(ask($decider, "SELECT warnings FROM cmblock.check_access($pc[4], hardware_id => 'HW7')"), '{hardware_blocked}', 'given in the request');
is(ask($decider, "SET cmblock.rejoin_policy = refuse; SELECT cmblock.is_allowed($pc[13])"), 'f', 'refuses where it has to');
ask($decider, 'RESET cmblock.rejoin_policy');
ask($administrator, "SELECT cmblock.unblock_client($pc[7])");
is(ask($decider, $warnings), '{}', 'and not any more');

# ---------- trust list and CRLs ----------
warm($by_certificate, 't', 'a certificate in the cache');
ask($administrator, "SELECT cmblock.import_crl(${\ bytea(crl($root, number => 2, revoked => [$pc1])) })");
is(ask($decider, $by_certificate), 'f', 'a CRL revokes it');
is(ask($decider, "SELECT reasons FROM cmblock.check_access(certificate => '\\x$pc1->{sha256}')"), '{certificate_revoked}', 'for that reason');
ask($administrator, "SELECT cmblock.import_crl(${\ bytea(crl($root, number => 3)) })");
warm($by_certificate, 't', 'a newer CRL does not');
is(ask($decider, "SELECT cmblock.is_allowed(certificate => '\\x$pc1->{sha256}', at => now() + interval '3 years')"), 'f', 'at another time it is another answer');
is(ask($decider, "SELECT cmblock.is_allowed(certificate => '\\x$pc1->{sha256}', at => now() - interval '1 year')"), 'f', 'and at another');
is(ask($decider, $by_certificate), 't', 'and now still the same');
ask($administrator, 'BEGIN; DELETE FROM cmblock.certificate_authority');
is(ask($administrator, $by_certificate), 'f', 'a transaction that changed the trust list sees that');
is(ask($decider, $by_certificate), 't', 'nobody else does');
ask($administrator, 'ROLLBACK');
is(ask($administrator, $by_certificate), 't', 'nor anybody after its rollback');
is(ask($decider, $by_certificate), 't', 'wherever');
ask($administrator, 'DELETE FROM cmblock.certificate_authority');
is(ask($decider, $by_certificate), 'f', 'once committed all do');
ask($administrator, "SELECT cmblock.add_certificate_authority(${\ bytea($root) })");
warm($by_certificate, 't', 'and it comes back');

# ---------- prepared transactions ----------
warm(allowed(3), 't', 'a client in the cache');
ask($administrator, "BEGIN; SELECT cmblock.block_client($pc[3])");
ask($administrator, "PREPARE TRANSACTION 'block'");
is(decide($decider, allowed(3)), 't table', 'prepared is not committed');
is(decide($decider, allowed(4)), 't table', 'the whole cache waits');
state_is($decider, qr/prepared transaction/, 'and says why');
state_is($administrator, qr/prepared transaction/, 'also where it was prepared');
ask($other, "COMMIT PREPARED 'block'");
is(decide($decider, allowed(3)), 'f read', 'committed by another session');
state_is($administrator, qr/^on$/, 'and all is as before');
ask($administrator, "BEGIN; SELECT cmblock.unblock_client($pc[3])");
ask($administrator, "PREPARE TRANSACTION 'unblock'");
is(ask($decider, allowed(3)), 'f', 'prepared to unblock');
ask($other, "ROLLBACK PREPARED 'unblock'");
is(decide($decider, allowed(3)), 'f read', 'and rolled back');
ask($administrator, "BEGIN; CREATE TABLE elsewhere ()");
ask($administrator, "PREPARE TRANSACTION 'elsewhere'");
is(decide($other, allowed(3)), 'f cache', 'prepared transactions of others do not matter');
ask($administrator, "ROLLBACK PREPARED 'elsewhere'");
ask($administrator, "SELECT cmblock.unblock_client($pc[3])");

# ---------- the same answer as the tables' ----------
# Every kind of client with every kind of certificate, transport and request: explain_access never uses the cache.
sql($p01, "SELECT cmblock.register_client(lpad(n::text, 32, '7')::uuid::cmblock.smsid, 'kind' || n, isv_proxied => n = 5, approval => (CASE n WHEN 6 THEN 0 ELSE 2 END)::smallint, hardware_id => CASE WHEN n < 9 THEN 'KIND' END,"
	  . " kind => CASE n WHEN 4 THEN 'mobile_device' ELSE 'computer' END::cmblock.client_kind) FROM generate_series(1, 9) n");
my $kind = sub { "lpad('$_[0]', 32, '7')::uuid::cmblock.smsid" };
my $self = leaf(undef, 'self');
my $stranger = leaf($root, 'stranger');
my $nobody = ca('Nobody');
my @shown;

foreach my $made (
	[ leaf($root, 'kind1'), 1 ], [ leaf($root, 'kind2'), 2 ], [ leaf($root, 'kind3'), 3 ], [ leaf($root, 'kind4'), 4 ], [ $self, 7 ],
	[ leaf($nobody, 'kind8'), 8 ], [ leaf($root, 'old', not_before => time - 9000, not_after => time - 5000), 6 ], [ leaf($root, 'blocked'), 9 ],
	[ leaf($root, 'media'), undef, 'boot_media' ], [ leaf($root, 'proxy'), undef, 'isv_proxy' ])
{
	my ($certificate, $n, $type) = @$made;

	sql($p01, "SELECT cmblock.register_certificate(${\ bytea($certificate) }, ${\ (defined $n ? $kind->($n) : 'NULL') }, '${\ ($type // 'client') }')");
	push @shown, $certificate;
}
sql($p01, "SELECT cmblock.block_client(${\ $kind->(2) }), cmblock.delete_client(${\ $kind->(3) }), cmblock.delete_client(${\ $kind->(4) }), cmblock.block_certificate('$shown[7]{sha256}')");
my $compare = "WITH asked AS MATERIALIZED (SELECT client, certificate, transport, request, given, at,
		cmblock.is_allowed(client, certificate, transport, request, given, at) AS quick,
		cmblock.check_access(client, certificate, transport, request, given, at) AS checked,
		(SELECT array_agg(DISTINCT e.reason) FILTER (WHERE e.answer = 'refused') FROM cmblock.explain_access(client, certificate, transport, request, given, at) e) AS refused,
		(SELECT array_agg(DISTINCT e.reason) FILTER (WHERE e.answer = 'noted') FROM cmblock.explain_access(client, certificate, transport, request, given, at) e) AS noted
	FROM (SELECT NULL UNION ALL SELECT lpad(n::text, 32, '7')::uuid::cmblock.smsid FROM generate_series(1, 10) n) c (client),
		(SELECT NULL UNION ALL SELECT sha256::bytea FROM cmblock.certificate UNION ALL SELECT der FROM cmblock.certificate
		 UNION ALL SELECT ${\ bytea($stranger) } UNION ALL SELECT '\\x1234'::bytea) x (certificate),
		unnest(enum_range(NULL::cmblock.transport)) transport, unnest(ARRAY['policy', 'registration']::cmblock.request_kind[]) request,
		(VALUES (NULL), ('KIND')) h (given), (VALUES (now()), (now() + interval '2 years')) t (at))
	SELECT count(*) FILTER (WHERE quick IS DISTINCT FROM (refused IS NULL) OR (checked).allowed IS DISTINCT FROM (refused IS NULL)
			OR NOT ((checked).reasons @> coalesce(refused, '{}') AND coalesce(refused, '{}') @> (checked).reasons)
			OR NOT ((checked).warnings @> coalesce(noted, '{}') AND coalesce(noted, '{}') @> (checked).warnings)),
		count(*) FILTER (WHERE quick) > 20, count(*) FILTER (WHERE NOT quick) > 100 FROM asked";
foreach my $policy ('report', 'refuse')
{
	foreach my $round (1, 2)
	{
		is(ask($decider, "SET cmblock.rejoin_policy = $policy; $compare"), '0|t|t', "the answers are the tables', with rejoin_policy $policy");
	}
}
ask($decider, 'RESET cmblock.rejoin_policy');
cmp_ok(ask($decider, 'SELECT from_cache FROM cmblock.decision_cache()'), '>', 1000, 'many were from the cache');

# ---------- behind the guard's back ----------
my $disable = 'ALTER TABLE cmblock.client DISABLE TRIGGER guard, DISABLE TRIGGER history';
my $enable = 'ALTER TABLE cmblock.client ENABLE ALWAYS TRIGGER guard, ENABLE ALWAYS TRIGGER history';

sub set_block
{
	my ($n, $blocked) = @_;

	return "UPDATE cmblock.client SET blocked = $blocked, block_changed_at = now() WHERE smsid = $pc[$n]";
}

warm(allowed(4), 't', 'a client in the cache');
my $pooled = session($p01);    # says nothing until it is asked
ask($pooled, allowed(4));
ask($administrator, "BEGIN; $disable; ${\ set_block(4, 'true') }; $enable; COMMIT");
is(ask($pooled, allowed(4)), 'f', 'disabled, blocked and enabled in one transaction');
is(ask($decider, allowed(4)), 'f', 'for every session');
ask($administrator, "BEGIN; $disable; ${\ set_block(4, 'false') }; $enable");
is(decide($administrator, allowed(4)), 't table', 'such a transaction sees it');
is(ask($pooled, allowed(4)), 'f', 'another does not');
ask($administrator, 'ROLLBACK');
is(ask($administrator, allowed(4)) . ask($pooled, allowed(4)), 'ff', 'after ROLLBACK nobody does');
ask($administrator, $disable);
state_is($decider, qr/the trigger guard does not stand/, 'without the guard the cache is off');
is(decide($pooled, allowed(4)), 'f table', 'in every session');
ask($administrator, set_block(4, 'false'));
is(ask($pooled, allowed(4)) . ask($decider, allowed(4)), 'tt', 'and what changes is seen');
ask($administrator, 'ALTER TABLE cmblock.client ENABLE TRIGGER guard');
state_is($decider, qr/does not stand/, 'a guard that session_replication_role can switch off is none');
ask($administrator, $enable);
ask($pooled, allowed(4));
is(decide($decider, allowed(4)), 't cache', 'with the guard it is on');
ask($administrator, "CREATE FUNCTION other_key() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER later BEFORE UPDATE ON cmblock.client FOR EACH ROW EXECUTE FUNCTION other_key()");
state_is($decider, qr/does not stand/, 'another trigger could change the row after the guard');
ask($administrator, 'DROP FUNCTION other_key CASCADE');
state_is($decider, qr/^on$/, 'it is gone');
ask($administrator, "BEGIN; CREATE OR REPLACE FUNCTION cmblock.guard_row() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; ${\ set_block(4, 'true') }; COMMIT");
state_is($decider, qr/does not stand/, 'the function of the guard was replaced');
is(ask($pooled, allowed(4)), 'f', 'and what it let through is seen');
ask($administrator, set_block(4, 'false'));
ask($administrator, "CREATE OR REPLACE FUNCTION cmblock.guard_row() RETURNS trigger AS 'cmblock', 'cmblock_guard_row' LANGUAGE C");
is(ask($pooled, allowed(4)) . ask($pooled, allowed(4)), 'tt', 'and restored');
warm(allowed(5), 't', 'a client in the cache');
ask($decider, allowed(11));
ask($administrator, 'SET cmblock.restore = on');
ask($administrator, set_block(5, 'true'));
is(ask($decider, allowed(5)), 'f', 'a restore passes the guard');
ask($administrator, set_block(5, 'false'));
ask($administrator, "DELETE FROM cmblock.client WHERE smsid = $pc[11]");
is(ask($decider, allowed(11)), 'f', 'a row that was deleted');
ask($administrator, 'RESET cmblock.restore');
ask($administrator, "VACUUM FULL cmblock.client");
warm(allowed(6), 't', 'a table that was rewritten');
ask($administrator, "BEGIN; ALTER TABLE cmblock.client DISABLE TRIGGER guard_truncate; TRUNCATE cmblock.client; ALTER TABLE cmblock.client ENABLE ALWAYS TRIGGER guard_truncate");
is(ask($administrator, allowed(6)), 'f', 'TRUNCATE, in its transaction');
ask($administrator, 'ROLLBACK');
is(ask($administrator, allowed(6)) . ask($pooled, allowed(6)), 'tt', 'rolled back');
ask($administrator, "CREATE TABLE saved AS SELECT * FROM cmblock.client");
ask($administrator, "BEGIN; ALTER TABLE cmblock.client DISABLE TRIGGER guard_truncate; TRUNCATE cmblock.client; ALTER TABLE cmblock.client ENABLE ALWAYS TRIGGER guard_truncate; COMMIT");
is(ask($pooled, allowed(6)) . ask($decider, allowed(6)), 'ff', 'and committed');
ask($administrator, 'SET cmblock.restore = on; INSERT INTO cmblock.client SELECT * FROM saved; RESET cmblock.restore');
is(ask($pooled, allowed(6)), 't', 'and filled again');

# ---------- many rows at once ----------
sql($p01, "SET cmblock.restore = on; INSERT INTO cmblock.client (smsid, name, kind, assigned_site, approval, isv_proxied, registered_at, blocked, version, origin_site, change_xid, changed_by, changed_at)"
	  . " SELECT gen_random_uuid(), 'many', 'computer', 'P01', 2, false, now(), false, 1, 'P01', '1', 'x', now() FROM generate_series(1, 200000)");
ask($other, allowed($_)) foreach 6 .. 9;
ask($administrator, "SET cmblock.restore = on; BEGIN; UPDATE cmblock.client SET block_reason = 'x' WHERE name = 'many'");
is(decide($decider, allowed(6)), 't table', 'a transaction that changes very many rows puts the cache out of use');
ask($administrator, set_block(6, 'true'));
is(decide($decider, allowed(6)), 't table', 'until it has ended');
ask($administrator, 'COMMIT; RESET cmblock.restore');
is(decide($decider, allowed(6)), 'f read', 'and it is empty then');
is(decide($decider, allowed(7)), 't read', 'for all');
ask($administrator, "SELECT cmblock.unblock_client($pc[6])");

# ---------- no more than it may be, and no less ----------
is(ask($decider, "SELECT size FROM cmblock.decision_cache()"), 64 * 1024 * 1024, 'its size is the setting\'s');
is(ask($decider, "SELECT count(*) FROM pg_shmem_allocations WHERE name = 'cmblock decisions' AND size BETWEEN 60 << 20 AND 65 << 20"), '1', 'and it takes no more');

leave($decider, $other, $administrator, $pooled);

# ---------- crash, restart ----------
$decider = session($p01);
$other = session($p01);
$administrator = session($p01);
warm(allowed(8), 't', 'a client in the cache');
ask($administrator, "SELECT cmblock.block_client($pc[9])");
ask($administrator, "BEGIN; SELECT cmblock.block_client($pc[8])");
ask($administrator, "PREPARE TRANSACTION 'over'");
leave($decider, $other, $administrator);
$p01->restart;
$decider = session($p01);
$other = session($p01);
is(ask($decider, allowed(9)), 'f', 'a restart forgets nothing that matters');
is(decide($decider, allowed(8)), 't table', 'a prepared transaction from before the restart');
state_is($decider, qr/prepared transaction/, 'keeps the cache from being used');
ask($other, "COMMIT PREPARED 'over'");
is(decide($decider, allowed(8)), 'f read', 'until it is committed');

my $victim = session($p01);
ask($victim, "BEGIN; SELECT cmblock.unblock_client($pc[9])");
kill 'KILL', $victim->{pid};
leave($victim);
ok($p01->poll_query_until('postgres', 'SELECT 1', '1'), 'a backend is killed, the server recovers');
leave($decider, $other);
$decider = session($p01);
$other = session($p01);
is(ask($decider, allowed(9)), 'f', 'its change never was');
warm(allowed(10), 't', 'and the cache is in use again');

# ---------- DROP and CREATE EXTENSION ----------
$administrator = session($p01);
$pooled = session($p01);
ask($pooled, allowed(10));
ask($administrator, 'DROP EXTENSION cmblock CASCADE; CREATE EXTENSION cmblock');
is(ask($pooled, allowed(10)), 'f', 'another extension, another site');
ask($administrator, "SELECT cmblock.setup_site('P02', 'primary')");
ask($administrator, "SELECT cmblock.register_client($pc[10], 'pc10', approval => 0::smallint)");
is(ask($pooled, allowed(10)) . ask($decider, allowed(10)), 'ff', 'with the same client');
ask($administrator, "UPDATE cmblock.client SET approval = 1");
warm(allowed(10), 't', 'that is approved now');

# Another database with the same client.
$p01->safe_psql('postgres', 'CREATE DATABASE second');
$p01->safe_psql('second', "CREATE EXTENSION cmblock; SELECT cmblock.setup_site('P03', 'primary'), cmblock.register_client($pc[10], 'pc10')");
ask($administrator, "SELECT cmblock.block_client($pc[10])");
my $second = session($p01, 'second');
is(ask($decider, allowed(10)) . ask($second, allowed(10)) . ask($decider, allowed(10)) . ask($second, allowed(10)),
	'ftft', 'each database has its own answer');
leave($second, $pooled, $decider, $other, $administrator);
$p01->safe_psql('postgres', "SELECT cmblock.unblock_client($pc[10])");

# ---------- standby and promotion ----------
$p01->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($p01, 'copy', has_streaming => 1);
$standby->start;
$p01->append_conf('postgresql.conf', "synchronous_standby_names = '*'\nsynchronous_commit = remote_apply");
$p01->reload;
wait_until($p01, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'", 'the standby is synchronous', '1');
$decider = session($standby);
state_is($decider, qr/standby/, 'on a standby the cache is off');
is(decide($decider, allowed(10)), 't table', 'it reads the tables');
sql($p01, "SELECT cmblock.block_client($pc[10])");
is(decide($decider, allowed(10)), 'f table', 'and sees a block when it is replayed');
sql($p01, "BEGIN; SELECT cmblock.unblock_client($pc[10]); PREPARE TRANSACTION 'left'");
sql($p01, "SELECT cmblock.register_client($pc[11], 'pc11')");
$p01->stop('immediate');
$standby->promote;
is(decide($decider, allowed(11)), 't table', 'promoted, with a prepared transaction');
sql($standby, "COMMIT PREPARED 'left'");
is(decide($decider, allowed(10)), 't read', 'that is committed: the cache is used, by the session from before');
is(decide($decider, allowed(10)), 't cache', 'too');
sql($standby, "SELECT cmblock.block_client($pc[10])");
is(ask($decider, allowed(10)), 'f', 'and sees a block');
leave($decider);
$standby->stop;

# ---------- without it ----------
my $off = new_site('off', code => 'P01', kind => 'primary', conf => 'cmblock.decision_cache_size = 0');
sql_is($off, 'SELECT state, size FROM cmblock.decision_cache()', 'off: cmblock.decision_cache_size is 0|0', 'switched off');
sql_ok($off, "SELECT cmblock.register_client($pc[1], 'pc1'), cmblock.block_client($pc[1])", 'all goes on');
sql_is($off, allowed(1), 'f', 'as it should');
$off->stop;
my $plain = new_site('plain', preload => 0, code => 'P01', kind => 'primary');
sql_like($plain, 'SELECT state FROM cmblock.decision_cache()', qr/not in shared_preload_libraries/, 'not preloaded');
sql_ok($plain, "SELECT cmblock.register_client($pc[1], 'pc1'), cmblock.block_client($pc[1])", 'all goes on');
sql_is($plain, allowed(1), 'f', 'as it should');

done_testing();
