# Sites that say different things of one row, and none of them lies: each time the dispute is settled, all sites end with the same, and no
# link stops. What a site did after it was set back; a parent that has forgotten its child; what was done at two sites at once.
use strict;
use warnings;
use File::Path;
use FindBin;
use lib $FindBin::RealBin;
use CmblockLinks;
use CmblockTest;
use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils;
use Test::More;

my %site = hierarchy('CEN', 'P01', 'P02', 'S01');
my ($cen, $p01, $p02, $s01) = @site{qw(CEN P01 P02 S01)};

sub id
{
	my ($n) = @_;

	return sprintf('%08d-0000-0000-0000-000000000000', $n);
}

sub client
{
	my ($n, $columns) = @_;

	return "SELECT concat_ws(' ', $columns) FROM cmblock.client WHERE smsid::uuid = '${\ id($n) }'";
}

sub site_row
{
	my ($code) = @_;

	return "SELECT concat_ws(' ', kind, parent, retired_at IS NOT NULL) FROM cmblock.site WHERE code = '$code'";
}

# Nobody hears of these sites, nor they of anybody.
sub cut_off
{
	my (@codes) = @_;

	sql($cen, "ALTER ROLE ${\ lc }_link NOLOGIN") for @codes;
	sql($cen, "SELECT cmblock.pause_link('$_')") for @codes;
	sql($cen, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '${\ lc }_link'") for @codes;
	return;
}

sub back_again
{
	my (@codes) = @_;

	sql($cen, "ALTER ROLE ${\ lc }_link LOGIN; SELECT cmblock.resume_link('$_')") for @codes;
	return;
}

sub links_are_well
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return wait_until($_, "SELECT string_agg(DISTINCT concat_ws(' ', state, failures, lag_rows), ',') FROM cmblock.replication_status WHERE flow = 'send'",
		"$name: the links of " . $_->name . ' are well', 'active 0 0') for $cen, $p01, $p02;
}

sub settled
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	wait_for_equality(\%site, "$name: all sites have the same rows");
	return links_are_well($name);
}

settled('at the beginning');

# ---------- a secondary site that the central site retired ----------
# P01 has not heard of it when it compares.
sql($p01, "SELECT cmblock.add_site('S07', 'secondary', 'P01')");
settled('a secondary site is added');
sql($cen, "SELECT cmblock.pause_link('P01')");
sql($cen, "SELECT cmblock.retire_site('S07')");
sql_is($p01, "SELECT unrepaired FROM cmblock.compare_site('CEN')", '0', 'P01 compares, with the site that is not retired there');
sql_is($cen, site_row('S07'), 'secondary P01 t', 'which does not bring it back at the central site');
sql($cen, "SELECT cmblock.resume_link('P01')");
settled('a retired secondary site');
sql_is($p01, site_row('S07'), 'secondary P01 t', 'and P01 learns it');

# ---------- the same code at two primary sites ----------
cut_off('P01', 'P02');
sql($p01, "SELECT cmblock.add_site('S05', 'secondary', 'P01')");
sql($p02, "SELECT cmblock.add_site('S05', 'secondary', 'P02')");
sql($p02, "SELECT cmblock.register_client('${\ id(1) }', 'pc1')");
back_again('P01');
wait_until($cen, site_row('S05'), 'P01 comes first', 'secondary P01 f');
back_again('P02');
wait_until($p02, site_row('S05'), 'P02 learns that its code is taken', 'secondary P01 f');
wait_for_block($cen, id(1), 0, 'and its other changes are not held up');
settled('a code that two sites used');
like(slurp_file($cen->logfile), qr/LOG:  site P02 added site S05, and learns that this code is taken\n.*DETAIL:  It is a secondary site below P01\./, 'the central site\'s log says it');
cut_off('P01', 'P02');
sql($cen, "SELECT cmblock.add_site('S08', 'primary', 'CEN')");
sql($p02, "SELECT cmblock.add_site('S08', 'secondary', 'P02')");
back_again('P01', 'P02');
wait_until($p02, site_row('S08'), 'so it is with the code of a primary site', 'primary CEN f');
settled('a code that a primary and a secondary site have');

# ---------- a client that two sites registered, each with a certificate ----------
my ($first, $second) = (leaf(undef, 'first'), leaf(undef, 'second'));
cut_off('P01', 'P02');
sql($p01, "SELECT cmblock.register_client('${\ id(2) }', 'at P01'); SELECT cmblock.register_certificate(${\ bytea($first) }, '${\ id(2) }')");
sql($p02, "SELECT cmblock.register_client('${\ id(2) }', 'at P02'); SELECT cmblock.register_certificate(${\ bytea($second) }, '${\ id(2) }')");
back_again('P01');
wait_until($cen, client(2, 'name'), 'P01 comes first', 'at P01');
back_again('P02');
wait_until($p02, client(2, 'assigned_site, name'), 'the client is P01\'s', 'P01 at P01');
settled('two registrations');
sub certificates { return "SELECT string_agg(concat_ws(' ', assigned_site, subject, deleted_at IS NOT NULL), ', ' ORDER BY subject) FROM cmblock.certificate" }
sql_is($p01, certificates(), 'P01 CN=first f, P02 CN=second f', 'each certificate is that of the site that registered it');
$p01->psql('postgres', "SELECT cmblock.reassign_client('${\ id(2) }', 'P02')", stderr => \my $warning);
like($warning, qr/WARNING:  1 certificate of client GUID:00000002-\S+ stays with site P02.*block_certificate/s, 'the client can be given away, and that one is named');
wait_until($p02, client(2, 'assigned_site'), 'P02 has it', 'P02');
settled('given away');
sql_is($p02, certificates(), 'P02 CN=first f, P02 CN=second f', 'with its certificate');

# Certificates travel behind their client. Where they have not come yet, nothing is done without them.
sql($cen, "SELECT cmblock.pause_link('P01')");
sql($p02, "SELECT cmblock.reassign_client('${\ id(2) }', 'P01')");
wait_until($cen, client(2, 'assigned_site'), 'it is given back', 'P01');
# The client's row as it comes, without what is behind it.
my $row_comes = "SET LOCAL cmblock.restore = on; UPDATE cmblock.client SET assigned_site = 'P01', version = version + 1, origin_site = 'P02' WHERE smsid::uuid = '${\ id(2) }'; RESET cmblock.restore";
for my $command ("delete_client('${\ id(2) }')", "reassign_client('${\ id(2) }', 'P02')")
{
	sql_fails($p01, "BEGIN; $row_comes; SELECT cmblock.$command", '55000', qr/the certificates of client GUID:00000002-\S+ have not come from site P02 yet/, "refused: $command");
}
sql($cen, "SELECT cmblock.resume_link('P01')");
settled('the certificates come');
sql_ok($p01, "SELECT cmblock.delete_client('${\ id(2) }')", 'then it can be deleted');
settled('deleted');
sql_is($cen, certificates(), 'P01 CN=first t, P01 CN=second t', 'certificates and all');

# ---------- seized, while the old site registered the client anew ----------
sql($p01, "SELECT cmblock.register_client('${\ id(3) }', 'pc3'); SELECT cmblock.register_client('${\ id(4) }', 'pc4')");
settled('clients to be seized');
cut_off('P01');
sql($p01, "SELECT cmblock.delete_client('${\ id($_) }'); SELECT cmblock.register_client('${\ id($_) }', 'anew')") for 3, 4;
sql($p01, "SELECT cmblock.block_client('${\ id(3) }', 'stolen')");
sql($cen, "SELECT cmblock.seize_clients('P01', 'P02', force => true)");
wait_until($p02, client($_, 'assigned_site, blocked'), "client $_ is seized", 'P02 f') for 3, 4;
back_again('P01');
wait_for_block($p02, id(3), 1, 'the block that the old site made counts, although it had registered the client anew');
settled('seized');
sql_is($p02, client(4, 'assigned_site, name, blocked'), 'P02 pc4 f', 'and nothing else of it');
sql_is($cen, "SELECT string_agg(action || ' ' || reason, ', ' ORDER BY id) FROM cmblock.block_event WHERE action = 'conflict' AND client::uuid IN ('${\ id(3) }', '${\ id(4) }')",
	'conflict blocked by site P01, which did not know yet that it was seized', 'on record');

# ---------- set back, and not aware of it ----------
# What P01 gave away it changes again, as often as it likes, and in between; a secondary site that it retired is another's; a client that
# it blocks comes through an ISV proxy now; a phone that it deleted, which revoked its certificate, is there again.
my $phone = leaf(undef, 'phone');
sql($p01, "SELECT cmblock.register_client(('0000001' || n || '-0000-0000-0000-000000000000')::uuid::cmblock.smsid, 'pc1' || n) FROM generate_series(0, 4) n");
sql($p01, "SELECT cmblock.register_client('${\ id(15) }', 'phone', 'mobile_device'); SELECT cmblock.register_certificate(${\ bytea($phone) }, '${\ id(15) }')");
settled('before it is set back');
$p01->stop;
$p01->backup_fs_cold('cold');
$p01->start;
sql($p01, "SELECT cmblock.reassign_client('${\ id($_) }', 'P02')") for 10, 11, 12;
sql($p01, "SELECT cmblock.register_client('${\ id(13) }', '$_', isv_proxied => true)") for qw(a b c);
sql($p01, "SELECT cmblock.delete_client('${\ id(15) }')");
wait_until($p02, client(12, 'assigned_site'), 'what is given away arrives', 'P02');
sql($p02, "SELECT cmblock.block_client('${\ id(12) }', 'by the new owner')");
sql($p01, "SELECT cmblock.retire_site('S01')");
wait_until($p02, site_row('S01'), 'P02 learns that S01 is retired', 'secondary P01 t');
sql($p02, "SELECT cmblock.add_site('S01', 'secondary', 'P02')");
wait_until($cen, site_row('S01'), 'S01 belongs to P02', 'secondary P02 f');
wait_for_block($p01, id(12), 1, 'P01 knows all that');
$p01->stop;
rmtree($p01->data_dir);
PostgreSQL::Test::RecursiveCopy::copypath($p01->backup_dir . '/cold', $p01->data_dir);
chmod 0700, $p01->data_dir or die;
sql($_, 'ALTER ROLE p01_link NOLOGIN') for $cen, $s01;
$p01->start;
# So many transactions that its own are beyond those that the neighbours have seen.
sql($p01, 'DO $$ BEGIN FOR i IN 1..300 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$');
$p01->restart;
sql($p01, "SELECT cmblock.block_client('${\ id($_) }', 'after')") for 10, 11, 13;
sql($p01, "SELECT cmblock.unblock_client('${\ id(11) }')");
sql($p01, "SELECT cmblock.block_client('${\ id(12) }'); SELECT cmblock.unblock_client('${\ id(12) }'); SELECT cmblock.block_client('${\ id(12) }'); SELECT cmblock.unblock_client('${\ id(12) }')");
sql($p01, "SELECT cmblock.${_}block_certificate('$phone->{sha256}')") for '', 'un', '', 'un';
sql($_, 'ALTER ROLE p01_link LOGIN') for $s01, $cen;
# Before it has noticed, it does not know that it is to compare.
wait_until($p01, client(10, 'assigned_site, blocked'), "client 10 is P02's, however often P01 changed it", 'P02 f');
wait_until($p01, 'SELECT restored_at IS NULL FROM cmblock.this_site', 'it has compared');
sql_is($p01, client(11, 'assigned_site, blocked'), 'P02 f', 'client 11 is, too');
sql_is($p01, client(12, 'assigned_site, blocked, block_reason'), 'P02 t by the new owner', 'with the block that P02 made');
sql_is($p01, "SELECT revoked_at IS NOT NULL FROM cmblock.certificate WHERE sha256 = '$phone->{sha256}'", 't', 'what was revoked stays revoked, however often the row was changed since');
sql_is($p01, client(13, 'name, blocked, isv_proxied'), 'c f t', 'a client behind a proxy cannot be blocked');
sql_is($p01, "SELECT string_agg(substr(client::text, 12, 2) || ' ' || action, ', ' ORDER BY client) FROM cmblock.block_event WHERE actor = 'cmblock' AND client::uuid BETWEEN '${\ id(10) }' AND '${\ id(13) }' AND action <> 'seized'",
	'10 conflict, 11 recovered, 12 recovered, 13 conflict', 'what could not stand is on record');
sql_is($p01, site_row('S01'), 'secondary P02 f', 'and S01 is P02\'s');
delete $site{S01};
sql($p01, "SELECT cmblock.unlink_site('S01')");
settled('set back');

# ---------- a site that its parent has forgotten ----------
# P01 is lost, the central site gave up its link, and P01 is made anew. Nothing says that it had rows once, but the rows.
sql($p01, "SELECT cmblock.register_client('${\ id(20) }', 'pc20'); SELECT cmblock.block_client('${\ id(20) }', 'stolen')");
settled('before it is lost');
$p01->stop;
sql($cen, "SELECT cmblock.unlink_site('P01'); DROP SERVER p01 CASCADE");
my $anew = new_site('anew', code => 'P01', kind => 'primary', hierarchy => hierarchy_uuid, parent => 'CEN', conf => "cmblock.retry_max = '200ms'\n");
sql($anew, "SELECT cmblock.register_client('${\ id(20) }', 'again')");
link_sites($anew, 'P01', $cen, 'CEN');
link_sites($cen, 'CEN', $anew, 'P01');
$site{P01} = $p01 = $anew;
wait_for_block($p01, id(20), 1, 'it learns that a client that it registers again was blocked');
sql_is($p01, client(20, 'assigned_site, block_reason'), 'P01 stolen', 'which is its own');
settled('made anew');
sql_is($p01, "SELECT cmblock.is_allowed('${\ id(20) }')", 'f', 'and keeps out');

unlike(slurp_file($_->logfile), qr/terminated by signal|PANIC|TRAP/, 'nothing crashed at ' . $_->name) for $cen, $p01, $p02, $s01;
done_testing();
