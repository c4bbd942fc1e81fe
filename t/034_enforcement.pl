# Where is a block in force? Five sites, asked through up to three hops: all reachable, one down, one paused; who may ask,
# where, and what a neighbour may say. Asking writes nothing.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockLinks;
use CmblockSession;
use CmblockTest;
use PostgreSQL::Test::Utils;
use Test::More;

my @codes = qw(CEN P01 P02 S01 S02);
my %site = hierarchy(@codes);
my ($cen, $p01, $p02, $s01, $s02) = @site{@codes};
my $pc1 = '11111111-1111-1111-1111-111111111111';
my $pc2 = '22222222-2222-2222-2222-222222222222';
my $nobody = '99999999-9999-9999-9999-999999999999';

for my $code (@codes)
{
	wait_until($site{$code}, 'SELECT count(*) FROM cmblock.site WHERE version > 0', "$code knows all sites", '5');
}

# Primary sites without clients have nothing to send to the central one, which hears from them all the same.
wait_until($_, 'SELECT count(*) FROM cmblock.attention', 'no client is there, and nothing needs attention', '0') for $cen, $p01, $s01;

# One line a site: code, state, version.
sub states
{
	my ($client, $timeout) = @_;

	return "SELECT string_agg(concat_ws(' ', site, state, version), ', ' ORDER BY site) FROM cmblock.enforcement('$client', '"
	  . ($timeout // '30 s') . "')";
}

# ---------- all reachable ----------
sql($p01, "SELECT cmblock.register_client('$pc1', 'pc1')");
sql($p01, "SELECT cmblock.block_client('$pc1', 'stolen')");
sql_is($p01, "SELECT cmblock.wait_for_enforcement('$pc1', '30 s') IS NOT NULL", 't', 'P01 waits until the block is in force everywhere')
  or BAIL_OUT('no answers');
for my $code (@codes)
{
	sql_is($site{$code}, "SELECT cmblock.is_allowed('$pc1')", 'f', "and then $code refuses the client");
}
my $everywhere = 'CEN enforced 2, P01 enforced 2, P02 enforced 2, S01 enforced 2, S02 enforced 2';
sql_is($p01, states($pc1), $everywhere, 'P01 sees it in force at all sites');
sql_is($p01, "SELECT string_agg(concat_ws(' ', site, kind), ', ' ORDER BY site) FROM cmblock.enforcement('$pc1')",
	'CEN central, P01 primary, P02 primary, S01 secondary, S02 secondary', 'with the kind of each');
for my $code (@codes)
{
	my $since = sql($site{$code}, "SELECT extract(epoch FROM coalesce(block_received_at, block_changed_at)) FROM cmblock.client WHERE smsid::uuid = '$pc1'");

	sql_is($p01, "SELECT extract(epoch FROM enforced_at) FROM cmblock.enforcement('$pc1') WHERE site::text = '$code'", $since,
		"since when is what $code itself says");
}
sql_is($p01, "SELECT bool_and(enforced_at >= (SELECT block_changed_at FROM cmblock.client WHERE smsid::uuid = '$pc1') AND confirmed_at >= enforced_at AND detail IS NULL) FROM cmblock.enforcement('$pc1')",
	't', 'not before the block, and confirmed after it came into force');
sql_is($cen, states($pc1), $everywhere, 'the central site can ask as well');
sql_is($p02, states($pc1), $everywhere, 'and a primary site that does not have the client');
sql_is($cen, "SELECT cmblock.wait_for_enforcement('$pc1') IS NOT NULL", 't', 'or wait');
sql_is($p01, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; ${\ states($pc1) }; COMMIT", $everywhere, 'in a read-only transaction, too');

# What changed besides the block makes a new version, and the block stays in force since the same time.
my $since = sql($s02, "SELECT block_received_at FROM cmblock.client WHERE smsid::uuid = '$pc1'");
sql($p01, "SELECT cmblock.register_client('$pc1', 'pc1', kind => 'mac')");
sql($p01, "SELECT cmblock.wait_for_enforcement('$pc1', '30 s')");
sql_is($p01, "SELECT enforced_at = '$since' AND version = 3 FROM cmblock.enforcement('$pc1') WHERE site::text = 'S02'", 't',
	'a change that leaves the block alone does not move the time');
sql($p01, "SELECT cmblock.unblock_client('$pc1')");
sql($p01, "SELECT cmblock.wait_for_enforcement('$pc1', '30 s')");
sql_is($p01, "SELECT enforced_at > '$since' FROM cmblock.enforcement('$pc1') WHERE site::text = 'S02'", 't', 'an unblock does');

# From the moment that wait_for_enforcement returns no site lets the client in, many times in a row.
for my $round (1 .. 20)
{
	my $block = $round % 2;
	my $verb = $block ? 'block' : 'unblock';

	sql($p01, "SELECT cmblock.${verb}_client('$pc1')");
	sql($p01, "SELECT cmblock.wait_for_enforcement('$pc1', '30 s')");
	is(sql($s02, "SELECT cmblock.is_allowed('$pc1')") . sql($s01, "SELECT cmblock.is_allowed('$pc1')"), $block ? 'ff' : 'tt', "round $round: $verb");
}

# ---------- quiet ----------
# The number that the next writing transaction of each site gets, once all progress is written down.
sub next_xids
{
	return join ' ', map { sql($site{$_}, 'SELECT pg_snapshot_xmax(pg_current_snapshot())') } @codes;
}

sql($site{$_}, 'ALTER SYSTEM SET autovacuum = off; SELECT pg_reload_conf()') for @codes;
my ($xids, $last) = ('', '');
for (1 .. 30)
{
	$last = $xids;
	$xids = next_xids();
	last if $xids eq $last;
	select undef, undef, undef, 1.5;
}
is($xids, $last, 'the hierarchy is idle');
sql($p01, states($pc1)) for 1 .. 5;
sql($cen, states($pc1)) for 1 .. 5;
is(next_xids(), $xids, 'asking writes nothing at any site');

# ---------- errors ----------
sql_fails($p01, "SELECT * FROM cmblock.enforcement('$nobody')", '42704', qr/not known to this site/, 'a client that nobody knows');
sql_fails($p01, "SELECT cmblock.wait_for_enforcement('$nobody')", '42704', qr/not known to this site/, 'cannot be waited for either');
sql_fails($s01, "SELECT * FROM cmblock.enforcement('$pc1')", '55000', qr/secondary site cannot ask.*HINT:  Run the command at site P01/s, 'a secondary site cannot ask, and says who can');
sql_fails($p01, "SELECT cmblock.wait_for_enforcement('$pc1', '1 s', '{X99}')", '42704', qr/site X99 is not in this hierarchy/, 'a site that does not exist');
sql_fails($p01, "SELECT cmblock.wait_for_enforcement('$pc1', '1 s', '{NULL}')", '22004', qr/cannot be null/, 'a site that is null');
sql_fails($p01, "SELECT cmblock.wait_for_enforcement('$pc1', '1 s', '{}')", '22023', qr/no site to wait for/, 'no sites');
sql_fails($p01, "SELECT cmblock.wait_for_enforcement('$pc1', NULL)", '22004', qr/cannot be null/, 'a timeout that is null');
$p01->psql('postgres', "BEGIN; SELECT cmblock.block_client('$pc1'); SELECT cmblock.wait_for_enforcement('$pc1') IS NULL; ROLLBACK",
	stdout => \my $out, stderr => \my $err);
like($out, qr/^t$/m, 'the transaction that changed the client cannot wait for it');
like($err, qr/WARNING:  nothing to wait for yet.*HINT:  Commit first, then wait/s, 'and is told so');

# ---------- who may ask ----------
sql($p01, "CREATE ROLE watcher LOGIN; CREATE ROLE passer LOGIN; SELECT cmblock.grant_privilege('watcher', 'reader'); GRANT USAGE ON SCHEMA cmblock TO passer");
sql_is($p01, "SET ROLE watcher; ${\ states($pc1) }", $everywhere =~ s/ 2/ 24/gr, 'a reader');
sql_fails($p01, "SET ROLE passer; SELECT * FROM cmblock.enforcement('$pc1')", '42501', qr/permission denied/, 'not everybody');
sql_fails($p01, "SET ROLE watcher; SELECT cmblock.ask_enforcement(1, '${\ hierarchy_uuid }', 'CEN', 'P01', 'x', 1, '$pc1')", '42501', qr/permission denied/, 'a reader is no neighbour');

# What a neighbour may say.
sub answer_of
{
	my ($sender, $site) = @_;

	return "SET SESSION AUTHORIZATION " . lc($sender) . "_link; SELECT cmblock.tell_enforcement(1, '${\ hierarchy_uuid }', '$sender', 'CEN', 'x', 1, "
	  . "cmblock.site_code_send('$site') || cmblock.site_code_send('$site') || '\\x03'::bytea || int8send(9) || int8send(0))";
}
sql($cen, "GRANT USAGE ON SCHEMA cmblock TO p01_link");
sql_is($cen, answer_of('P01', 'P01'), 'f', 'an answer to a question that nobody asks meets nobody');
sql_fails($cen, answer_of('P01', 'S02'), '42501', qr/site P01 does not speak for site S02/, 'a child does not speak for sites below another');
sql_fails($cen, answer_of('P01', 'CEN'), '42501', qr/site P01 does not speak for site CEN/, 'nor for the receiver');
sql_fails($cen, "SET SESSION AUTHORIZATION p01_link; SELECT cmblock.tell_enforcement(1, '${\ hierarchy_uuid }', 'P01', 'CEN', 'x', 1, '\\x0011')", '08P01', qr/malformed answers/, 'nor nonsense');

# ---------- a site that is down ----------
sql($p01, "SELECT cmblock.register_client('$pc2', 'pc2')");
sql($p01, "SELECT cmblock.wait_for_enforcement('$pc2', '30 s')");
$p02->stop('fast');
sql($p01, "SELECT cmblock.block_client('$pc2', 'stolen')");
sql_is($p01, "SELECT cmblock.wait_for_enforcement('$pc2', '30 s', '{CEN,P01,S01}') IS NOT NULL", 't', 'those that are up have it soon, also while one is down');
sql_fails($p01, "SELECT cmblock.wait_for_enforcement('$pc2', '2 s')", '55000', qr/not known to be in force at P02, S02\b.*P02: Site CEN cannot reach it/s, 'waiting for all names those that are missing, and why');
wait_until($p01, states($pc2), 'the others have it', 'CEN enforced 2, P01 enforced 2, P02 pending, S01 enforced 2, S02 unknown');
sql_like($p01, "SELECT detail FROM cmblock.enforcement('$pc2') WHERE site::text = 'P02'", qr/^Site CEN cannot reach it, and has not sent it this state yet\.$/, 'P02 does not have it by what CEN knows');
sql_is($p01, "SELECT string_agg(concat_ws(' ', site, state, detail), E'\\n' ORDER BY site) FROM cmblock.enforcement('$pc1') WHERE state <> 'enforced' OR detail IS NOT NULL",
	"P02 enforced Site CEN cannot reach it now; it acknowledged this state before.\nS02 unknown Site CEN cannot reach it, or the site above it.",
	'what P02 acknowledged before, it still has');

# Waiting goes on when the site comes back.
my $waiter = session($p01);
say($waiter, "SELECT cmblock.wait_for_enforcement('$pc2', '60 s') IS NOT NULL");
wait_until($p01, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT cmblock.wait_for_enf%' AND state = 'active' AND wait_event = 'Extension'", 'a session waits', '1');
$p02->start;
is(answer($waiter), 't', 'it is told when P02 is back and has it');
leave($waiter);
sql_is($p01, states($pc2), $everywhere, 'and so is everybody');
sql_is($s02, "SELECT cmblock.is_allowed('$pc2')", 'f', 'S02 refuses the client');

# ---------- interrupted ----------
sql($p01, "SELECT cmblock.pause_link('S01'); SELECT cmblock.unblock_client('$pc2')");
sql_fails($p01, "SET statement_timeout = '500ms'; SELECT cmblock.wait_for_enforcement('$pc2', '60 s')", '57014', qr/statement timeout/, 'who waits can be interrupted');
sql_fails($p01, "SELECT cmblock.wait_for_enforcement('$pc2', '300 ms')", '55000', qr/S01: Site P01 cannot reach it, and has not sent it/, 'a paused link holds it up');
sql_is($cen, "SELECT string_agg(concat_ws(' ', site, state, version), ', ' ORDER BY site) FROM cmblock.enforcement('$pc2', '30 s') WHERE site::text IN ('P01', 'S01')",
	'P01 enforced 3, S01 pending', 'which others hear of from the site above it');
sql($p01, "SELECT cmblock.resume_link('S01')");
sql_is($p01, "SELECT cmblock.wait_for_enforcement('$pc2', '30 s') IS NOT NULL", 't', 'until it goes on');

# ---------- a site to which nothing is sent ----------
sql($cen, "SELECT cmblock.add_site('P03', 'primary', 'CEN')");
wait_until($p01, "SELECT count(*) FROM cmblock.site WHERE code = 'P03'", 'a site was added', '1');
my $started = time;
sql_is($_, "SELECT concat_ws(' ', state, detail) FROM cmblock.enforcement('$pc2', '60 s') WHERE site::text = 'P03'",
	'unknown Site CEN cannot reach it, or the site above it.', 'it is not waited for: the site that has no link to it says so') for $cen, $p01;
cmp_ok(time - $started, '<', 60, 'at once');
sql($cen, "SELECT cmblock.retire_site('P03')");
wait_until($p01, "SELECT count(*) FROM cmblock.site WHERE code = 'P03' AND retired_at IS NULL", 'and it is retired', '0');
sql_is($cen, answer_of('P01', 'S99'), 'f', 'an answer about a site that is not known here is left out');

# ---------- many ask at once ----------
my @sessions = map { session($p01) } 1 .. 8;
sql($p01, "SELECT cmblock.block_client('$pc2')");
say($_, "SELECT cmblock.wait_for_enforcement('$pc2', '30 s') IS NOT NULL") for @sessions;
is(join('', map { answer($_) } @sessions), 'tttttttt', 'eight sessions wait at the same time');
leave($_) for @sessions;

done_testing();
