# Four sites: a block made at one is in force at all, and so is the unblock. Who may block, and who not. What the links say
# of themselves. The feeds that lose changes, shown not to be this one.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockLinks;
use CmblockSession;
use CmblockTest;
use PostgreSQL::Test::Utils;
use Test::More;

my %site = hierarchy('CEN', 'P01', 'P02', 'S01');
my ($cen, $p01, $p02, $s01) = @site{qw(CEN P01 P02 S01)};
my $pc1 = '11111111-1111-1111-1111-111111111111';
my $pc2 = '22222222-2222-2222-2222-222222222222';

sub client
{
	my ($n) = @_;

	return sprintf('%08d-0000-0000-0000-000000000000', $n);
}

# ---------- the tree ----------
for my $code (sort keys %site)
{
	wait_until($site{$code}, 'SELECT string_agg(code::text, \',\' ORDER BY code) FROM cmblock.site WHERE version > 0',
		"$code knows all sites", 'CEN,P01,P02,S01');
}

# ---------- a block ----------
sql($p01, "SELECT cmblock.register_client('$pc1', 'pc1')");
wait_for_block($_->[1], $pc1, 0, "a client registered at P01 is known at $_->[0]") for [ CEN => $cen ], [ P02 => $p02 ], [ S01 => $s01 ];
sql_is($s01, "SELECT cmblock.is_allowed('$pc1')", 't', 'S01 lets it in');

sql($p01, "SELECT cmblock.block_client('$pc1', 'stolen', 'INC-7')");
sql_is($p01, "SELECT cmblock.is_allowed('$pc1')", 'f', 'blocked at P01, P01 refuses it at once');
for my $code (qw(CEN P02 S01))
{
	wait_for_block($site{$code}, $pc1, 1, "$code learns of it");
	sql_is($site{$code}, "SELECT cmblock.is_allowed('$pc1')", 'f', "$code refuses it");
	sql_is($site{$code}, "SELECT concat_ws(' ', block_reason, block_ticket, block_changed_by, origin_site, version) FROM cmblock.client",
		'stolen INC-7 postgres P01 2', "$code knows by whom and why");
}
for my $code (qw(CEN P02 S01))
{
	sql_fails($site{$code}, "SELECT cmblock.unblock_client('$pc1')", '55000', qr/P01/, "$code cannot unblock it and names P01");
}
sql_is($s01, 'SELECT count(*) FROM cmblock.block_event', '0', 'the history is where the block was made');

sql($p01, "SELECT cmblock.unblock_client('$pc1')");
wait_for_block($site{$_}, $pc1, 0, "the unblock reaches $_") for qw(CEN P02 S01);

# ---------- certificates, deletion, hand-over ----------
my $media = leaf(undef, 'boot media');
sql($p01, "SELECT cmblock.register_certificate(${\ bytea($media) }, type => 'boot_media')");
sql($p01, "SELECT cmblock.block_certificate('$media->{sha1}')");
wait_until($site{$_}, 'SELECT count(*) FROM cmblock.certificate WHERE blocked', "blocked boot media are blocked at $_", '1') for qw(CEN P02 S01);

sql($p01, "SELECT cmblock.register_client('$pc2', 'pc2'); SELECT cmblock.block_client('$pc2')");
sql($p01, "SELECT cmblock.reassign_client('$pc2', 'P02')");
for my $code (qw(CEN P02 S01))
{
	wait_until($site{$code}, "SELECT concat_ws(' ', assigned_site, blocked) FROM cmblock.client WHERE smsid::uuid = '$pc2'",
		"$code knows the new site of a client, and its block", 'P02 t');
}
sql($p02, "SELECT cmblock.unblock_client('$pc2')");
wait_for_block($site{$_}, $pc2, 0, "the new site's unblock reaches $_") for qw(CEN P01 S01);
sql_fails($p01, "SELECT cmblock.block_client('$pc2')", '55000', qr/P02/, 'the old site cannot block it any more');
sql($p02, "SELECT cmblock.delete_client('$pc2')");
wait_until($s01, "SELECT deleted_at IS NOT NULL FROM cmblock.client WHERE smsid::uuid = '$pc2'", 'a deletion travels');

# ---------- what the links say ----------
wait_until($p01, <<'END', 'P01 sends up and down, and is up to date', "CEN up send active 0 t t\nS01 down send active 0 t t");
SELECT string_agg(concat_ws(' ', neighbour, direction, flow, state, lag_rows, advice IS NULL, last_success_at IS NOT NULL), E'\n' ORDER BY neighbour)
FROM cmblock.replication_status WHERE flow = 'send'
END
sql_is($s01, 'SELECT concat_ws(\' \', neighbour, direction, flow, rows > 0, peer_role) FROM cmblock.replication_status',
	'P01 down receive t p01_link', 'S01 only receives');
sql_is($s01, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cmblock replicator'", '0', 'and runs no replicator');
sql_is($cen, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cmblock replicator P01 to CEN'", '1', 'a link is a session with a name');
is_deeply(
	[ map { sql($site{$_}, "SELECT count(*) FROM cmblock.client") } qw(CEN P01 P02 S01) ],
	[ 2, 2, 2, 2 ], 'all sites have the same clients');

# ---------- nothing circulates, and idle links are quiet ----------
for my $node ($cen, $p01, $p02)
{
	wait_until($node, "SELECT bool_and(lag_rows = 0) FROM cmblock.replication_status WHERE flow = 'send'", 'nothing is left to send');
}
my $rows = "SELECT coalesce(sum(rows_received), 0) FROM cmblock.replication_cursor";
my $received = sql($p01, $rows);
my $before = sql($p01, 'SELECT sum(version) FROM cmblock.client');
sql($p01, "SELECT cmblock.block_client('$pc1')");
wait_for_block($p02, $pc1, 1, 'a change goes through');
sql_is($p01, $rows, $received, 'and does not come back to where it was made');
sql_is($p01, 'SELECT sum(version) FROM cmblock.client', $before + 1, 'nor does it change again');
sql_is($cen, 'SELECT rows_ignored FROM cmblock.replication_cursor WHERE neighbour = \'P01\'', '0', 'no row was sent twice');

# ---------- the wrong feeds ----------
# A cursor on a sequence loses a row that commits late.
my $late = session($p01);
query($late, "BEGIN; SELECT cmblock.register_client('${\ client(1) }', 'late')");
sql($p01, "SELECT cmblock.register_client('${\ client(2) }', 'early')");
wait_for_block($p02, client(2), 0, 'a later transaction commits first and arrives while the first is open');
wait_until($p01, "SELECT lag_rows FROM cmblock.replication_status WHERE neighbour = 'CEN' AND flow = 'send'", 'nobody waits for the open one', '0');
query($late, 'COMMIT');
wait_for_block($p02, client(1), 0, 'the row that was committed late arrives');

# Ordering by transaction number delivers the older version last, or never.
query($late, "BEGIN; SELECT pg_current_xact_id()");
sql($p01, "SELECT cmblock.block_client('${\ client(2) }')");
wait_for_block($p02, client(2), 1, 'a transaction with the higher number changes a row first');
query($late, "SELECT cmblock.unblock_client('${\ client(2) }'); COMMIT");
wait_for_block($p02, client(2), 0, 'then the one with the lower number: its version arrives, too');

# An xmin horizon is held back by any open transaction, in another database as well.
sql($p01, 'CREATE DATABASE elsewhere');
my $pin = session($p01, 'elsewhere');
query($pin, 'BEGIN ISOLATION LEVEL REPEATABLE READ; CREATE TABLE t (a int); SELECT pg_current_xact_id()');
sql($p01, "SELECT cmblock.block_client('${\ client(1) }')");
wait_for_block($p02, client(1), 1, 'a transaction open in another database holds nothing back');
query($pin, 'ROLLBACK');
leave($pin);
leave($late);

# ---------- prepared transactions ----------
sql($p01, "BEGIN; SELECT cmblock.register_client('${\ client(3) }', 'prepared'); PREPARE TRANSACTION 'p'");
sql($p01, "SELECT cmblock.unblock_client('${\ client(1) }')");
wait_for_block($p02, client(1), 0, 'a prepared transaction holds nothing back');
sql_is($p02, "SELECT count(*) FROM cmblock.client WHERE name = 'prepared'", '0', 'what it changed is not there');
sql($p01, "COMMIT PREPARED 'p'");
wait_for_block($p02, client(3), 0, 'after COMMIT PREPARED it is');

# ---------- reinitialize, pause, unlink ----------
sql($p01, "SELECT cmblock.reinitialize_link('S01')");
wait_until($p01, "SELECT resend_requested IS NULL FROM cmblock.replication_link WHERE neighbour = 'S01'", 'everything is sent anew');
sql_is($s01, 'SELECT rows_ignored >= (SELECT count(*) FROM cmblock.client) FROM cmblock.replication_cursor', 't', 'and nothing of it was news');

sql($p01, "SELECT cmblock.pause_link('S01')");
wait_until($s01, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'cmblock replicator%'", 'a paused link has no session', '0');
sql($p01, "SELECT cmblock.block_client('${\ client(3) }')");
wait_for_block($p02, client(3), 1, 'the others go on');
sql_is($s01, "SELECT blocked FROM cmblock.client WHERE name = 'prepared'", 'f', 'nothing is sent to the paused one');
sql_like($p01, "SELECT concat_ws(' ', paused, lag_rows, advice) FROM cmblock.replication_status WHERE neighbour = 'S01'",
	qr/^t 1 The link is paused.*resume_link\('S01'\)/, 'its status says so');
sql($p01, "SELECT cmblock.resume_link('S01')");
wait_for_block($s01, client(3), 1, 'what it missed comes when it goes on');

sql($p01, "SELECT cmblock.unlink_site('S01')");
sql_fails($p01, "SELECT cmblock.pause_link('S01')", '42704', qr/no link to site S01/, 'an unlinked site has no link');
sql_is($p01, "SELECT count(*) FROM cmblock.replication_status WHERE neighbour = 'S01'", '0', 'nor a status');
wait_until($s01, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'cmblock replicator%'", 'nor a session', '0');

# ---------- who can be linked ----------
sql_fails($s01, "SELECT cmblock.link_site('P01', 'x')", '55000', qr/secondary site sends nothing/, 'a secondary site links to nobody');
sql_fails($p01, "SELECT cmblock.link_site('P02', 'cen')", '22023', qr/not a neighbour/, 'nor does anybody to a site that is no neighbour');
sql_fails($p01, "SELECT cmblock.link_site('P01', 'cen')", '22023', qr/this site itself/, 'nor to itself');
sql_fails($p01, "SELECT cmblock.link_site('X99', 'cen')", '42704', qr/not in this hierarchy/, 'nor to a site it does not know');
sql_fails($p01, "SELECT cmblock.link_site('S01', 'nowhere')", '42704', qr/CREATE SERVER nowhere/, 'the server must be there');
sql_fails($p01, "SELECT cmblock.accept_link('S01', 'cen_link')", '22023', qr/sends nothing/, 'a secondary site is not accepted');
sql_fails($cen, "SELECT cmblock.accept_link('P02', 'p01_link')", '42710', qr/accepted for site P01 already/, 'two neighbours cannot share a role');
sql_fails($cen, "SELECT cmblock.accept_link('P02', 'nobody')", '42704', qr/role "nobody" does not exist/, 'the role must be there');

done_testing();
