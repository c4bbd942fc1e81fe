# The files in examples/monitoring: every query runs as a member of pg_monitor against real sites, with links and revocation
# lists in all states, and returns the columns that its metrics name, with no labels twice; both exporters get the same
# metrics; alerts and dashboard use only metrics and labels that exist.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockLinks;
use CmblockTest;
use CPAN::Meta::YAML;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $directory = "$FindBin::RealBin/../examples/monitoring";
my $exporter = yaml('postgres_exporter.yml');
my $sql_exporter = yaml('sql_exporter.yml');

# Metric => its labels.
my %labels_of;

sub yaml
{
	my ($name) = @_;
	my $text = slurp_file("$directory/$name");

	unlike($text, qr/\t/, "$name has no tabs, which are no YAML");
	return CPAN::Meta::YAML->read_string($text)->[0];
}

# ---------- sites in all states ----------
my %site = hierarchy('CEN', 'P01', 'S01');
my ($cen, $p01, $s01) = @site{qw(CEN P01 S01)};
my $day = 86400;
my $ca = ca('A "quoted" \\ CA, <b>');
my @twin = map { ca('Twin') } 1 .. 2;
my $stale = ca('Stale');

sql($p01, "SELECT cmblock.add_certificate_authority(${\ bytea($_) })") foreach $ca, @twin, $stale;
sql($p01, "SELECT cmblock.import_crl(${\ bytea(crl($_, number => 1)) })") foreach $ca, @twin;
sql($p01, "SELECT cmblock.import_crl(${\ bytea(crl($stale, number => 1, this_update => time - 2 * $day, next_update => time - $day)) })");
sql($p01, "SELECT cmblock.add_crl_distribution_point('$ca->{sha256}', 'http://127.0.0.1:1/a.crl')");
sql($p01, "SELECT cmblock.register_client(format('00000000-0000-0000-0000-%s', lpad(n::text, 12, '0'))::cmblock.smsid, 'pc' || n) FROM generate_series(1, 5) n");
sql($p01, "SELECT cmblock.block_client('00000000-0000-0000-0000-00000000000$_')") foreach 1, 5;
sql($p01, "SELECT cmblock.register_client('00000000-0000-0000-0000-000000000011', 'PC1')");
sql($p01, "SELECT cmblock.is_allowed('00000000-0000-0000-0000-00000000000$_', transport => 'http')") foreach 1 .. 2;
wait_until($p01, "SELECT count(*) FROM cmblock.crl_status WHERE failures > 0", 'a source of revocation lists fails', '1');
$s01->stop;
sql($p01, "SELECT cmblock.unblock_client('00000000-0000-0000-0000-000000000005')");
wait_until($p01, "SELECT string_agg(state::text, ' ' ORDER BY neighbour) FROM cmblock.replication_status WHERE flow = 'send'", 'one link works, one has failed', 'active failed');
sql($_, 'CREATE ROLE exporter LOGIN; GRANT pg_monitor TO exporter') foreach $p01, $cen;
my $empty = new_site('empty');
sql($empty, 'CREATE ROLE exporter LOGIN; GRANT pg_monitor TO exporter');

# ---------- the queries ----------
my %value;

foreach my $name (sort keys %$exporter)
{
	my $query = $exporter->{$name}{query} =~ s/;?\s*$//r;
	my %usage = map { my ($column) = keys %$_; $column => $_->{$column}{usage} } @{ $exporter->{$name}{metrics} };
	my @labels = sort grep { $usage{$_} eq 'LABEL' } keys %usage;

	is(join(' ', grep { !$_->{ (keys %$_)[0] }{description} } @{ $exporter->{$name}{metrics} }), '', "$name: every column is described");
	is(join(' ', grep { $_ !~ /^(LABEL|GAUGE|COUNTER)$/ } values %usage), '', "$name: usages are known");
	foreach my $column (grep { $usage{$_} ne 'LABEL' } keys %usage)
	{
		$labels_of{"${name}_$column"} = join ' ', @labels;
		is($column =~ /_total$|^total$/ ? 'COUNTER' : 'GAUGE', $usage{$column}, "${name}_$column: only counters end in total");
	}
	foreach my $node ($p01, $cen, $empty)
	{
		my $run = "SET SESSION AUTHORIZATION exporter;";
		my $rows = decode_json(sql($node, "$run SELECT coalesce(json_agg(q), '[]') FROM ($query) q"));
		my %seen;
		my $where = $name . ' at ' . $node->name;

		is(join(' ', sort keys %$_), join(' ', sort keys %usage), "$where: columns") foreach $rows->[0] // ();
		is(scalar(grep { grep { !defined } values %$_ } @$rows), 0, "$where: nothing is null");
		is(scalar(grep { $seen{ join "\0", map { $_ // '' } @$_{@labels} }++ } @$rows), 0, "$where: no labels twice");
		is(scalar(grep { my $row = $_; grep { $usage{$_} ne 'LABEL' && $row->{$_} !~ /^(-?[\d.]+(e[+-]?\d+)?|Infinity)$/ } keys %$row } @$rows), 0, "$where: values are numbers");
		next unless $node == $p01;
		cmp_ok(scalar @$rows, '>', 0, "$where: there are rows");
		foreach my $row (@$rows)
		{
			$value{"${name}_$_"}{ join ',', map { $row->{$_} } @labels } = $row->{$_} foreach grep { $usage{$_} ne 'LABEL' } keys %usage;
		}
	}
}

# What the five alerts look at.
is_deeply($value{cmblock_link_state}, { 'down,S01' => 2, 'up,CEN' => 0 }, 'the state of links');
is($value{cmblock_link_lag_rows}{'down,S01'} >= 1 && $value{cmblock_link_lag_rows}{'up,CEN'} <= 1, 1, 'and what waits');
is(join(' ', sort map { s/,.*//r } grep { $value{cmblock_crl_next_update_timestamp_seconds}{$_} < time } keys %{ $value{cmblock_crl_next_update_timestamp_seconds} }),
	'CN=Stale', 'the list that has expired');
is(join(' ', map { s/.*,//r } grep { $value{cmblock_crl_failures}{$_} > 0 } keys %{ $value{cmblock_crl_failures} }), 'http://127.0.0.1:1/a.crl', 'the source that fails');
is($value{cmblock_attention_items}{'warning,rejoin'}, 1, 'the suspected rejoin');
is($value{cmblock_attention_items}{'critical,link'}, 1, 'the link');
is($value{cmblock_history_intact}{''}, 1, 'the history is whole');
is($value{cmblock_history_events}{''}, 3, 'with three events');
is($value{cmblock_site_blocked_clients}{'primary,P01'}, 1, 'blocked clients');
is($value{cmblock_decisions_total}{'client_blocked,http'}, 1, 'decisions that refused');
is($value{cmblock_decisions_total}{'allowed,http'}, 1, 'and allowed');

sql($p01, "ALTER TABLE cmblock.block_event DISABLE TRIGGER guard; UPDATE cmblock.block_event SET actor = 'x' WHERE id = 1; ALTER TABLE cmblock.block_event ENABLE ALWAYS TRIGGER guard");
sql_is($p01, "SET SESSION AUTHORIZATION exporter; SELECT intact FROM ($exporter->{cmblock_history}{query}) q", '0', 'a broken history shows at the next call');

# ---------- both exporters get the same ----------
my %ref = map { $_->{query_name} => $_->{query} } @{ $sql_exporter->{queries} };
my %theirs = map { $_->{metric_name} => $_ } @{ $sql_exporter->{metrics} };

is_deeply(\%ref, { map { $_ => $exporter->{$_}{query} } keys %$exporter }, 'the queries are the same');
is_deeply([ sort keys %theirs ], [ sort keys %labels_of ], 'the metrics are the same');
foreach my $name (sort keys %$exporter)
{
	foreach my $metric (@{ $exporter->{$name}{metrics} })
	{
		my ($column) = keys %$metric;
		my $own = $theirs{"${name}_$column"} or next;

		is_deeply([ @$own{qw(type help query_ref)}, $own->{values}[0], join(' ', sort @{ $own->{key_labels} // [] }) ],
			[ lc $metric->{$column}{usage}, $metric->{$column}{description}, $name, $column, $labels_of{"${name}_$column"} ], "${name}_$column: the same in both");
	}
}

# ---------- alerts and dashboard ----------
# Metrics of an expression, and the labels that are asked for.
sub check_expression
{
	my ($expression, $where) = @_;
	my @metrics = $expression =~ /\b(cmblock_\w+)/g;
	my @unknown = grep { !exists $labels_of{$_} } @metrics;
	my %known = map { $_ => 1 } 'instance', map { split / /, $labels_of{$_} // '' } @metrics;
	my @labels = map { $_ =~ /(\w+)\s*(?:=~|!~|!=|=)/g } $expression =~ /\{(.*?)\}/g;

	push @labels, map { split /\s*,\s*/ } $expression =~ /\b(?:by|without|on)\s*\((.*?)\)/g;
	cmp_ok(scalar @metrics, '>', 0, "$where: names a metric");
	is("@unknown", '', "$where: the metrics exist");
	is(join(' ', grep { !$known{$_} } @labels), '', "$where: the labels exist");
	is(($expression =~ tr/(//) . ($expression =~ tr/{//), ($expression =~ tr/)//) . ($expression =~ tr/}//), "$where: brackets");
	return %known;
}

my @rules = map { @{ $_->{rules} } } @{ yaml('alerts.yml')->{groups} };
foreach my $rule (@rules)
{
	my %known = check_expression($rule->{expr}, $rule->{alert});
	my @used = join(' ', values %{ $rule->{annotations} }) =~ /\$labels\.(\w+)/g;

	is(join(' ', grep { !$known{$_} } @used), '', "$rule->{alert}: labels in its text exist");
	like($rule->{labels}{severity}, qr/^(critical|warning)$/, "$rule->{alert}: severity");
	is(join(' ', sort keys %{ $rule->{annotations} }), 'description summary', "$rule->{alert}: says what is wrong");
}
my $alerts = join ' ', map { $_->{alert} } @rules;
like($alerts, qr/\b$_\b/, "there is $_") foreach qw(CmblockLinkDegraded CmblockCrlNearNextUpdate CmblockCrlSourceFailing CmblockSuspectedRejoin CmblockHistoryBroken);
foreach my $test (slurp_file("$directory/alerts_test.yml") =~ /alertname: (\w+)/g)
{
	like($alerts, qr/\b$test\b/, "$test, which alerts_test.yml tests, is there");
}

my $dashboard = decode_json(slurp_file("$directory/dashboard.json"));
my %ids;
foreach my $panel (@{ $dashboard->{panels} })
{
	ok(!$ids{ $panel->{id} }++, "dashboard, $panel->{title}: number");
	check_expression($_->{expr}, "dashboard, $panel->{title}") foreach @{ $panel->{targets} };
}
like($dashboard->{templating}{list}[1]{query}, qr/^label_values\((\w+), instance\)$/, 'the dashboard asks for instances');

done_testing();
