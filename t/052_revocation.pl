# Revocation in a living database: sessions and transactions, a standby, dump and restore, deleted mobile devices, who checks what,
# and the reports that compare blocks with CRLs.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockLinks;
use CmblockSession;
use CmblockTest;
use CrlTest;
use Der;
use PostgreSQL::Test::Utils;
use Test::More;

my $site = crl_site('revocation', code => 'P01', kind => 'primary');
my $root = der_ca('Root');
my @cert = map { der_leaf($root, "pc$_", serial => sprintf '%04X', 0x4000 + $_) } 0 .. 9;

sub client { return sprintf "'GUID:00000000-0000-0000-0000-%012d'", $_[0]; }

sub question { return "SELECT status FROM cmblock.revocation_status(${\ hex_literal($_[0]) })"; }
sub import { return "SELECT outcome FROM cmblock.import_crl(${\ hex_literal($_[0]) })"; }

subtest 'sessions and transactions' => sub {
	my ($one, $two) = (session($site), session($site));

	fresh($root);
	take(der_crl($root));
	is(ask($_, question($cert[0])), 'good', 'a session that has looked') foreach $one, $two;
	ask($one, 'BEGIN');
	is(ask($one, import(der_crl($root, number => 2, revoked => ['4000']))), 'accepted', 'a CRL is taken in');
	is(ask($one, question($cert[0])), 'revoked', 'its own transaction sees it');
	is(ask($two, question($cert[0])), 'good', 'another one does not');
	ask($one, 'ROLLBACK');
	is(ask($one, question($cert[0])), 'good', 'rolled back');
	ask($one, 'BEGIN');
	ask($one, 'SAVEPOINT s');
	ask($one, import(der_crl($root, number => 2, revoked => ['4000'])));
	is(ask($one, question($cert[0])), 'revoked', 'in a savepoint');
	ask($one, 'ROLLBACK TO s');
	is(ask($one, question($cert[0])), 'good', 'rolled back to it');
	ask($one, 'COMMIT');
	ask($two, 'BEGIN ISOLATION LEVEL REPEATABLE READ');
	is(ask($two, question($cert[0])), 'good', 'a transaction with a snapshot');
	ask($one, import(der_crl($root, number => 2, revoked => ['4000'])));
	is(ask($two, question($cert[0])), 'revoked', 'sees what was committed since, as decisions do');
	ask($two, 'COMMIT');

	# Two at a time: the second waits, and compares with what the first has left.
	ask($one, 'BEGIN');
	is(ask($one, import(der_crl($root, number => 4, revoked => ['4000']))), 'accepted', 'number 4');
	say($two, import(der_crl($root, number => 3, revoked => ['4000'])));
	ok($site->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"), 'number 3 waits');
	ask($one, 'COMMIT');
	like(answer($two), qr/older than one that was held before/, 'and is refused');
	ask($one, 'BEGIN');
	ask($one, import(der_crl($root, number => 5, revoked => ['4000'])));
	say($two, import(der_crl($root, number => 5, revoked => ['4000'])));
	ok($site->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"), 'number 5 again waits');
	ask($one, 'COMMIT');
	like(answer($two), qr/two different/, 'an ECDSA signature is another each time');
	leave($one, $two);
};

subtest 'a standby' => sub {
	my $standby = PostgreSQL::Test::Cluster->new('standby');

	fresh($root);
	take(der_crl($root, revoked => ['4001']));
	$site->backup('base');
	$standby->init_from_backup($site, 'base', has_streaming => 1);
	$standby->start;
	is(sql($standby, question($cert[1])), 'revoked', 'knows what was there');
	my $reader = session($standby);
	is(ask($reader, question($cert[2])), 'good', 'a session of it that has looked');
	take(der_crl($root, number => 2, revoked => [ '4001', '4002' ]));
	$site->wait_for_catchup('standby', 'replay', $site->lsn('flush'));
	is(ask($reader, question($cert[2])), 'revoked', 'sees what came since');
	like(ask($reader, import(der_crl($root, number => 3))), qr/read-only/, 'nothing is taken in there');
	leave($reader);
	$standby->promote;
	like(sql($standby, "SELECT message FROM (SELECT cmblock.check_crl(${\ hex_literal(der_crl($root, number => 1)) })::text) c (message)"),
		qr/older than one that was held before/, 'after promotion the mark is there');
	$standby->stop;
};

subtest 'dump and restore' => sub {
	my $dump = PostgreSQL::Test::Utils::tempdir('dump') . '/dump';
	my @tables = qw(crl crl_scope certificate_authority);
	my $digest = sub { join ' ', map { my $t = $_; sql_in($_[0], "SELECT md5(string_agg(r::text, '' ORDER BY r::text)) FROM cmblock.$t r") } @tables };

	fresh($root);
	trust($root, base_grace => "'1 hour'", key_policy => "'any_key'");
	take(der_crl($root, number => 7, revoked => ['4001']));
	take(der_crl($root, number => 9, base => 7, revoked => ['4002']));
	$site->command_ok([ 'pg_dump', '-Fc', '-d', $site->connstr('postgres'), '-f', $dump ], 'pg_dump');
	sql($site, 'CREATE DATABASE restored');
	$site->command_ok([ 'env', 'PGOPTIONS=-c cmblock.restore=on', 'pg_restore', '-d', $site->connstr('restored'), $dump ], 'pg_restore');
	is($digest->('restored'), $digest->('postgres'), 'the rows are the same');
	is(sql_in('restored', question($cert[2])), 'revoked', 'and count');
	my ($state, $out, $err) = $site->psql('restored', import(der_crl($root, number => 6)));
	like($err, qr/older than one that was held before/, 'the mark was restored');
};

sub sql_in { my ($database, $query) = @_; return $site->safe_psql($database, $query); }

subtest 'a deleted mobile device' => sub {
	my ($phone, $laptop, $phone2) = @cert[ 3, 4, 5 ];

	fresh($root);
	take(der_crl($root));
	sql($site, "SELECT cmblock.register_client(@{[ client(3) ]}, 'phone', 'mobile_device'), cmblock.register_client(@{[ client(4) ]}, 'laptop')");
	sql($site, "SELECT cmblock.register_certificate(${\ hex_literal($_->[0]) }, @{[ client($_->[1]) ]})")
	  foreach [ $phone, 3 ], [ $laptop, 4 ], [ $phone2, 3 ];
	sql($site, "SELECT cmblock.delete_client(@{[ client($_) ]})") foreach 3, 4;
	is(status($_), 'revoked revoked_here', 'its certificates are revoked') foreach $phone, $phone2;
	is(status($laptop), 'good', 'those of a computer are not');
	is(sql($site, "SELECT count(*) FROM cmblock.certificate WHERE revoked_at IS NOT NULL"), '2', 'the table says so');
	my $again = "SELECT cmblock.register_client(@{[ client(3) ]}, 'phone', 'mobile_device'); SELECT cmblock.register_certificate(${\ hex_literal($phone) }, @{[ client(3) ]})";
	my ($status, $out, $err) = $site->psql('postgres', $again);
	like($err, qr/WARNING:  certificate \w+ is revoked and stays revoked/, 'registering it again warns');
	is(status($phone), 'revoked revoked_here', 'and it stays revoked');
	is(sql($site, "SELECT reason FROM cmblock.check_access(@{[ client(3) ]}, ${\ hex_literal($phone) })"), 'certificate_revoked', 'in decisions, too');
	my $renewed = der_leaf($root, 'pc3', serial => '4F03', key => $phone->{key});
	like(sql($site, "SELECT reasons FROM cmblock.check_access(@{[ client(3) ]}, ${\ hex_literal($renewed) })"), qr/certificate_revoked/, 'also under a new certificate for its key');
	sql($site, "UPDATE cmblock.certificate SET revoked_at = NULL");
	is(status($phone), 'revoked revoked_here', 'no statement takes it back');
	sql($site, "SELECT cmblock.set_crl_policy('$root->{sha256}', policy => 'off')");
	is(sql($site, "SELECT reason FROM cmblock.check_access(@{[ client(3) ]}, ${\ hex_literal($phone) })"), 'certificate_revoked', 'nor a policy');

	sql($site, "SELECT cmblock.register_client(@{[ client(5) ]}, 'tablet', 'computer')");
	sql($site, "SELECT cmblock.register_certificate(${\ hex_literal($cert[6]) }, @{[ client(5) ]})");
	sql($site, "SELECT cmblock.delete_client(@{[ client(5) ]})");
	sql($site, "SELECT cmblock.register_client(@{[ client(5) ]}, 'tablet', 'mobile_device')");
	sql($site, "SELECT cmblock.delete_client(@{[ client(5) ]})");
	is(status($cert[6]), 'revoked revoked_here', 'certificates that were deleted before it became a mobile device');
};

subtest 'a mobile device, at every site' => sub {
	my %tree = hierarchy('CEN', 'P02');
	my $phone = der_leaf($root, 'phone', serial => '4A01');
	my $ask = "SELECT status, reason FROM cmblock.revocation_status('\\x$phone->{sha256}')";

	sql($tree{P02}, "SELECT cmblock.register_client(@{[ client(3) ]}, 'phone', 'mobile_device')");
	sql($tree{P02}, "SELECT cmblock.register_certificate(${\ hex_literal($phone) }, @{[ client(3) ]})");
	wait_until($tree{CEN}, $ask, 'the central site knows the certificate', 'unknown|untrusted');
	sql($tree{P02}, "SELECT cmblock.delete_client(@{[ client(3) ]})");
	wait_until($tree{CEN}, $ask, 'and learns that it is revoked', 'revoked|revoked_here');
	$_->stop foreach values %tree;
};

subtest 'who checks what' => sub {
	my $kinds = { 10 => 'computer', 11 => 'mac', 12 => 'mobile_device' };
	my $ask = sub { sql($site, "$_[0] SELECT string_agg(checker || ' ' || certificates || ' ' || checks, ', ' ORDER BY checker DESC) FROM cmblock.crl_checking(@{[ client($_[1]) ]})") };

	sql($site, "SELECT cmblock.register_client(@{[ client($_) ]}, 'c$_', '$kinds->{$_}')") foreach sort keys %$kinds;
	is($ask->('', 10), 'site client true, client site_system true', 'Windows, as the site says');
	is($ask->('SET cmblock.clients_check_crl = off;', 10), 'site client true, client site_system false', 'Windows, where it is off');
	is($ask->('SET cmblock.clients_check_crl = off;', 11), 'site client true, client site_system true', 'a Mac, always');
	is($ask->('', 12), 'site client true, client site_system false', 'a mobile device, never');
	sql_fails($site, "SELECT cmblock.crl_checking(@{[ client(99) ]})", '42704', qr/not known/, 'an unknown client');
};

subtest 'reports' => sub {
	my ($blocked, $both, $revoked, $neither) = @cert[ 7, 8, 9, 2 ];

	fresh($root);
	sql($site, "SELECT cmblock.register_client(@{[ client($_) ]}, 'r$_')") foreach 20 .. 23;
	sql($site, "SELECT cmblock.register_certificate(${\ hex_literal($_->[0]) }, @{[ client($_->[1]) ]})")
	  foreach [ $blocked, 20 ], [ $both, 21 ], [ $revoked, 22 ], [ $neither, 23 ];
	sql($site, "SELECT cmblock.block_client(@{[ client($_) ]})") foreach 20, 21;
	take(der_crl($root, revoked => [ '4008', { serial => '4009', reason => 1 } ]));
	is(sql($site, 'SELECT certificate, serial, name, status FROM cmblock.blocked_not_revoked'), "$blocked->{sha256}|4007|r20|good", 'blocked and not revoked');
	is(sql($site, "SELECT certificate, name, reason, revocation_reason FROM cmblock.revoked_not_blocked WHERE reason = 'revoked'"),
		"$revoked->{sha256}|r22|revoked|keyCompromise", 'revoked and not blocked');
	sql($site, "SELECT cmblock.block_certificate('$revoked->{sha256}')");
	is(sql($site, "SELECT count(*) FROM cmblock.revoked_not_blocked WHERE reason = 'revoked'"), '0', 'a blocked certificate is enough');
	sql($site, "CREATE ROLE auditor LOGIN; SELECT cmblock.grant_privilege('auditor', 'reader')");
	is(sql($site, 'SET ROLE auditor; SELECT count(*) FROM cmblock.blocked_not_revoked'), '1', 'a reader may read them');
};

# Whoever takes a CRL in has found its signer in the trust list, and verifies the signature: a list that has changed by then must not
# be the end of the one that has the signer.
subtest 'the trust list changes while a signature is verified' => sub {
	my $crl = der_crl($root, revoked => [ map { sprintf '%08X', 0x10000000 + $_ } 1 .. 30_000 ]);
	my $administrator = session($site);
	my $checker = session($site);
	my $for_a_while = sub { return "DO \$\$ DECLARE rounds int := 0; ends timestamptz := clock_timestamp() + '4 s'; BEGIN "
		  . "WHILE clock_timestamp() < ends LOOP rounds := rounds + 1; $_[0]; COMMIT; END LOOP; RAISE NOTICE 'went round: %', rounds > 5; END \$\$"; };

	fresh($root);
	sql($site, "CREATE TABLE large AS SELECT ${\ hex_literal($crl) } AS crl");
	say($administrator, $for_a_while->("PERFORM cmblock.set_crl_policy('$root->{sha256}', base_grace => make_interval(secs => rounds))"));
	say($checker, $for_a_while->("PERFORM FROM large, LATERAL cmblock.check_crl(crl) WHERE outcome = 'refused'; ASSERT NOT FOUND"));
	like(answer($_), qr/^NOTICE:  00000: went round: t$/m, 'no session was lost') foreach $checker, $administrator;
	leave($checker, $administrator);
	sql_is($site, 'SELECT outcome, entries FROM large, LATERAL cmblock.import_crl(crl)', 'accepted|30000', 'and the CRL is taken in');
};

done_testing();
