# The refresher: fetches CRLs from good servers, bears bad ones, keeps its schedule, and stops at once.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockTest;
use CrlServer;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $server = CrlServer->new;
my $node = new_site(
	'p01',
	code => 'P01',
	kind => 'primary',
	conf => <<'END');
cmblock.crl_connect_timeout = '2s'
cmblock.crl_fetch_timeout = '3s'
log_line_prefix = '%m [%p] %b '
END

# The extension adds what it needs to the search path; the tests' names are all qualified.
sub thumbprint
{
	my ($cert) = @_;

	return "'$cert->{sha256}'::cmblock.thumbprint";
}

sub add_ca
{
	my ($ca) = @_;

	return sql($node, "SELECT cmblock.add_certificate_authority(${\ bytea($ca) })");
}

sub add_source
{
	my ($ca, $url, $delta) = @_;

	return sql($node, "SELECT cmblock.add_crl_distribution_point(${\ thumbprint($ca) }, '$url', "
		  . ($delta ? 'true' : 'false') . ')');
}

sub status_of
{
	my ($url) = @_;

	return "FROM cmblock.crl_status WHERE url = '$url'";
}

sub revocation
{
	my ($cert) = @_;

	return "SELECT status FROM cmblock.revocation_status(${\ bytea($cert) })";
}

sub refresh
{
	return sql($node, 'SELECT cmblock.refresh_crls()');
}

my $worker = "FROM pg_stat_activity WHERE backend_type = 'cmblock refresher'";

# ---------------------------------------------------------------------------------------------
# A good server
# ---------------------------------------------------------------------------------------------

my $root = ca('Root');
my ($good, $stolen, $late) = map { leaf($root, "client $_") } 1 .. 3;
my $base = crl($root, number => 1, revoked => [$stolen]);
my $delta = crl($root, number => 2, base => 1, revoked => [$late]);

add_ca($root);
sql_is($node, 'SELECT state, kind, url FROM cmblock.crl_status', 'missing|base|', 'a CA without CRL and source is shown');
sql_like($node, 'SELECT advice FROM cmblock.crl_status', qr/add_crl_distribution_point/, 'with what to do');
wait_until($node, "SELECT count(*) = 0 $worker", 'no process where there is nothing to fetch');

$server->put('root.crl', slurp_file($base->{der}));
my $base_url = $server->url('file', 'root.crl');
add_source($root, $base_url);
wait_until($node, "SELECT state = 'ok' ${\ status_of($base_url) }", 'a CRL is fetched as soon as its source is known');
sql_is($node, "SELECT kind, entries, number, failures, last_error, bytes ${\ status_of($base_url) }",
	'base|1|1|0||' . length(slurp_file($base->{der})), 'crl_status tells what came');
sql_is($node, revocation($stolen), 'revoked', 'it is in force');
sql_is($node, revocation($good), 'good', 'also for the others');
sql_is($node, "SELECT count(*), min(application_name) $worker", '1|cmblock refresher', 'one process');
ok($server->requests(qr{^GET /file/root.crl$}) == 1, 'one request');

my $delta_url = $server->url('plain', 'delta.crl');
$server->put('delta.crl', pem_of($delta));
add_source($root, $delta_url, 1);
wait_until($node, "SELECT state = 'ok' ${\ status_of($delta_url) }", 'a delta CRL, as PEM');
sql_is($node, revocation($late), 'revoked', 'and what it revokes');

# ---------------------------------------------------------------------------------------------
# Asking again
# ---------------------------------------------------------------------------------------------

sql_is($node, 'SELECT cmblock.refresh_crls()', '2', 'refresh_crls says how many sources it asks');
wait_until($node, "SELECT count(*) = 2 FROM cmblock.crl_source WHERE last_outcome = 'unchanged'", 'nothing new');
is($server->requests(qr{root.crl conditional}), 1, 'the second request only asks for another version');

$server->put('root.crl', slurp_file(crl($root, number => 3, revoked => [ $stolen, $late ])->{der}));
sql_is($node, "SELECT cmblock.refresh_crls(${\ thumbprint($root) })", '2', 'of one CA');
wait_until($node, "SELECT number = 3 ${\ status_of($base_url) }", 'a new CRL');

my $log_offset = -s $node->logfile;
my $xmin = sql($node, 'SELECT pg_current_xact_id()');
$node->append_conf('postgresql.conf', "cmblock.crl_refresh_interval = '1s'");
$node->reload;
my $asked = $server->requests(qr/root.crl/);
my $end = time + 60;
usleep(100_000) while $server->requests(qr/root.crl/) < $asked + 4 && time < $end;
cmp_ok($server->requests(qr/root.crl/), '>=', $asked + 4, 'asked again each crl_refresh_interval');
unlike(slurp_file($node->logfile, $log_offset), qr/refresher.*(LOG|WARNING|ERROR)/, 'which is nothing to log');
$node->append_conf('postgresql.conf', "cmblock.crl_refresh_interval = '1h'");
$node->reload;
refresh();
wait_until($node, "SELECT min(next_attempt) > now() + interval '50 minutes' FROM cmblock.crl_source",
	'the interval can be changed at any time');

# next_publish comes before the interval is over
my $soon = time + 1000;
$server->put('root.crl', slurp_file(crl($root, number => 4, revoked => [$stolen],
	extensions => [ '1.3.6.1.4.1.311.21.4 = ASN1:UTCTIME:' . CmblockTest::utc($soon) ])->{der}));
refresh();
wait_until($node, "SELECT number = 4 ${\ status_of($base_url) }", 'a CRL that says when the next one is published');
sql_is($node, "SELECT next_attempt - next_publish BETWEEN '0' AND '2 minutes' ${\ status_of($base_url) }", 't',
	'that is when the next one is fetched');

# or the end of the CRL, also where the CA means to publish later
$server->put('root.crl', slurp_file(crl($root, number => 5, revoked => [$stolen],
	this_update => time - 60, next_update => time + 940,
	extensions => [ '1.3.6.1.4.1.311.21.4 = ASN1:UTCTIME:' . CmblockTest::utc(time + 100_000) ])->{der}));
refresh();
wait_until($node, "SELECT number = 5 ${\ status_of($base_url) }", 'a short-lived CRL');
sql_is($node, "SELECT next_attempt < next_update - interval '1 second' ${\ status_of($base_url) }", 't', 'is replaced in time');

# ---------------------------------------------------------------------------------------------
# Bad servers, all at once; the good one goes on
# ---------------------------------------------------------------------------------------------

my $other = ca('Other');
add_ca($other);
$server->put('other.crl', slurp_file(crl($other, number => 9)->{der}));
$server->put('old.crl', slurp_file($base->{der}));
$server->put('stranger.crl', slurp_file(crl(ca('Stranger'), number => 9)->{der}));
$server->put('to-file', 'file:///etc/passwd');
$server->put('to-ldap', 'ldap://127.0.0.1/cn=ca');
$server->put('to-login', 'http://user:secret@127.0.0.1/x');
$server->put('to-good', $server->url('file', 'root.crl'));
$server->put('to-https', 'https://127.0.0.1:1/x');
my ($black_hole, $keep_it) = CrlServer::black_hole();
my %bad = (
	$server->url('hang') => qr/did not come within cmblock.crl_fetch_timeout/,
	$server->url('drip', 'root.crl') => qr/did not come within cmblock.crl_fetch_timeout: \d+ octets had arrived/,
	$server->url('endless') => qr/larger than cmblock.crl_max_size/,
	$server->url('huge') => qr/larger than cmblock.crl_max_size/,
	$server->url('headers') => qr/headers/i,
	$server->url('loop') => qr/redirects more than 5 times/,
	$server->url('redirect', 'to-file') => qr{redirects to "file:///etc/passwd". Only http and https},
	$server->url('redirect', 'to-ldap') => qr/Only http and https/,
	$server->url('redirect', 'to-login') => qr/user name or password|127\.0\.0\.1:80/,	# newer versions of libcurl leave them out
	$server->url('redirect', 'to-https') => qr/127\.0\.0\.1(?: port |:)1\b/,
	$server->url('redirect') => qr/without saying where/,
	$server->url('html') => qr{type "text/html" that is no CRL},
	$server->url('empty') => qr/empty file/,
	$server->url('truncated', 'root.crl') => qr/closed the connection after \d+ of \d+ octets/,
	$server->url('lying', 'root.crl') => qr/CRL/,
	$server->url('garbage') => qr/\w/,
	$server->url('404') => qr/status 404/,
	$server->url('500') => qr/status 500/,
	$server->url('401') => qr/status 401/,
	$server->url('503') => qr/status 503/,
	$server->url('file', 'other.crl') => qr/is one of "CN=Other" and not of "CN=Root"/,
	$server->url('file', 'stranger.crl') => qr/Stranger|signer|trust/,
	$server->url('file', 'old.crl') => qr/older|lower|back/i,
	$server->url('file', 'delta.crl') => qr/delta CRL where a full CRL/,
	'http://127.0.0.1:1/ca.crl' => qr/connect/i,
	'http://no-such-host.invalid/ca.crl' => qr/resolve/i,
	$black_hole => qr/No connection came about in time/);

$node->append_conf('postgresql.conf', "cmblock.crl_max_size = '4MB'");
$node->reload;
sql($node, join(";\n", map { "SELECT cmblock.add_crl_distribution_point(${\ thumbprint($root) }, '$_')" } sort keys %bad));
# A source that leads to the good CRL by a detour is good.
my $detour = $server->url('redirect', 'to-good');
add_source($root, $detour);
my $chunked = $server->url('chunked', 'root.crl');
add_source($root, $chunked);
wait_until($node, 'SELECT count(*) = 0 FROM cmblock.crl_source WHERE last_attempt IS NULL', 'every source was asked');
for my $url (sort keys %bad)
{
	(my $name = $url) =~ s{^http://127.0.0.1:\d+}{};
	sql_like($node, "SELECT last_error ${\ status_of($url) }", $bad{$url}, "said of $name");
}
sql_is($node, "SELECT count(*) FROM cmblock.crl_status WHERE state IN ('failing', 'rejected') AND failures = 1 AND advice <> ''",
	scalar keys %bad, 'each of them has its line');
sql_is($node, "SELECT string_agg(state, ' ') FROM cmblock.crl_status WHERE url IN ('$base_url', '$delta_url', '$detour', '$chunked')",
	'ok ok ok ok', 'the good ones are good');
sql_is($node, "SELECT state, rejected IS NOT NULL ${\ status_of($server->url('file', 'old.crl')) }", 'rejected|t',
	'a CRL that came and was refused is told from one that did not come');
sql_is($node, "SELECT next_attempt - last_attempt BETWEEN '7 minutes' AND '13 minutes' ${\ status_of($server->url('503')) }", 't',
	'a server that asks for patience gets it');
sql_is($node, "SELECT number ${\ status_of($base_url) }", '5', 'no CRL went back');
sql_is($node, "SELECT count(*) FROM cmblock.crl WHERE issuer = 'CN=Other'", '0',
	'nothing of a CRL stays that came from the wrong place');
sql_is($node, revocation($stolen), 'revoked', 'what is revoked is revoked');

# While the worst of them hang, a new CRL from the good server comes through.
sql($node, "SELECT cmblock.remove_crl_distribution_point(authority, url, delta) FROM cmblock.crl_source "
	  . "WHERE failures > 0 AND url !~ '/(hang|drip)/' AND url <> '$black_hole'");
refresh();
wait_until($node, "SELECT count(*) > 0 $worker AND query ~ '^fetching .*/hang/'", 'pg_stat_activity says what is fetched');
$server->put('root.crl', slurp_file(crl($root, number => 6, revoked => [$stolen], this_update => time)->{der}));
my $start = time;
sql($node, "UPDATE cmblock.crl_source SET next_attempt = NULL WHERE url = '$base_url'");
wait_until($node, "SELECT number = 6 ${\ status_of($base_url) }", 'a new CRL while other servers hang');
cmp_ok(time - $start, '<', 2.5, 'it does not wait for them');

# ---------------------------------------------------------------------------------------------
# Stopping at once
# ---------------------------------------------------------------------------------------------

sub stops_at_once
{
	my ($name) = @_;
	my $pid = sql($node, "SELECT pid $worker");
	my $offset = -s $node->logfile;
	my $begin = time;

	sql($node, "SELECT pg_terminate_backend($pid)");
	ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"), "$name: it ends");
	cmp_ok(time - $begin, '<', 2, "$name: within two seconds");
	return;
}

$node->append_conf('postgresql.conf', "cmblock.crl_connect_timeout = '60s'\ncmblock.crl_fetch_timeout = '60s'");
$node->reload;
sql($node, "DELETE FROM cmblock.crl_source WHERE url <> '$black_hole'");
refresh();
wait_until($node, "SELECT count(*) = 1 $worker AND query ~ '^fetching'", 'connecting');
stops_at_once('while it connects');
wait_until($node, "SELECT count(*) = 1 $worker AND query ~ '^fetching'", 'it is started again and goes on');
my $hang = $server->url('hang');
add_source($root, $hang);
sql($node, "DELETE FROM cmblock.crl_source WHERE url = '$black_hole'");
wait_until($node, "SELECT count(*) = 1 $worker AND query ~ 'hang'", 'reading');
stops_at_once('while it reads');
sql($node, 'DELETE FROM cmblock.crl_source');
add_source($root, $base_url);
wait_until($node, "SELECT state = 'ok' ${\ status_of($base_url) }", 'the good one again');
wait_until($node, "SELECT count(*) = 1 $worker AND state = 'idle'", 'idle');
stops_at_once('idle');

my $blocker = $node->background_psql('postgres');
$blocker->query_safe('BEGIN; LOCK TABLE cmblock.crl_source IN ACCESS EXCLUSIVE MODE');
wait_until($node, "SELECT count(*) = 1 $worker AND wait_event_type = 'Lock'", 'waiting for a lock');
stops_at_once('while it waits for a lock');
$blocker->query_safe('COMMIT');
$blocker->quit;

# ---------------------------------------------------------------------------------------------
# A server that dies and comes back; restarts; what keeps the process away
# ---------------------------------------------------------------------------------------------

$server->stop;
refresh();
wait_until($node, "SELECT state = 'failing' ${\ status_of($base_url) }", 'the server has died');
sql_like($node, "SELECT advice ${\ status_of($base_url) }", qr/is good until next_update/, 'what that means is said');
sql_is($node, revocation($good), 'good', 'what is held stays in force');
ok($node->log_contains(qr/CRLs of "CN=Root" could not be fetched/), 'it is in the log');
$server->start;
refresh();
wait_until($node, "SELECT state = 'ok' AND failures = 0 ${\ status_of($base_url) }", 'the server is back');
ok($node->log_contains(qr/CRLs of "CN=Root" can be fetched again/), 'that, too');

my $schedule = "SELECT next_attempt FROM cmblock.crl_source WHERE url = '$base_url'";
my $planned = sql($node, $schedule);
$asked = $server->requests(qr/root.crl/);
$node->restart;
wait_until($node, "SELECT count(*) = 1 $worker", 'it runs after a restart');
sql_is($node, $schedule, $planned, 'by the same schedule');
is($server->requests(qr/root.crl/), $asked, 'without a request');

my $xid = sql($node, 'SELECT pg_snapshot_xmax(pg_current_snapshot())');
wait_until($node, "SELECT count(*) = 1 $worker AND state = 'idle'", 'it is idle');
sql($node, 'SELECT pg_sleep(1)');
sql_is($node, 'SELECT pg_snapshot_xmax(pg_current_snapshot())', $xid, 'idle, it writes nothing');

# Sources of one series are tried in turn.
my $mirror = $server->url('plain', 'root.crl');
add_source($root, $mirror);
wait_until($node, "SELECT state = 'ok' ${\ status_of($mirror) }", 'a second source of the same CRL');
sql($node, "UPDATE cmblock.crl_source SET next_attempt = now() + interval '1 hour'");
my ($first, $second) = ($server->requests(qr{/file/root}), $server->requests(qr{/plain/root}));
sql($node, "UPDATE cmblock.crl_source SET next_attempt = now()");
wait_until($node, "SELECT min(next_attempt) > now() + interval '1 minute' AND count(DISTINCT next_attempt) = 1 FROM cmblock.crl_source",
	'both have been seen to');
is($server->requests(qr{/file/root}), $first + 1, 'the first one was asked');
is($server->requests(qr{/plain/root}), $second, 'the second one was not');
sql($node, "UPDATE cmblock.crl_source SET url = replace(url, '/file/', '/404/') WHERE url = '$base_url'");
sql($node, "UPDATE cmblock.crl_source SET next_attempt = now()");
wait_until($node, "SELECT count(*) = 1 FROM cmblock.crl_source WHERE failures = 1", 'the first one fails');
wait_until($node, "SELECT count(*) = 1 FROM cmblock.crl_source WHERE failures = 0 AND next_attempt > now() + interval '1 minute'",
	'the second one is asked');
is($server->requests(qr{/plain/root}), $second + 1, 'once');
sql_like($node, "SELECT advice FROM cmblock.crl_status WHERE url ~ '/404/'", qr/Another source of the same CRL works/,
	'the line of the first one says so');

# ---------------------------------------------------------------------------------------------
# What else commands do
# ---------------------------------------------------------------------------------------------

sql($node, 'CREATE DATABASE second');
$node->safe_psql('second', 'CREATE EXTENSION cmblock');
$node->safe_psql('second', "SELECT cmblock.add_certificate_authority(${\ bytea($root) });"
	  . "SELECT cmblock.add_crl_distribution_point(${\ thumbprint($root) }, '$base_url')");
ok($node->poll_query_until('second', "SELECT state = 'ok' FROM cmblock.crl_status"), 'a refresher in each database');
$node->safe_psql('second', "SELECT cmblock.add_crl_distribution_point(${\ thumbprint($root) }, '$hang')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 $worker AND datname = 'second' AND query ~ 'hang'"), 'busy there');
sql_ok($node, 'CREATE DATABASE third', 'a database can be made meanwhile');
sql_ok($node, 'DROP DATABASE third', 'and dropped');
sql_ok($node, 'DROP DATABASE second', 'its own as well');

add_source($root, $hang);
wait_until($node, "SELECT count(*) = 1 $worker AND query ~ 'hang'", 'busy here');
sql_ok($node, 'DROP EXTENSION cmblock CASCADE', 'the extension can be dropped while it fetches');
wait_until($node, "SELECT count(*) = 0 $worker", 'that ends the process');
$node->stop('fast');
done_testing();
