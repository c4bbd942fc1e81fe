# The path from a certificate up to the trust list, where it decides on a status: whom a CA of the list may have issued, and whose
# status can be known at all. (NIST's suite has the same, in t/051_pkits.pl, where its certificates are installed.)
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

done_testing();
