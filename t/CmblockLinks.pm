# What the tests of replication share: links between sites, and waiting for what travels over them.
#
#	link_sites($p01, 'P01', $cen, 'CEN');           # P01 sends to CEN
#	my %site = hierarchy('CEN', 'P01', 'P02', 'S01');
#	wait_for_equality(\%site, 'all sites have the same rows');
package CmblockLinks;

use strict;
use warnings;
use Carp;
use CmblockTest;
use Exporter 'import';
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(link_sites hierarchy hierarchy_uuid
  wait_for_block worker_pid start_again sites_differ wait_for_equality);

use constant hierarchy_uuid => '11111111-2222-3333-4444-555555555555';

# Failures are retried soon, so that the tests do not wait for the back-off. Small WAL files make small clusters.
my $quick = "cmblock.retry_max = '200ms'\nrestart_after_crash = on\n";

# One site sends to another: the role at the receiver, server and user mapping at the sender. The receiver accepts
# first, so that the first attempt succeeds. Options: server => more options of the server.
sub link_sites
{
	my ($from, $from_code, $to, $to_code, %opt) = @_;
	my $role = lc("${from_code}_link");
	my $server = lc($to_code);

	sql($to, "DO \$\$ BEGIN CREATE ROLE $role LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END \$\$");
	sql($to, "SELECT cmblock.accept_link('$from_code', '$role')");
	sql($from, "CREATE SERVER $server FOREIGN DATA WRAPPER cmblock_fdw OPTIONS (${\ server_options($to, %{ $opt{server} // {} }) })");
	sql($from, "CREATE USER MAPPING FOR postgres SERVER $server OPTIONS (user '$role')");
	sql($from, "SELECT cmblock.link_site('$to_code', '$server')");
	return;
}

# A hierarchy of clusters, linked both ways where both have something to say. Codes: C.. central, P.. primary, S..
# secondary below the P.. of the same number.
sub hierarchy
{
	my @codes = @_;
	my %kind = (C => 'central', P => 'primary', S => 'secondary');
	my %site;
	my %parent;

	for my $code (@codes)
	{
		my $kind = $kind{ substr($code, 0, 1) };

		$parent{$code} = $kind eq 'primary' ? (grep { /^C/ } @codes)[0] : $kind eq 'secondary' ? 'P' . substr($code, 1) : undef;
		$site{$code} = new_site(
			lc($code),
			code => $code,
			kind => $kind,
			hierarchy => hierarchy_uuid,
			parent => $parent{$code},
			init => ['--wal-segsize=1'],
			conf => $quick);
	}
	for my $code (grep { $parent{$_} } @codes)
	{
		my ($node, $parent) = ($site{$code}, $site{ $parent{$code} });
		my $kind = $kind{ substr($code, 0, 1) };

		sql($parent, "SELECT cmblock.add_site('$code', '$kind', '$parent{$code}')");
		link_sites($node, $code, $parent, $parent{$code}) if $kind eq 'primary';
		link_sites($parent, $parent{$code}, $node, $code);
	}
	return %site;
}

# ---------- waiting ----------

# Wait until a site has this client in this state of block.
sub wait_for_block
{
	my ($node, $client, $blocked, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return wait_until($node, "SELECT coalesce((SELECT blocked::text FROM cmblock.client WHERE smsid::uuid = '$client'), 'unknown')",
		$name, $blocked ? 'true' : 'false');
}

# The process number of a site's replicator, when it runs; waits for it, and not for the one given.
sub worker_pid
{
	my ($node, $not) = @_;
	my $where = "backend_type = 'cmblock replicator' AND datname = 'postgres' AND pid <> " . ($not // 0);

	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE $where")
	  or croak 'no replicator';
	return $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE $where");
}

# Start a cluster whose postmaster was killed: its other processes may still be about to end.
sub start_again
{
	my ($node) = @_;
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;

	until ($node->start(fail_ok => 1))
	{
		croak 'the server does not start' if time > $end;
		sleep 0.1;
		# Forgets what the failed attempt left.
		$node->stop('fast', fail_ok => 1);
	}
	return;
}

# What is replicated, as text; a site that is down has nothing. Columns that do not travel are left out.
my $rows = join ' UNION ALL ', map { "SELECT (to_jsonb(r) - '{change_xid,block_received_at}'::text[])::text AS t FROM cmblock.$_ r WHERE version > 0" }
  qw(site client certificate);

# The sites whose rows are not those of most of the others; empty when all are equal.
sub sites_differ
{
	my ($sites) = @_;
	my %with;

	for my $code (sort keys %$sites)
	{
		my $digest = '';

		$sites->{$code}->psql('postgres', "SELECT md5(coalesce(string_agg(t, E'\\n' ORDER BY t), '')) FROM ($rows) x", stdout => \$digest, stderr => \my $ignored);
		push @{ $with{$digest} }, $code;
	}
	my ($most, @others) = sort { @$b <=> @$a || $a->[0] cmp $b->[0] } values %with;
	return map { @$_ } @others;
}

# Wait until all sites have the same rows.
sub wait_for_equality
{
	my ($sites, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;
	my @differ;

	while ((@differ = sites_differ($sites)) && time < $end)
	{
		sleep 0.1;
	}
	return ok(1, $name) unless @differ;
	for my $code (sort keys %$sites)
	{
		$sites->{$code}->psql('postgres', "SELECT count(*), sum(version) FROM cmblock.client; TABLE cmblock.replication_status", stdout => \my $state, stderr => \my $error);
		diag("$code: $state $error");
	}
	return is("@differ", '', $name);
}

1;
