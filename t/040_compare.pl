# Comparing two sites: what crosses when they are equal, and what becomes of differences that somebody made by hand, with the triggers
# switched off, at either end.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockLinks;
use CmblockSession;
use CmblockProxy;
use CmblockTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# How many clients: the more, the longer it takes.
my $clients = $ENV{CMBLOCK_COMPARE_CLIENTS} // 12000;

my %site = hierarchy('CEN', 'P01', 'P02', 'S01');
my ($cen, $p01, $p02, $s01) = @site{qw(CEN P01 P02 S01)};
my $proxy = proxy($cen);

sql($p01, "ALTER SERVER cen OPTIONS (SET host '127.0.0.1', SET port '$proxy->{port}')");

sub id
{
	my ($n) = @_;

	return sprintf('%08d-0000-0000-0000-000000000000', $n);
}

# Without a trace: no trigger fires, no version rises. Then the triggers are as they were.
sub by_hand
{
	my ($node, $statement) = @_;
	my $triggers = "SELECT string_agg(format('ALTER TABLE %s %s TRIGGER %I', tgrelid::regclass, CASE tgenabled WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE' END, tgname), '; ')
		FROM pg_trigger WHERE NOT tgisinternal AND tgrelid IN ('cmblock.client'::regclass, 'cmblock.certificate'::regclass, 'cmblock.site'::regclass)";
	my $off = join '; ', map { "ALTER TABLE cmblock.$_ DISABLE TRIGGER USER" } qw(client certificate site);
	my $on = sql($node, $triggers);

	return sql($node, "$off; $statement; $on");
}

sub compared
{
	my ($node, $with, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return sql_is($node, "SELECT equal, different, sent, taken, conflicts, unrepaired FROM cmblock.compare_site('$with')", $expected, $name);
}

my $pki = ca('Root');
my $media = leaf($pki, 'boot media');
sql($p01, "SELECT cmblock.register_certificate(${\ bytea($media) }, type => 'boot_media')");
sql($p01, "INSERT INTO cmblock.client (smsid, name, kind, assigned_site, approval, isv_proxied)
	SELECT (lpad(n::text, 8, '0') || '-0000-0000-0000-000000000000')::uuid::cmblock.smsid, 'pc' || n, 'computer', 'P01', 2, false FROM generate_series(1, $clients) n");
sql($p01, "SELECT cmblock.block_client('${\ id($_) }', 'stolen')") for 1 .. 4;
wait_until($_, 'SELECT count(*) FROM cmblock.client WHERE blocked', 'the sites are equal', '4') for $cen, $p02, $s01;
wait_for_equality(\%site, 'the sites are equal, all of them');
wait_until($p01, "SELECT bool_and(lag_rows = 0 AND phase = 'idle') FROM cmblock.replication_status WHERE flow = 'send'", 'nothing is under way');

# ---------- equal ----------
my $before = octets($proxy);
my $begin = time;
compared($p01, 'CEN', 't|0|0|0|0|0', 'no difference');
my $crossed = octets($proxy) - $before;
note(sprintf 'comparing %d equal clients took %.2f s; %d octets crossed', $clients, time - $begin, $crossed);
cmp_ok($crossed, '<', 3000 + $clients / 2, 'half an octet a row crosses when they are equal');
sql_is($p01, "SELECT rows = $clients + 1 + 4 FROM cmblock.compare_site('CEN')", 't', 'all rows were compared: clients, certificates and sites');
compared($p01, 'S01', 't|0|0|0|0|0', 'downwards as well');
compared($cen, 'P01', 't|0|0|0|0|0', 'and from the central site');
compared($cen, 'P02', 't|0|0|0|0|0', 'to each of its sites');

# ---------- by hand, at the receiver ----------
by_hand($cen, "UPDATE cmblock.client SET blocked = false WHERE smsid::uuid = '${\ id(1) }';
	UPDATE cmblock.client SET name = 'renamed' WHERE smsid::uuid = '${\ id(2) }';
	DELETE FROM cmblock.client WHERE smsid::uuid = '${\ id(3) }';
	UPDATE cmblock.client SET blocked = true, block_reason = 'by hand', block_changed_at = now() WHERE smsid::uuid = '${\ id(5) }';
	UPDATE cmblock.client SET version = 77, name = 'far ahead' WHERE smsid::uuid = '${\ id(6) }';
	DELETE FROM cmblock.certificate");
sql_is($cen, "SELECT count(*) FROM cmblock.client WHERE smsid::uuid = '${\ id(1) }' AND blocked", '0', 'the central site was changed by hand');
compared($p01, 'CEN', 'f|6|2|1|4|0', 'six differences, each is repaired');
wait_for_equality(\%site, 'all sites are equal again');
sql_is($_, "SELECT string_agg(concat_ws(' ', name, blocked, block_reason), ', ' ORDER BY name) FROM cmblock.client WHERE smsid::uuid IN ('${\ id(1) }', '${\ id(2) }', '${\ id(3) }', '${\ id(5) }', '${\ id(6) }')",
	'pc1 t stolen, pc2 t stolen, pc3 t stolen, pc5 t by hand, pc6 f', 'the owner\'s rows count, and the block stays, at ' . $_->name) for $cen, $p01, $p02, $s01;
sql_is($p01, "SELECT string_agg(substr(client::text, 13, 1) || ' ' || action || ': ' || reason, ', ' ORDER BY client) FROM cmblock.block_event WHERE actor = 'cmblock'",
	'1 conflict: the row here was written anew, because it differed from that of site CEN, 2 conflict: the row here was written anew, because it differed from that of site CEN, '
	. '5 conflict: not blocked here, blocked at site CEN, 6 conflict: the row here was written anew, because it differed from that of site CEN', 'it is in the history');
sql_like($p01, "SELECT array_to_string(compared_examples, E'\\n') FROM cmblock.replication_link WHERE neighbour = 'CEN'",
	qr/client GUID:00000001-.*: the row there was taken into account, here version 2 \(blocked\), there version 2\n.*client GUID:00000003-.*: the row here was sent, here version 2 \(blocked\), there missing/s, 'the rows are named');
like(slurp_file($p01->logfile), qr/LOG:  site P01 compared with site CEN: 6 of \d+ rows differed, 2 were sent, 1 taken back, 4 conflicts, 0 left as they are\n.*DETAIL:  client GUID:00000001/, 'and in the server log');
compared($p01, 'CEN', 't|0|0|0|0|0', 'nothing is left of it');

# ---------- by hand, at the owner ----------
by_hand($p01, "UPDATE cmblock.client SET blocked = false WHERE smsid::uuid = '${\ id(1) }';
	UPDATE cmblock.client SET name = 'renamed' WHERE smsid::uuid = '${\ id(7) }';
	DELETE FROM cmblock.client WHERE smsid::uuid = '${\ id(2) }';
	UPDATE cmblock.client SET version = 1 WHERE smsid::uuid = '${\ id(3) }'");
compared($p01, 'CEN', 'f|4|0|2|3|0', 'changed at the owner');
wait_for_equality(\%site, 'all sites are equal again');
sql_is($cen, "SELECT string_agg(concat_ws(' ', name, blocked), ', ' ORDER BY name) FROM cmblock.client WHERE smsid::uuid IN ('${\ id(1) }', '${\ id(2) }', '${\ id(3) }', '${\ id(7) }')",
	'pc1 t, pc2 t, pc3 t, renamed f', 'what the owner has counts, but not that a block is gone');
sql_is($p01, 'SELECT intact FROM cmblock.verify_block_history()', 't', 'the history is intact');

# ---------- by hand, below ----------
by_hand($s01, "UPDATE cmblock.client SET blocked = false WHERE smsid::uuid = '${\ id(1) }';
	UPDATE cmblock.client SET blocked = true, block_changed_at = now(), version = 99 WHERE smsid::uuid = '${\ id(8) }';
	DELETE FROM cmblock.client WHERE smsid::uuid = '${\ id(2) }';
	UPDATE cmblock.site SET retired_at = now() WHERE code::text = 'P02'");
compared($p01, 'S01', 'f|4|4|0|0|0', 'a secondary site is set right, it has no say');
by_hand($p02, "UPDATE cmblock.client SET blocked = false WHERE smsid::uuid = '${\ id(1) }';
	UPDATE cmblock.client SET assigned_site = 'P02' WHERE smsid::uuid = '${\ id(9) }'");
compared($cen, 'P02', 'f|1|1|0|0|0', 'another primary site is set right');
compared($p02, 'CEN', 'f|1|0|1|0|0', 'and does not keep a client that it made its own by hand');
by_hand($cen, "UPDATE cmblock.client SET assigned_site = 'P02' WHERE smsid::uuid = '${\ id(10) }'");
compared($p01, 'CEN', 'f|1|0|0|0|1', 'two owners of one version, the owner at one end: left for people to see');
compared($cen, 'P02', 'f|1|0|0|0|1', 'and not handed over by the repair');
by_hand($cen, "UPDATE cmblock.client SET assigned_site = 'P01' WHERE smsid::uuid = '${\ id(10) }'");
wait_for_equality(\%site, 'all sites are equal again');
sql_fails($p02, "SELECT cmblock.block_client('${\ id(9) }')", '55000', qr/assigned to site P01/, 'one owner');
# What nobody else has is left for people to see.
by_hand($s01, "INSERT INTO cmblock.client SELECT (r).* FROM (SELECT jsonb_populate_record(c, '{\"smsid\": \"${\ id(99999999) }\"}') AS r FROM cmblock.client c WHERE smsid::uuid = '${\ id(1) }') x");
compared($p01, 'S01', 'f|1|0|0|0|1', 'a row that only a secondary site has is reported');
by_hand($s01, "DELETE FROM cmblock.client WHERE smsid::uuid = '${\ id(99999999) }'");

# ---------- by itself ----------
by_hand($cen, "UPDATE cmblock.client SET blocked = false WHERE smsid::uuid = '${\ id(1) }'");
$p01->append_conf('postgresql.conf', "cmblock.compare_interval = '1s'");
$p01->reload;
wait_for_block($cen, id(1), 1, 'the replicator compares by itself');
# The result of that comparison must not be taken for one of those that follow.
my $repaired = sql($p01, 'SELECT clock_timestamp()');
wait_until($p01, "SELECT bool_and(compared_at > '$repaired' AND compared_different = 0) FROM cmblock.replication_link WHERE server IS NOT NULL", 'the next comparisons find nothing');
# While clients are blocked and unblocked, no difference is seen that is none.
sql($p01, "UPDATE cmblock.replication_link SET compared_different = -1");
my $writer = session($p01);
query($writer, "DO \$\$ BEGIN FOR i IN 1..300 LOOP PERFORM cmblock.block_client('${\ id(4) }'); COMMIT; PERFORM cmblock.unblock_client('${\ id(4) }'); COMMIT; END LOOP; END \$\$");
leave($writer);
sql_is($p01, "SELECT max(compared_different) <= 0 FROM cmblock.replication_link", 't', 'what is on its way is no difference');
wait_until($p01, "SELECT bool_and(compared_at > now() - interval '3s' AND compared_different = 0) FROM cmblock.replication_link WHERE server IS NOT NULL", 'it goes on, and finds nothing');
$p01->append_conf('postgresql.conf', "cmblock.compare_interval = 0");
$p01->reload;

# ---------- what does not work is said ----------
sql_fails($s01, "SELECT cmblock.compare_site('P01')", '42704', qr/this site does not send to site P01/, 'a secondary site does not compare');
sql_fails($p01, "SELECT cmblock.compare_site('P02')", '22023', qr/P02 is not a neighbour/, 'not with a site that is no neighbour');
sql_fails($p01, "SELECT cmblock.compare_site('P01')", '22023', qr/this site itself/, 'not with itself');
sql($p01, "SELECT cmblock.pause_link('CEN')");
sql_fails($p01, "SELECT cmblock.compare_site('CEN')", '55000', qr/the link to site CEN is paused/, 'a paused link');
sql($p01, "SELECT cmblock.resume_link('CEN')");
misbehave($proxy, 'cut');
sql_fails($p01, "SELECT cmblock.compare_site('CEN')", '08006', qr/could not compare with site CEN/, 'a link that is down');
misbehave($proxy, 'forward');
compared($p01, 'CEN', 't|0|0|0|0|0', 'and afterwards it works');

done_testing();
