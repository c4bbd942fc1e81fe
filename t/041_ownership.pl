# Who owns a client: hand-overs while sites are down, there and back, a site that is gone and whose clients are seized, and a central site
# that was set back to before a hand-over. A client never has two owners for long, and its block stands all the time.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockLinks;
use CmblockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils;
use File::Path;
use Test::More;

my %site = hierarchy('CEN', 'P01', 'P02', 'P03', 'S01');
my ($cen, $p01, $p02, $p03, $s01) = @site{qw(CEN P01 P02 P03 S01)};

sub id
{
	my ($n) = @_;

	return sprintf('%08d-0000-0000-0000-000000000000', $n);
}

sub wait_for_owner
{
	my ($node, $n, $owner, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return wait_until($node, "SELECT coalesce((SELECT assigned_site::text FROM cmblock.client WHERE smsid::uuid = '${\ id($n) }'), '-')", $name, $owner);
}

# Only the owner can change a client: each site is asked, and nothing is changed.
sub owners
{
	my ($n) = @_;

	return join ' ', grep
	{
		my (undef, undef, $error) = $site{$_}->psql('postgres', "\\set VERBOSITY verbose\nBEGIN; SELECT cmblock.block_client('${\ id($n) }', 'x'); ROLLBACK");
		$error !~ /ERROR:  55000: client GUID:\S+ is assigned to site \w+, and only that site can change it/;
	} sort keys %site;
}

my $events = "SELECT coalesce(string_agg(concat_ws(' ', substr(client::text, 13, 1), action, site, to_site), ', ' ORDER BY client, id), '') FROM cmblock.block_event WHERE action IN ('seized', 'conflict', 'recovered') AND client IS NOT NULL";

sql($p01, "SELECT cmblock.register_client(('0000000' || n || '-0000-0000-0000-000000000000')::uuid::cmblock.smsid, 'pc' || n) FROM generate_series(1, 9) n");
sql($p01, "SELECT cmblock.block_client('${\ id($_) }', 'stolen')") for 1, 2, 4;
wait_for_block($_, id(4), 1, 'the links work') for $s01, $p02, $p03;

# ---------- hand-overs, while one or the other is down ----------
$p02->stop;
sql($p01, "SELECT cmblock.reassign_client('${\ id(1) }', 'P02')");
sql_fails($p01, "SELECT cmblock.unblock_client('${\ id(1) }')", '55000', qr/is assigned to site P02, and only that site can change it/, 'the old owner cannot change it from then on');
sql_fails($p01, "SELECT cmblock.reassign_client('${\ id(1) }', 'P03')", '55000', qr/is assigned to site P02/, 'nor give it away again');
wait_for_owner($cen, 1, 'P02', 'the hand-over waits at the central site');
wait_for_owner($p03, 1, 'P02', 'the others know it');
sql_is($p03, "SELECT cmblock.is_allowed('${\ id(1) }')", 'f', 'blocked while it travels');
$p01->stop;
$p02->start;
wait_for_owner($p02, 1, 'P02', 'the new owner gets it, although the old one is down');
sql_is($p02, "SELECT blocked, block_reason FROM cmblock.client WHERE smsid::uuid = '${\ id(1) }'", 't|stolen', 'with its block');
sql_is($p02, "SELECT cmblock.unblock_client('${\ id(1) }')", 'unblocked', 'and can change it');
sql($p02, "SELECT cmblock.reassign_client('${\ id(1) }', 'P01')");
wait_for_owner($cen, 1, 'P01', 'given back to a site that is down');
$p01->start;
wait_for_owner($p01, 1, 'P01', 'it is there when the site is back');
wait_for_block($s01, id(1), 0, 'and the sites below know');
is(owners(1), 'P01', 'one owner');

# Twice in a row, with the site in the middle down at first, the last one down until the end.
$cen->stop;
sql($p01, "SELECT cmblock.reassign_client('${\ id(2) }', 'P02')");
$p03->stop;
$cen->start;
wait_for_owner($p02, 2, 'P02', 'the central site was down');
sql($p02, "SELECT cmblock.reassign_client('${\ id(2) }', 'P03')");
wait_for_owner($p01, 2, 'P03', 'given on');
$p03->start;
wait_for_owner($p03, 2, 'P03', 'twice in a row');
is(owners(2), 'P03', 'one owner');
sql_is($_, "SELECT cmblock.is_allowed('${\ id(2) }')", 'f', 'blocked at ' . $_->name) for values %site;
sql($p03, "SELECT cmblock.reassign_client('${\ id(2) }', 'P01')");
wait_for_owner($p01, 2, 'P01', 'and back');
is(owners(2), 'P01', 'one owner');
wait_for_equality(\%site, 'all sites have the same rows');

# ---------- a primary site that is gone for good ----------
my $pki = ca('Root');
my $media = leaf($pki, 'boot media');
sql($p01, "SELECT cmblock.register_certificate(${\ bytea($media) }, type => 'boot_media')");
wait_until($cen, 'SELECT count(*) FROM cmblock.certificate', 'the certificate is known', '1');
sql_fails($p02, "SELECT cmblock.seize_clients('P01', 'P02')", '55000', qr/only the central site can seize clients/, 'no other site seizes');
sql_fails($cen, "SELECT cmblock.seize_clients('P01', 'P01')", '22023', qr/from one site for another/, 'not for itself');
sql_fails($cen, "SELECT cmblock.seize_clients('P01', 'S01')", '22023', qr/cannot be assigned to site S01/, 'not for a secondary site');
sql_fails($cen, "SELECT cmblock.seize_clients('P01', 'P99')", '42704', qr/P99 is not in this hierarchy/, 'not for nobody');
sql_fails($cen, "SELECT cmblock.seize_clients('P01', 'P02')", '55000', qr/site P01 is connected.*force => true/s, 'not from a site that is there');

# P01 is cut off, and goes on working: 3 and 5 and the boot media are blocked, 4 unblocked, 6 deleted, 7 changed very often, 8 given away.
sql($cen, "ALTER ROLE p01_link NOLOGIN");
sql($p01, "ALTER ROLE cen_link NOLOGIN");
$p01->restart;
sql($p01, "SELECT cmblock.block_client('${\ id($_) }', 'cut off')") for 3, 5;
sql($p01, "SELECT cmblock.block_certificate('$media->{sha256}', 'cut off')");
sql($p01, "SELECT cmblock.unblock_client('${\ id(4) }')");
sql($p01, "SELECT cmblock.delete_client('${\ id(6) }')");
sql($p01, "DO \$\$ BEGIN FOR i IN 1..50 LOOP PERFORM cmblock.block_client('${\ id(7) }'); PERFORM cmblock.unblock_client('${\ id(7) }'); END LOOP; END \$\$");
sql($p01, "SELECT cmblock.reassign_client('${\ id(8) }', 'P03')");
wait_until($cen, "SELECT phase FROM cmblock.replication_status WHERE flow = 'send' AND neighbour = 'P01'", 'P01 is away', 'waiting to retry');

$cen->psql('postgres', "SELECT clients, certificates FROM cmblock.seize_clients('P01', 'P02', 'burnt down', 'CHG-7')", stdout => \my $seized, stderr => \my $warning);
is($seized, '9|1', 'all its clients and certificates are seized');
like($warning, qr/WARNING:  secondary sites below site P01 get nothing any more.*S01/s, 'its secondary sites are named');
sql_is($cen, "SELECT count(*), min(reason), min(ticket), min(site::text), min(to_site::text) FROM cmblock.block_event WHERE action = 'seized'",
	'10|burnt down|CHG-7|P01|P02', 'it is on record');
wait_for_owner($p02, $_, 'P02', "P02 has client $_") for 1 .. 9;
sql_is($p02, "SELECT blocked, block_reason FROM cmblock.client WHERE smsid::uuid = '${\ id(4) }'", 't|stolen', 'with the blocks');
# The new owner works with them.
sql($p02, "SELECT cmblock.unblock_client('${\ id(2) }')");
sql($p02, "SELECT cmblock.register_client('${\ id(3) }', 'new name')");
sql($p02, "SELECT cmblock.reassign_client('${\ id(9) }', 'P03')");

# P01 comes back. First only its own link works: it sends what it did, and nothing of it wins but the blocks.
sql($cen, "ALTER ROLE p01_link LOGIN");
wait_for_block($p02, id(3), 1, 'a block that the old site made meanwhile reaches the new owner');
wait_until($cen, "SELECT blocked::text FROM cmblock.certificate", 'that of the certificate as well', 'true');
sql_is($p02, "SELECT name, block_reason, assigned_site FROM cmblock.client WHERE smsid::uuid = '${\ id(3) }'", 'new name|cut off|P02', 'as the new owner has it otherwise');
wait_until($p01, "SELECT lag_rows FROM cmblock.replication_status WHERE neighbour = 'CEN' AND flow = 'send'", 'the link of the old site works', '0');
sql_is($p01, "SELECT state, last_error_sqlstate FROM cmblock.replication_status WHERE neighbour = 'CEN' AND flow = 'send' AND last_error LIKE '%authority%'", '', 'nothing of it is an error');
# Then it learns.
sql($p01, "ALTER ROLE cen_link LOGIN");
wait_for_owner($p01, $_, 'P02', "the old site learns of client $_") for 1 .. 8;
wait_for_owner($p01, 9, 'P03', 'and of what became of another');
is(owners($_), 'P02', "one owner of client $_") for 1 .. 8;
is(owners(9), 'P03', 'one owner of client 9');
sql_fails($p01, "SELECT cmblock.unblock_client('${\ id(3) }')", '55000', qr/assigned to site P02/, 'the old site cannot change it any more');
wait_for_equality(\%site, 'all sites have the same rows after a seizure');
sql_is($p02, "SELECT string_agg(name || ' ' || blocked || CASE WHEN deleted_at IS NULL THEN '' ELSE ' deleted' END, ', ' ORDER BY name) FROM cmblock.client",
	'new name true, pc1 false, pc2 false, pc4 true, pc5 true, pc6 false, pc7 false, pc8 false, pc9 false', 'what counts: the seizure, and the blocks');
sql_is($p02, $events, '3 conflict P02, 5 conflict P02', 'the new owner has the late blocks on record');
sql_like($cen, $events, qr/3 seized P01 P02, 3 conflict CEN P02, .*5 seized P01 P02, 5 conflict CEN P02, 6 seized P01 P02, 7/, 'so has the central site');
sql_like($p01, $events, qr/1 seized P01 P02, 2 seized P01 P02, .*9 seized P01 P03/, 'and the old site what it lost');
sql_is($_, 'SELECT intact FROM cmblock.verify_block_history()', 't', 'the history is intact at ' . $_->name) for $cen, $p01, $p02;

# The other way round: it learns first, and then sends its blocks.
sql($cen, "ALTER ROLE p01_link NOLOGIN");
sql($p01, "ALTER ROLE cen_link NOLOGIN");
sql($p01, "SELECT cmblock.register_client('${\ id($_ + 10) }', 'late$_') FROM generate_series(1, 1)") for 1 .. 2;
sql($cen, "ALTER ROLE p01_link LOGIN");
wait_for_owner($cen, 12, 'P01', 'new clients of the old site');
sql($cen, "ALTER ROLE p01_link NOLOGIN");
$p01->restart;
sql($p01, "SELECT cmblock.block_client('${\ id(11) }', 'cut off again')");
sql($cen, "SELECT cmblock.seize_clients('P01', 'P03', force => true)");
wait_for_owner($p03, 11, 'P03', 'seized again');
sql($p01, "ALTER ROLE cen_link LOGIN");
wait_for_owner($p01, 11, 'P03', 'it learns it');
sql_is($p01, "SELECT blocked, block_reason FROM cmblock.client WHERE smsid::uuid = '${\ id(11) }'", 't|cut off again', 'and keeps the block meanwhile');
sql($cen, "ALTER ROLE p01_link LOGIN");
wait_for_block($p03, id(11), 1, 'the block reaches the new owner this way, too');
wait_for_equality(\%site, 'all sites have the same rows again');
is(owners(11), 'P03', 'one owner');
sql_is($p03, "SELECT cmblock.unblock_client('${\ id(11) }')", 'unblocked', 'which can lift it');
wait_for_block($p01, id(11), 0, 'and does');

# ---------- a captured primary site ----------
# Its superuser writes what the guard would not let him. The neighbour refuses the batch; nobody else notices anything.
sub captured
{
	my ($statement) = @_;

	sql($p02, "ALTER TABLE cmblock.client DISABLE TRIGGER USER; $statement; ALTER TABLE cmblock.client ENABLE ALWAYS TRIGGER guard, ENABLE ALWAYS TRIGGER guard_truncate, ENABLE ALWAYS TRIGGER history");
	# Nobody woke the replicator.
	sql($p02, "SELECT cmblock.resume_link('CEN')");
	return;
}
my $forge = "origin_site = 'P02', change_xid = pg_current_xact_id()";
sql($p02, "SELECT cmblock.register_client('${\ id(20) }', 'of P02')");
sql($p03, "SELECT cmblock.register_client('${\ id(21) }', 'of P03')");
wait_until($_, 'SELECT count(*) FROM cmblock.client', 'all know them', '13') for $cen, $p02, $p03;
for my $case (
	[ 'a client of another site unblocked', id(21), "version = version + 1, blocked = false, $forge", qr/42501 site P02 has no authority over client GUID:00000021-.*assigned to site P03/ ],
	[ 'a client of another site taken', id(21), "version = version + 1, assigned_site = 'P02', $forge", qr/42501 site P02 has no authority over client GUID:00000021-.*assigned to site P03/ ],
	[ 'the largest version', id(20), "version = 9223372036854775807, $forge", qr/42501 site P02 has no authority over client GUID:00000020-.*cannot have come about/ ],
)
{
	my ($what, $id, $set, $error) = @$case;
	my $was = sql($p02, "SELECT format('version = %s, assigned_site = %L, blocked = %L, origin_site = %L', version, assigned_site, blocked, origin_site) FROM cmblock.client WHERE smsid::uuid = '$id'");

	captured("UPDATE cmblock.client SET $set WHERE smsid::uuid = '$id'; UPDATE cmblock.client SET name = '$what', version = version + 1, $forge WHERE smsid::uuid = '${\ id(3) }'");
	wait_until($p02, "SELECT last_error_sqlstate FROM cmblock.replication_link WHERE neighbour = 'CEN' AND failures > 1", "$what: refused", '42501');
	sql_like($p02, "SELECT concat_ws(' ', last_error_sqlstate, last_error) FROM cmblock.replication_link WHERE neighbour = 'CEN'", $error, "$what: the link says why");
	like(slurp_file($cen->logfile), qr/ERROR:  site P02 has no authority over client GUID:${\ substr($id, 0, 8) }-/, "$what: so does the receiver's log");
	sql_is($cen, "SELECT count(*) FROM cmblock.client WHERE name = '$what' OR version > 9223372036854775000", '0', "$what: nothing of the batch was taken in");
	# The other links work meanwhile, also that to the captured site.
	sql($p03, "SELECT cmblock.block_client('${\ id(9) }')");
	wait_for_block($_, id(9), 1, "$what: other links work") for $cen, $p01, $p02;
	sql($p03, "SELECT cmblock.unblock_client('${\ id(9) }')");
	captured("UPDATE cmblock.client SET $was WHERE smsid::uuid = '$id'");
	wait_until($cen, "SELECT count(*) FROM cmblock.client WHERE name = '$what'", "$what: set right, it goes on", '1');
}
wait_for_equality(\%site, 'all sites have the same rows');

# ---------- registered at two sites that knew nothing of each other ----------
sql($cen, 'ALTER ROLE p01_link NOLOGIN; ALTER ROLE p02_link NOLOGIN');
$_->restart for $p01, $p02;
sql($p01, "SELECT cmblock.register_client('${\ id($_) }', 'at P01')") for 30, 31;
sql($p02, "SELECT cmblock.register_client('${\ id($_) }', 'at P02')") for 30, 31;
sql($p02, "SELECT cmblock.block_client('${\ id(31) }', 'at P02')");
sql($cen, 'ALTER ROLE p01_link LOGIN');
wait_for_owner($cen, 31, 'P01', 'one is first');
sql($cen, 'ALTER ROLE p02_link LOGIN');
wait_for_owner($p02, $_, 'P01', 'the other one learns that client ' . ($_ - 29) . ' is not its own') for 30, 31;
wait_for_equality(\%site, 'all sites have the same rows');
is(owners($_), 'P01', 'one owner') for 30, 31;
sql_is($_, "SELECT string_agg(name || blocked, ' ') FROM cmblock.client WHERE smsid::uuid IN ('${\ id(30) }', '${\ id(31) }')", 'at P01false at P01false', 'its row counts') for $p01, $p02;
sql_is($cen, "SELECT count(*) FROM cmblock.block_event WHERE action = 'conflict' AND reason LIKE 'registered at site P02 as well%; blocked there'", '1', 'the block that does not count is on record at the central site');
sql_like($p02, "SELECT reason FROM cmblock.block_event WHERE action IN ('seized', 'conflict') AND client::uuid = '${\ id(31) }'", qr/central site/, 'and where it was made');
sql($p02, "SELECT cmblock.register_client('${\ id(32) }', 'later')");
wait_for_owner($cen, 32, 'P02', 'the link goes on');

# ---------- the central site was set back to before a hand-over and a seizure ----------
sql($p02, "SELECT cmblock.unblock_client('${\ id(5) }')");
wait_for_equality(\%site, 'all sites have the same rows before the backup');
$cen->stop;
$cen->backup_fs_cold('older');
$cen->start;
sql($p02, "SELECT cmblock.reassign_client('${\ id(5) }', 'P03')");
wait_for_owner($p03, 5, 'P03', 'a hand-over that the central site is going to lose');
sql($p03, "SELECT cmblock.block_client('${\ id(5) }', 'by the new owner')");
wait_for_block($p02, id(5), 1, 'with what came after it');
sql($p02, "SELECT cmblock.reassign_client('${\ id(6) }', 'P03')");
wait_for_owner($p03, 6, 'P03', 'one given away');
sql($p03, "SELECT cmblock.reassign_client('${\ id(6) }', 'P01')");
wait_for_owner($p01, 6, 'P01', 'and given on');
wait_for_owner($_, 6, 'P01', 'all know it') for $p02, $s01;
$cen->stop;
rmtree($cen->data_dir);
PostgreSQL::Test::RecursiveCopy::copypath($cen->backup_dir . '/older', $cen->data_dir);
chmod 0700, $cen->data_dir or die;
$cen->start;
wait_for_owner($cen, 5, 'P03', 'set back, the central site learns of the hand-over from the old owner');
wait_for_block($cen, id(5), 1, 'and takes the new owner\'s rows');
wait_for_owner($cen, 6, 'P01', 'of two in a row, too');
sql($p03, "SELECT cmblock.unblock_client('${\ id(5) }')");
wait_for_block($_, id(5), 0, 'what it changes goes through') for $cen, $p02, $s01;
sql($p01, "SELECT cmblock.block_client('${\ id(6) }')");
wait_for_block($_, id(6), 1, 'what the other one changes as well') for $cen, $p02;
is(owners(5), 'P03', 'one owner of client 5');
is(owners(6), 'P01', 'one owner of client 6');
wait_until($_, "SELECT bool_and(state = 'active' AND lag_rows = 0) FROM cmblock.replication_status WHERE flow = 'send'", 'all links work at ' . $_->name) for $cen, $p01, $p02, $p03;
sql($_, "SELECT cmblock.compare_site('CEN')") for $p01, $p02, $p03;
sql($cen, "SELECT cmblock.compare_site('$_')") for qw(P01 P02 P03);
wait_for_equality(\%site, 'all sites have the same rows in the end');

# ---------- the central site was set back to before a seizure ----------
sql($p01, "SELECT cmblock.register_client('${\ id(40) }', 'of P01'); SELECT cmblock.register_client('${\ id(41) }', 'of P01')");
wait_for_owner($_, 41, 'P01', 'all know them') for $cen, $p02, $p03, $s01;
$cen->stop;
$cen->backup_fs_cold('before seizure');
$cen->start;
$p01->stop;
sql($cen, "SELECT cmblock.seize_clients('P01', 'P02', force => true)");
wait_for_owner($p02, $_, 'P02', 'seized') for 40, 41;
sql($p02, "SELECT cmblock.register_client('${\ id(40) }', 'named by P02')");
sql($p02, "SELECT cmblock.block_client('${\ id(40) }', 'by the new owner')");
wait_for_block($p03, id(40), 1, 'and blocked');
$cen->stop;
rmtree($cen->data_dir);
PostgreSQL::Test::RecursiveCopy::copypath($cen->backup_dir . '/before seizure', $cen->data_dir);
chmod 0700, $cen->data_dir or die;
$cen->start;
wait_until($cen, 'SELECT restored_at IS NOT NULL FROM cmblock.this_site', 'the central site notices that it was set back');
wait_until($p02, "SELECT last_error_sqlstate FROM cmblock.replication_link WHERE neighbour = 'CEN' AND failures > 0", 'it does not know the new owner', '42501');
sql_fails($cen, "SELECT cmblock.seize_clients('P01', 'P02', force => true)", '55000', qr/was restored to an earlier state/, 'nothing is seized before it has compared with all');
sql($cen, 'SELECT cmblock.accept_restored_state()');
sql($cen, "SELECT cmblock.seize_clients('P01', 'P02', 'again', force => true)");
wait_until($_, "SELECT concat_ws(' ', assigned_site, name, blocked) FROM cmblock.client WHERE smsid::uuid = '${\ id(40) }'", 'seized again, what the new owner did stays, at ' . $_->name, 'P02 named by P02 t') for $p02, $cen, $p03;
wait_until($p02, "SELECT bool_and(state = 'active' AND lag_rows = 0) FROM cmblock.replication_status WHERE flow = 'send'", 'its link works');

# The old site is retired, and comes back all the same.
sql($cen, "SELECT cmblock.retire_site('S01'); SELECT cmblock.retire_site('P01')");
$p01->start;
wait_for_owner($p01, $_, 'P02', 'a retired site learns what happened') for 40, 41;
wait_until($p01, "SELECT retired_at IS NOT NULL FROM cmblock.site WHERE code::text = 'P01'", 'and that it is retired');
wait_until($p01, "SELECT last_error FROM cmblock.replication_link WHERE neighbour = 'CEN' AND failures > 0", 'nobody listens to it', 'site P01 is retired');
is(owners($_), 'P02', 'one owner') for 40, 41;
delete $site{S01};
delete $site{P01};
sql($_, "SELECT cmblock.compare_site('CEN')") for $p02, $p03;
wait_for_equality(\%site, 'all others have the same rows');
unlike(slurp_file($_->logfile), qr/terminated by signal|PANIC|exited with exit code 3/, 'nothing crashed at ' . $_->name) for $cen, $p01, $p02, $p03, $s01;

done_testing();
