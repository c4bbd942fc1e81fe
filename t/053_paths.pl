# The path from a certificate up to the trust list, where it decides on a status: whom a CA of the list may have issued, and whose
# status can be known at all. (NIST's suite has the same, in t/055_pkits.pl, where its certificates are installed.)
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockTest;
use CrlTest;
use Der;
use Test::More;

my $site = crl_site('paths', code => 'P01', kind => 'primary');
my $root = der_ca('Root', name => dn('O=Test', 'CN=Root'));
my $client = "'GUID:00000000-0000-0000-0000-000000000043'";

sql($site, "SELECT cmblock.register_client($client, 'pc43')");

sub access_of
{
	return sql($site, "SELECT allowed, reason FROM cmblock.check_access($client, ${\ hex_literal($_[0]) })");
}

sub add { return run_sql("SELECT cmblock.add_certificate_authority(${\ hex_literal($_[0]) }) IS NOT NULL"); }

subtest 'a CA whose key OpenSSL cannot read' => sub {
	# An elliptic curve that nobody knows.
	my $spki = seq(seq(oid('1.2.840.10045.2.1'), oid('1.3.6.1.4.1.99999.1')), bit_string("\x04" . 'x' x 64));
	my $strange = der_ca('Strange', spki => $spki, issuer => $root);

	fresh($root);
	like(add($strange), qr/^22023 certificate "CN=Strange" cannot be a certificate authority \| OpenSSL cannot read its public key/, 'is not taken');
	# Nor does it harm where it stands in the table.
	sql($site, "UPDATE cmblock.certificate_authority SET der = ${\ hex_literal($strange) }");
	like(take(der_crl($strange)), qr/^22023 the signature of the CRL of "CN=Strange" cannot be accepted \| OpenSSL cannot read the public key/, 'no CRL is of it');
	is(status(der_leaf($strange, 'pc1')), 'unknown untrusted', 'no certificate either');
};

subtest 'a CA that a CA of the list is said to have issued, and did not' => sub {
	my %forgery = (issuer => { %$root, key => der_key() }, no_key_id => 1);
	my $forged = der_ca('Forged', %forgery, more => [ authority_key($root->{key}) ]);
	my $older = der_ca('Older', %forgery);
	my $leaf = der_leaf($forged, 'pc1');

	fresh($root);
	like(add($forged), qr/^22023 .* \| It names "CN=Root,O=Test" of the trust list as its issuer, and its signature was not made with that CA's key/, 'is refused');
	fresh($forged);
	take(der_crl($forged));
	is(status($leaf), 'good', 'without that CA in the list it is an anchor');
	trust($root);
	take(der_crl($root));
	is(status($leaf), 'unknown untrusted', 'and with it, it is not');
	like(detail($leaf, 'detail'), qr/names a CA of the trust list as its issuer/, 'the detail says why');
	is(access_of($leaf), 'f|certificate_untrusted', 'nor does a decision trust it');
	trust($older);
	take(der_crl($older));
	is(status(der_leaf($older, 'pc2')), 'good', 'one that names no key may have been issued with an older one of that CA');
};

subtest 'a CA without basic constraints' => sub {
	my $sign = key_usage(5, 6);
	my $old_root = der_leaf(undef, 'Old root', name => dn('CN=Old root'), extensions => [$sign]);
	my $below = der_leaf($old_root, 'Below', extensions => [$sign]);
	my $next = der_leaf($old_root, 'Old root', name => $old_root->{name}, extensions => [$sign]);

	fresh($old_root);
	take(der_crl($old_root));
	is(status(der_leaf($old_root, 'pc1')), 'good', 'can be a root');
	trust($below);
	take(der_crl($below));
	is(status(der_leaf($below, 'pc2')), 'unknown untrusted', 'but not below another CA');
	like(detail(der_leaf($below, 'pc2'), 'detail'), qr/does not say that it is a CA, and is no root/, 'the detail says why');
	trust($next);
	is(status(der_leaf($next, 'pc3')), 'good', 'unless it is the next key of the same CA');
	take(der_crl($old_root, number => 2, revoked => [ $next->{serial} ]));
	is(status(der_leaf($next, 'pc3')), 'revoked ca_revoked', 'which the CA may revoke');
};

subtest 'policy constraints' => sub {
	my ($p, $q) = map { seq(seq(oid("1.3.6.1.4.1.99999.2.$_"))) } 1, 2;
	my $policies = sub { extension('2.5.29.32', 0, $_[0]) };
	# requireExplicitPolicy after this many certificates
	my $explicit = sub { extension('2.5.29.36', 1, seq("\x80\x01" . chr $_[0])) };
	my $ca = der_ca('Explicit', issuer => $root, more => [ $policies->($p), $explicit->(0) ]);
	my $later = der_ca('Later', issuer => $root, more => [ $policies->($p), $explicit->(1) ]);
	my $leaf = sub { my ($issuer, @policy) = @_; der_leaf($issuer, 'pc', extensions => [ map { $policies->($_) } @policy ]) };

	fresh($root, $ca, $later);
	take(der_crl($_)) foreach $root, $ca, $later;
	is(status($leaf->($ca, $p)), 'good', 'a policy that is valid for the whole path');
	is(access_of($leaf->($ca, $p)), 't|', 'and a decision lets it in');
	is(status($leaf->($ca, $q)), 'unknown untrusted', 'another policy');
	is(status($leaf->($ca)), 'unknown untrusted', 'none');
	is(access_of($leaf->($ca)), 'f|certificate_untrusted', 'and a decision refuses it');
	like(detail($leaf->($ca), 'detail'), qr/wants a certificate policy/, 'the detail says why');
	is(status($leaf->($later)), 'unknown untrusted', 'wanted one certificate later: of the leaf');
	is(status($leaf->($root)), 'good', 'nobody wants one of those that the root issued');
	my $itself = der_leaf($root, 'pc', extensions => [ $explicit->(0) ]);
	is(status($itself), 'unknown untrusted', 'a certificate that wants one and has none');
	is(access_of($itself), 'f|certificate_untrusted', 'once') for 1 .. 2;
	my $anchor = der_ca('Anchor', more => [ $explicit->(0) ]);
	trust($anchor);
	take(der_crl($anchor));
	is(status(der_leaf($anchor, 'pc')), 'good', 'what an anchor says of policies does not count');
};

subtest 'cross-certificates: one good path is enough' => sub {
	my $now = time;

	# The path through the CA that lasts longer is tried first.
	foreach my $days ([ 300, 200 ], [ 200, 300 ])
	{
		my @top = map { der_ca("R$_", name => dn("CN=R$_")) } 1, 2;
		my $key = der_key();
		my @cross = map { der_ca('X', name => dn('CN=X'), key => $key, issuer => $top[$_], serial => "1$_", not_after => $now + $days->[$_] * 86400) } 0, 1;
		my $leaf = der_leaf($cross[0], 'pc1', serial => '20');
		my $order = "the first lasts $days->[0] days, the second $days->[1]";

		fresh(@top, @cross);
		take(der_crl($cross[0]));
		is(status($leaf), 'unknown crl_missing', "$order: no CRL of either root");
		take(der_crl($top[1]));
		is(status($leaf), 'good', 'one of the second');
		is(access_of($leaf), 't|', 'a decision lets it in');
		take(der_crl($top[0], revoked => ['10']));
		is(status($leaf), 'good', 'the first root took its cross-certificate back');
		take(der_crl($top[1], number => 2, revoked => ['11']));
		is(status($leaf), 'revoked ca_revoked', 'both did');
		is(access_of($leaf), 'f|certificate_revoked', 'a decision refuses it');
		sql($site, "SELECT cmblock.remove_crl(sha256) FROM cmblock.crl WHERE issuer = 'CN=R1'");
		is(status($leaf), 'revoked ca_revoked', 'the second did, of the first nobody knows');
		take(der_crl($top[0], number => 2));
		is(status($leaf), 'good', 'the first gave it back');
		take(der_crl($cross[0], number => 2, revoked => ['20']));
		is(status($leaf), 'revoked revoked', 'the certificate itself is revoked on every path');
	}
};

subtest 'outside of its validity nobody is good' => sub {
	my $now = time;
	my $cert = der_leaf($root, 'pc1', serial => '43', not_before => $now - 1000, not_after => $now + 1000);

	fresh($root);
	take(der_crl($root));
	is(status($cert), 'good', 'within it');
	is(status($cert, $now + 2000), 'unknown certificate_expired', 'CAs take what has expired off their CRLs');
	like(detail($cert, 'detail', $now + 2000), qr/^It expired at .*, and CRLs do not list what has expired\.$/, 'as the detail says');
	is(status($cert, $now - 2000), 'unknown certificate_not_yet_valid', 'before it');
	sql($site, "SELECT cmblock.register_certificate(${\ hex_literal($cert) }, $client)");
	is(status($cert, $now + 2000), 'unknown certificate_expired', 'a registered one');
	is(sql($site, "SELECT reasons FROM cmblock.check_access($client, ${\ hex_literal($cert) }, at => to_timestamp($now + 2000))"),
		'{certificate_expired}', 'a decision says it once');
	take(der_crl($root, number => 2, revoked => ['43']));
	is(status($cert, $_), 'revoked revoked', 'revoked is revoked') foreach $now + 2000, $now - 2000;
};

done_testing();
