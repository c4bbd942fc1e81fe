# Which certificates a CRL covers, for which reasons, up the chain, and with what evidence: rules 27 to 35 of
# docs/revocation.md, each under its number. The cases are those of PKITS 4.14 and 4.15, made here.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockTest;
use CrlTest;
use Der;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $day = 86400;
my $now = time;
my $site = crl_site('scopes', code => 'P01', kind => 'primary');
my $root = der_ca('Root', name => dn('O=Test', 'CN=Root'));
my $basic = extension('2.5.29.19', 1, seq(boolean(1)));

# A certificate of the root with these distribution points.
sub with_points
{
	my (@points) = @_;

	return der_leaf($root, 'pc1', serial => '05', extensions => [ dist_points(@points) ]);
}

# The CRL of an issuer with this issuing distribution point; the number keeps series apart that are taken in one after another.
sub partition
{
	my ($ca, $idp, @options) = @_;

	return der_crl($ca, extensions => [ idp(@$idp) ], @options);
}

subtest 'rule 27: user certificates, CA certificates, attribute certificates' => sub {
	my $middle = der_ca('Middle', issuer => $root, serial => '10');
	my $user = der_leaf($root, 'user', serial => '05');
	my $explicit = der_leaf($root, 'explicit', serial => '06', extensions => [ extension('2.5.29.19', 1, seq()) ]);
	my $ancient = der_leaf($root, 'ancient', serial => '07', version => 1);

	fresh($root);
	take(partition($root, [ user => 1 ], revoked => ['06']));
	is(status($user), 'good', 'onlyContainsUserCerts: a user');
	is(status($explicit), 'revoked revoked', 'a user that says that it is no CA');
	is(status($middle), 'unknown partition_not_held', 'a CA');
	is(status($ancient), 'unknown partition_not_held', 'a certificate of version 1 is never covered');
	fresh($root);
	take(partition($root, [ ca => 1 ], revoked => [ '05', '10' ]));
	is(status($middle), 'revoked revoked', 'onlyContainsCACerts: a CA');
	is(status($user), 'unknown partition_not_held', 'a user');
	is(status($explicit), 'unknown partition_not_held', 'a user that says so');
	is(status($ancient), 'unknown partition_not_held', 'version 1');
	like(detail($user, 'detail'), qr/only certificates of CAs/, 'the detail says what is held');
	fresh($root);
	take(partition($root, [ attribute => 1 ], revoked => ['05']));
	is(status($user), 'unknown partition_not_held', 'onlyContainsAttributeCerts: nobody');
	is(status($middle), 'unknown partition_not_held', 'no CA either');
	take(partition($root, [ user => 1 ]));
	is(status($user), 'good', 'a second CRL for users');
	take(partition($root, [ ca => 1 ]));
	is(status($middle), 'good', 'and a third for CAs');
};

subtest 'rule 28: distribution points' => sub {
	my ($one, $two) = ('http://crl.test/1', 'http://crl.test/2');
	my @dp = ('O=Test', 'OU=CRLs', 'CN=1');
	my %cert = (
		none => der_leaf($root, 'pc1', serial => '05'),
		one => with_points(dist_point(name => full_name(uri($one)))),
		two => with_points(dist_point(name => full_name(uri($two)))),
		names => with_points(dist_point(name => full_name(uri($two), uri('ldap:///x'), uri($one)))),
		points => with_points(dist_point(name => full_name(uri($two))), dist_point(name => full_name(uri($one)))),
		directory => with_points(dist_point(name => full_name(directory(@dp)))),
		relative => with_points(dist_point(name => relative_name('CN=part'))),
		whole => with_points(dist_point(name => full_name(directory('O=Test', 'CN=Root', 'CN=part')))),
		root => with_points(dist_point(name => full_name(directory('O=Test', 'CN=Root')))));
	my $expect = sub {
		my ($name, $crl, @good) = @_;
		my %good = map { $_ => 1 } @good;

		fresh($root);
		is(take($crl->()), 'accepted', $name);
		is(status($cert{$_}), $good{$_} ? 'good' : 'unknown partition_not_held', "$name: certificate with $_")
		  foreach sort keys %cert;
		fresh($root);
		take($crl->(revoked => ['05']));
		is(status($cert{$_}), $good{$_} || $name =~ /^the issuer's/ ? 'revoked revoked' : 'unknown partition_not_held', "$name, revoked: certificate with $_")
		  foreach sort keys %cert;
	};

	$expect->('no issuing distribution point', sub { der_crl($root, @_) }, keys %cert);
	$expect->('no name in it', sub { partition($root, [ indirect => 1 ], @_) }, keys %cert);
	$expect->('a URL', sub { partition($root, [ name => full_name(uri($one)) ], @_) }, 'one', 'names', 'points');
	$expect->('two URLs', sub { partition($root, [ name => full_name(uri($one), uri($two)) ], @_) }, 'one', 'two', 'names', 'points');
	$expect->('a directory name', sub { partition($root, [ name => full_name(directory(@dp)) ], @_) }, 'directory');
	$expect->('a relative name', sub { partition($root, [ name => relative_name('CN=part') ], @_) }, 'relative', 'whole');
	$expect->('that name in full', sub { partition($root, [ name => full_name(directory('O=Test', 'CN=Root', 'CN=part')) ], @_) }, 'relative', 'whole');
	# RFC 5280 lets it cover all of the issuer's; here, of those that say themselves where to look, it only revokes.
	$expect->('the issuer\'s name', sub { partition($root, [ name => full_name(directory('O=Test', 'CN=Root')) ], @_) }, 'none', 'root');
	is(status(der_leaf($root, 'pc1', extensions => [ extension('2.5.29.31', 0, 'garbage') ])), 'unknown certificate_malformed', 'distribution points that are garbage');
	$expect->('another relative name', sub { partition($root, [ name => relative_name('CN=other') ], @_) });
};

subtest 'rule 29: only some reasons' => sub {
	# keyCompromise and cACompromise are bits 1 and 2
	my ($first, $second) = ([ reasons => [ 1, 2 ] ], [ reasons => [ 3 .. 8 ] ]);
	my $cert = der_leaf($root, 'pc1', serial => '05');
	my $url = sub { full_name(uri("http://crl.test/$_[0]")) };
	my $split = with_points(
		dist_point(name => $url->(1), reasons => [ 1, 2 ]),
		dist_point(name => $url->(2), reasons => [ 3 .. 8 ]));

	fresh($root);
	is(take(partition($root, $first)), 'accepted', 'some reasons');
	is(status($cert), 'unknown reasons_not_covered', 'are not enough');
	is(take(partition($root, [ reasons => [ 3 .. 7 ] ])), 'accepted', 'all but one');
	is(status($cert), 'unknown reasons_not_covered', 'are not enough');
	is(take(partition($root, $second)), 'accepted', 'the others');
	is(status($cert), 'good', 'together they are');
	is(sql($site, 'SELECT count(DISTINCT scope) FROM cmblock.crl'), '3', 'each is a series of its own');
	take(partition($root, $first, number => 2, revoked => [ { serial => '05', reason => 1 } ]));
	is(status($cert), 'revoked revoked', 'revoked by the first');
	fresh($root);
	take(partition($root, $first));
	take(partition($root, $second, revoked => [ { serial => '05', reason => 6 } ]));
	is(status($cert), 'revoked revoked', 'revoked by the second');
	fresh($root);
	take(partition($root, $first, this_update => $now - 3 * $day, next_update => $now - $day));
	take(partition($root, $second));
	is(status($cert), 'unknown reasons_not_covered', 'an expired one covers nothing');
	fresh($root);
	take(partition($root, [ name => $url->(1), @$first ]));
	is(status($split), 'unknown reasons_not_covered', 'reasons split over two distribution points: one held');
	take(partition($root, [ name => $url->(2), @$second ]));
	is(status($split), 'good', 'both held');
	fresh($root);
	take(partition($root, [ name => $url->(1) ]));
	is(status($split), 'unknown reasons_not_covered', 'the certificate\'s own limit counts, too');
	take(partition($root, [ name => $url->(2) ]));
	is(status($split), 'good', 'both');
	fresh($root);
	take(partition($root, [ name => $url->(1), @$second ]));
	take(partition($root, [ name => $url->(2), @$first ]));
	is(status($split), 'unknown partition_not_held', 'limits that have nothing in common cover nothing');
};

subtest 'rule 30: indirect CRLs' => sub {
	my $issuer = der_ca('CRL issuer', name => dn('O=Test', 'CN=CRL issuer'), issuer => $root, serial => '30', crl_only => 1);
	my $ca = der_ca('Issuing', name => dn('O=Test', 'CN=Issuing'), issuer => $root, serial => '31', usage => [5]);
	my $other = der_ca('Other', name => dn('O=Test', 'CN=Other'), issuer => $root, serial => '32', usage => [5]);
	my $named = directory('O=Test', 'CN=CRL issuer');
	my $point = dist_point(issuer => [$named]);
	my $make = sub { my ($ca, $serial, @points) = @_; der_leaf($ca, "pc$serial", serial => $serial, extensions => [ @points ? dist_points(@points) : () ]) };
	my %cert = (
		5 => $make->($ca, '05', $point), 6 => $make->($ca, '06', $point),
		other5 => $make->($other, '05', $point), other6 => $make->($other, '06', $point),
		unnamed => $make->($ca, '07'));
	my $of = sub { my ($serial, $ca) = @_; return { serial => $serial, extensions => $ca ? [ certificate_issuer(context(4, $ca->{name})) ] : [] } };
	my @entries = ($of->('05', $ca), $of->('08'), $of->('06', $other), $of->('09'));

	fresh($root, $issuer, $ca, $other);
	take(der_crl($root));
	refused(der_crl($issuer, revoked => \@entries), '22023', qr/issuer/i, 'certificateIssuer in a direct CRL');
	is(take(partition($issuer, [ indirect => 1 ], revoked => \@entries)), 'accepted', 'in an indirect one');
	is(status($cert{5}), 'revoked revoked', 'an entry with its issuer');
	is(status($cert{6}), 'good', 'not listed under its issuer');
	is(status($cert{other5}), 'good', 'listed, but under another issuer');
	is(status($cert{other6}), 'revoked revoked', 'an entry of the second issuer');
	is(status($make->($ca, '08', $point)), 'revoked revoked', 'the first issuer holds for the entry that follows');
	is(status($make->($other, '09', $point)), 'revoked revoked', 'and the second for the one after it');
	is(status($make->($ca, '09', $point)), 'good', 'and the first no more');
	is(status($cert{unnamed}), 'unknown crl_missing', 'a certificate that does not name the CRL issuer');
	fresh($root, $issuer, $ca);
	take(der_crl($root));
	take(der_crl($issuer));
	is(status($cert{5}), 'unknown crl_missing', 'a CRL that is not marked as indirect');
	fresh($root, $ca);
	take(der_crl($root));
	is(status($cert{5}), 'unknown crl_missing', 'without the CRL issuer in the trust list');
	like(take(partition($issuer, [ indirect => 1 ])), qr/^42704/, 'whose CRL is refused then');

	# Entries without certificateIssuer are the CRL issuer's own.
	my $both = der_ca('Both', issuer => $root, serial => '33');
	my $own = $make->($both, '05');
	fresh($root, $both, $ca);
	take(der_crl($root));
	take(partition($both, [ indirect => 1 ], revoked => [ $of->('05'), $of->('06', $ca) ]));
	is(status($own), 'revoked revoked', 'an entry before any certificateIssuer');
	is(status($make->($both, '06')), 'good', 'an entry of somebody else');
	is(status($make->($ca, '06', dist_point(issuer => [ directory('CN=Both') ]))), 'revoked revoked', 'which is somebody else\'s');

	# Names of distribution points together with the CRL issuer's.
	my $part = sub { return dist_point(name => $_[0], issuer => [$named]) };
	my $relative = $make->($ca, '05', $part->(relative_name('CN=1')));
	my $full = $make->($ca, '05', $part->(full_name(directory('O=Test', 'CN=CRL issuer', 'CN=1'))));
	my $else = $make->($ca, '05', $part->(full_name(directory('O=Test', 'CN=CRL issuer', 'CN=2'))));
	my $direct = $make->($ca, '05', dist_point(name => relative_name('CN=1')));
	fresh($root, $issuer, $ca);
	take(der_crl($root));
	take(partition($issuer, [ name => relative_name('CN=1'), indirect => 1 ]));
	is(status($relative), 'good', 'a name that is relative to the CRL issuer');
	is(status($full), 'good', 'the same in full');
	is(status($else), 'unknown crl_missing', 'another name');
	is(status($direct), 'unknown crl_missing', 'the relative name without the CRL issuer is another one');
	is(status($cert{5}), 'unknown crl_missing', 'the CRL issuer without a name is not that name');
	take(partition($issuer, [ name => full_name($named), indirect => 1 ]));
	is(status($cert{5}), 'good', 'but its own name is');

	# The certificate of the CRL issuer is covered by the CRL that it signs, and by nothing else.
	my $circular = der_ca('CRL issuer', name => dn('O=Test', 'CN=CRL issuer'), issuer => $root, serial => '34', crl_only => 1, more => [ dist_points($point) ]);
	fresh($root, $circular, $ca);
	take(partition($root, [ ca => 1 ]));
	take(partition($circular, [ indirect => 1 ]));
	is(status($cert{5}), 'good', 'a CRL issuer that answers for itself');
	take(partition($circular, [ indirect => 1 ], number => 2, revoked => [ $of->('34', $root) ]));
	is(status($cert{5}), 'unknown signer_revoked', 'unless it says that it is revoked');
};

subtest 'rule 31: a partition that is not held is unknown' => sub {
	my $url = sub { 'http://crl.test/part' . $_[0] };
	my @cert = map { with_points(dist_point(name => full_name(uri($url->($_))))) } 0 .. 2;

	fresh($root);
	take(partition($root, [ name => full_name(uri($url->(0))) ], number => 7));
	take(partition($root, [ name => full_name(uri($url->(1))) ], number => 3, revoked => ['05']));
	is(status($cert[0]), 'good', 'its partition is held');
	is(status($cert[1]), 'revoked revoked', 'another one');
	is(status($cert[2]), 'unknown partition_not_held', 'a third is not');
	is(sql($site, "SELECT string_agg(partition, ', ' ORDER BY partition) FROM cmblock.crl"),
		'distribution point http://crl.test/part0, distribution point http://crl.test/part1', 'the table tells them apart');
	is(take(partition($root, [ name => full_name(uri($url->(1))) ], number => 4)), 'accepted', 'each has numbers of its own');
};

subtest 'rule 32: the whole chain' => sub {
	my $top = der_ca('Top', issuer => $root, serial => '20');
	my $low = der_ca('Low', issuer => $top, serial => '21');
	my $leaf = der_leaf($low, 'pc1', serial => '05');

	fresh($root, $top, $low);
	take(der_crl($low));
	is(status($leaf), 'unknown crl_missing', 'only the leaf is known to be good');
	like(detail($leaf, 'detail'), qr/CA "CN=Low" above it is unknown/, 'the detail says who is not');
	take(der_crl($top));
	is(status($leaf), 'unknown crl_missing', 'the CA above it, too');
	take(der_crl($root));
	is(status($leaf), 'good', 'all of them');
	take(der_crl($root, number => 2, revoked => ['20']));
	is(status($leaf), 'revoked ca_revoked', 'the highest intermediate is revoked');
	is(status($low), 'revoked ca_revoked', 'and everything below it');
	is(status($top), 'revoked revoked', 'itself');
	like(detail($leaf, 'detail'), qr/CA "CN=Top,?.*" above it is revoked/, 'the detail says who');
	sql($site, "DELETE FROM cmblock.crl WHERE issuer IN ('CN=Low', 'CN=Top')");
	is(status($leaf), 'revoked ca_revoked', 'revoked wins over unknown');
	fresh($top, $low);
	take(der_crl($low));
	take(der_crl($top));
	is(status($leaf), 'good', 'an intermediate whose issuer is not in the list is the anchor');
};

subtest 'rule 33: three values with the evidence' => sub {
	my $cert = der_leaf($root, 'pc1', serial => '05');

	fresh($root);
	is(detail($cert, 'status, crl, evidence IS NOT NULL'), 'unknown||t', 'unknown');
	take(der_crl($root, number => 41, this_update => $now - 3600, next_update => $now + $day));
	take(der_crl($root, number => 42, base => 41, this_update => $now - 600, next_update => $now + 7200,
			revoked => [ { serial => '06', reason => 1, at => $now - 1000 } ]));
	is(detail($cert, "status, reason, crl_number, delta_number, extract(epoch FROM this_update)::bigint, extract(epoch FROM next_update)::bigint,
		extract(epoch FROM delta_this_update)::bigint, extract(epoch FROM delta_next_update)::bigint, signer, source, age", $now),
		join('|', 'good', '', 41, 42, $now - 3600, $now + $day, $now - 600, $now + 7200, $root->{sha256}, 'import_crl', '00:10:00'), 'good');
	is(detail(der_leaf($root, 'pc2', serial => '06'), 'status, reason, revocation_reason, extract(epoch FROM revoked_at)::bigint, delta_number'),
		join('|', 'revoked', 'revoked', 'keyCompromise', $now - 1000, 42), 'revoked');
	my $evidence = decode_json(detail($cert, 'evidence'));
	is(scalar @$evidence, 1, 'an element for the certificate');
	is($evidence->[0]{status}, 'good', 'with its status');
	is($evidence->[0]{crl}{number}, 41, 'the full CRL');
	is($evidence->[0]{delta}{number}, 42, 'and the delta CRL');
	is(detail({ der => 'garbage' }, 'status, reason'), 'unknown|certificate_malformed', 'octets that are no certificate');
	is(detail({ der => "\1" x 32 }, 'status, reason'), 'unknown|certificate_unknown', 'a thumbprint of nobody');
	is(detail(der_leaf(undef, 'self'), 'status, reason'), 'unknown|untrusted', 'a certificate of nobody');
	is(sql($site, "SELECT cmblock.revocation_status(NULL) IS NULL"), 't', 'nothing');
};

subtest 'rule 34: unavailable and revoked are different reasons everywhere' => sub {
	my $cert = der_leaf($root, 'pc34', serial => '0534');
	my $client = "'GUID:00000000-0000-0000-0000-000000000034'";
	my $ask = sub { return sql($site, "SELECT allowed, reason FROM cmblock.check_access($client, ${\ hex_literal($cert) })") };

	fresh($root);
	sql($site, "SELECT cmblock.register_client($client, 'pc34'); SELECT cmblock.register_certificate(${\ hex_literal($cert) }, $client)");
	is($ask->(), 'f|crl_unavailable', 'required, and there is none');
	sql($site, "SELECT cmblock.set_crl_policy('$root->{sha256}', policy => 'best_effort')");
	is($ask->(), 't|', 'best_effort');
	is(sql($site, "SELECT warnings FROM cmblock.check_access($client, ${\ hex_literal($cert) })"), '{crl_unavailable}', 'with a warning');
	take(der_crl($root, revoked => [ { serial => '0534', reason => 1 } ]));
	is($ask->(), 'f|certificate_revoked', 'revoked refuses there, too');
	sql($site, "SELECT cmblock.set_crl_policy('$root->{sha256}', policy => 'off')");
	is($ask->(), 't|', 'off asks nobody');
	is(status($cert), 'revoked revoked', 'while the status is what it is');
	sql($site, "SELECT cmblock.set_crl_policy('$root->{sha256}', policy => 'required')");
	like(run_sql("SELECT cmblock.set_crl_policy('$root->{sha256}', $_ => '-1 s')"), qr/^22023.*"$_" of set_crl_policy cannot be negative/, "no negative $_")
	  for qw(base_grace delta_grace max_age);
	like(sql($site, "SELECT answer, reason, detail FROM cmblock.explain_access($client, ${\ hex_literal($cert) }) WHERE reason = 'certificate_revoked'"),
		qr/^refused\|certificate_revoked\|.*revoked it at .*keyCompromise/, 'explain_access says by whom, when and why');
	is(sql($site, "SELECT status, reason FROM cmblock.revocation_status('\\x$cert->{sha256}')"), 'revoked|revoked', 'by thumbprint, too');
};

subtest 'rule 35: a CRL from which entries vanished is held back' => sub {
	my @serials = map { sprintf '%04X', 0x1000 + $_ } 1 .. 20;
	my $cert = der_leaf($root, 'pc1', serial => $serials[0]);
	my $accidental = der_crl($root, number => 2);

	fresh($root);
	take(der_crl($root, revoked => \@serials));
	is(run_sql("SELECT outcome, detail FROM cmblock.import_crl(${\ hex_literal($accidental) })"),
		'held_back|20 of the 20 entries in force are not in it, and no delta CRL removed them (rule 35).', 'an empty CRL');
	is(status($cert), 'revoked revoked', 'the CRL before it stays in force');
	is(sql($site, "SELECT state, number FROM cmblock.crl ORDER BY number"), "current|1\nheld_back|2", 'both are there');
	is(take($accidental), 'held_back', 'the same again');
	is(take(der_crl($root, number => 3, revoked => [ @serials[ 0 .. 18 ] ])), 'accepted', 'the next one lacks one entry, as one expired');
	is(sql($site, "SELECT state, number FROM cmblock.crl ORDER BY number"), 'current|3', 'and replaces both');
	like(run_sql("SELECT cmblock.accept_crl('${\ uc Digest::SHA::sha256_hex($accidental) }')"), qr/^42704/, 'what is gone cannot be let in');

	$accidental = der_crl($root, number => 4);
	my $hash = uc Digest::SHA::sha256_hex($accidental);
	is(take($accidental), 'held_back', 'once more');
	is(run_sql("SELECT outcome, number FROM cmblock.accept_crl('$hash')"), 'accepted|4', 'a PKI administrator lets it in');
	is(status($cert), 'good', 'and it counts');
	is(run_sql("SELECT outcome, kind FROM cmblock.accept_crl('$hash')"), 'unchanged|base', 'once is enough');
	my $delta = der_crl($root, number => 5, base => 4);
	take($delta);
	is(run_sql("SELECT outcome, kind, number, base_number FROM cmblock.accept_crl('${\ uc Digest::SHA::sha256_hex($delta) }')"),
		'unchanged|delta|5|4', 'a delta CRL that is current is called one');
	is(sql($site, "SELECT number FROM cmblock.crl_scope"), '4', 'the mark has moved');

	# What may vanish: removed by a delta CRL, on hold, expired.
	fresh($root);
	take(der_crl($root, revoked => [ map { { serial => $_, reason => 6 } } @serials ]));
	is(take(der_crl($root, number => 2)), 'accepted', 'entries on hold');
	fresh($root);
	take(der_crl($root, revoked => \@serials));
	take(der_crl($root, number => 2, base => 1, revoked => [ map { { serial => $_, reason => 8 } } @serials ]));
	is(take(der_crl($root, number => 3)), 'accepted', 'entries that a delta CRL removed');
	fresh($root);
	take(der_crl($root));
	take(der_crl($root, number => 2, base => 1, revoked => \@serials));
	is(take(der_crl($root, number => 3)), 'held_back', 'entries that only a delta CRL had');
	fresh($root);
	take(der_crl($root, revoked => \@serials));
	sql($site, "SELECT cmblock.register_certificate(${\ hex_literal($_) }, type => 'boot_media')")
	  foreach map { der_leaf($root, "old$_", serial => $_, not_after => $now - 60) } @serials[ 0 .. 17 ];
	is(take(der_crl($root, number => 2)), 'accepted', 'entries of certificates that this site knows to have expired');

	fresh($root);
	take(der_crl($root, revoked => \@serials));
	is(run_sql("SET cmblock.crl_shrink_percent = 100; SELECT outcome FROM cmblock.import_crl(${\ hex_literal(der_crl($root, number => 2)) })"),
		'accepted', 'cmblock.crl_shrink_percent = 100 lets everything in');
};

subtest 'check_crl says what would happen, and changes nothing' => sub {
	my @cert = map { der_leaf($root, "media$_", serial => sprintf '%04X', 0x2000 + $_) } 1 .. 3;
	my $check = sub { run_sql("SELECT item, outcome, detail, certificate, before, after FROM cmblock.check_crl(${\ hex_literal($_[0]) })") };
	my $crl = der_crl($root, number => 2, revoked => ['2001']);

	fresh($root);
	sql($site, "SELECT cmblock.register_certificate(${\ hex_literal($_) }, type => 'boot_media')") foreach @cert;
	take(der_crl($root, revoked => ['2002']));
	is($check->($crl), "crl|accepted||||\ncertificate|changes||$cert[0]{sha256}|good|revoked\ncertificate|changes||$cert[1]{sha256}|revoked|good",
		'who would be revoked, and who released');
	is(sql($site, 'SELECT number FROM cmblock.crl'), '1', 'nothing has changed');
	is(status($cert[0]), 'good', 'also for this session');
	is(take($crl), 'accepted', 'it can be taken in afterwards');
	is($check->($crl), 'crl|unchanged||||', 'then nothing would change');
	is($check->(der_crl($root, number => 1, this_update => $now - 100)) =~ s/reset.*//r,
		'crl|refused|the CRL of "CN=Root,O=Test" is older than one that was held before: Its number is 1, and number 2 was taken in before (rule 21).|||',
		'a refusal is an answer');
	like($check->('garbage'), qr/^crl\|refused\|invalid CRL: It is neither DER/, 'also of garbage');
};

done_testing();
