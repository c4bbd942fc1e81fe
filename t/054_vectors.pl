# Certificates and CRLs that nobody here made: BoringSSL's, a Microsoft CA's, two public CAs', and the odd ones of pyca/cryptography
# (PKITS is in t/055_pkits.pl). Each case begins with an empty trust list. Where the answer is another one than the suite's
# own, docs/revocation.md says why in its table of deviations; this test wants exactly those.
#
# They lie in CMBLOCK_VECTORS, or in ../shared/crl-vectors beside the repository; those of pyca/cryptography in Debian's package
# python3-cryptography-vectors. What is absent is skipped. `make check-vectors` prints a table of the results.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockTest;
use CrlTest;
use Der;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/..";
my $vectors = $ENV{CMBLOCK_VECTORS} // "$top/../shared/crl-vectors";
my $package = '/usr/lib/python3/dist-packages/cryptography_vectors/x509/custom';
plan skip_all => "there are no vectors in $vectors, and python3-cryptography-vectors is not installed" unless -d $vectors || -d $package;

my %deviation = deviations('BoringSSL');
my %seen;
my @table;
my $site = crl_site('vectors');

SKIP:
{
	skip "there are no vectors in $vectors", 1 unless -d $vectors;
	boringssl();
	without_issuers();
}
SKIP:
{
	skip 'the package python3-cryptography-vectors is not installed', 1 unless -d $package;
	odd_ones();
}
print_table() if ($ENV{TESTS} // '') =~ /054_vectors/;
done_testing();

# Numbers are missing there, and nothing is older than a week.
sub boringssl
{
	foreach my $row (index_of('boringssl-crl'))
	{
		my ($name, $leaf, $ca, $ca2, $crl, $at, $max_age, $expected) = @$row;
		my %case = (
			authorities => [ map { "boringssl-crl/$_" } grep { $_ ne '' } $ca, $ca2 ],
			crls => ["boringssl-crl/$crl"],
			leaf => "boringssl-crl/$leaf",
			at => $at);

		judge("BoringSSL", $name, %case,
			policy => "require_number => false, max_age => '$max_age s'",
			expected => lc($expected =~ s/\(.*//r));
		# With the policies as they are by default numbers are required, and only CRLs of version 1 can do without.
		unlike((run_case(%case))[0], qr/^good/, "$name: nobody is good by a CRL of version 2 that has no number")
		  unless $name eq 'good_no_version';
	}
	is_deeply([ sort keys %seen ], [ sort keys %deviation ], 'the deviations are those of docs/revocation.md');
	return;
}

# CRLs without their issuers: read whole, and refused for that alone.
sub without_issuers
{
	foreach my $file ('adcs/microsoft-azure-tls-issuing-ca-06.crl.pem', 'public-cas/test.crl', 'public-cas/test_crl')
	{
		refused_for($file, slurp_file("$vectors/$file"), 'unknown issuer');
	}
	return;
}

# One rule of RFC 5280 each; where all are kept, what is missing is the issuer.
sub odd_ones
{
	my %wrong = (
		'cdp_crl_issuer.pem' => 'The PEM block is of another kind',
		'cdp_fullname_reasons_crl_issuer.pem' => 'The PEM block is of another kind',
		'freshestcrl.pem' => 'The PEM block is of another kind',
		'crl_all_reasons.pem' => 'An entry names a certificate issuer, but the CRL is not an indirect one. (entry 2',
		'crl_bad_version.pem' => 'The version is neither absent (v1) nor v2.',
		'crl_dup_entry_ext.pem' => 'An extension of an entry occurs twice. (entry 1',
		'crl_inval_cert_issuer_entry_ext.pem' => 'An entry names a certificate issuer, but the CRL is not an indirect one. (entry 1',
		'crl_invalid_time.der' => 'thisUpdate is not a valid time');
	# Not in Debian 12's package yet.
	my %later = ('crl_inner_outer_mismatch.der' => 'The signature algorithm inside the signed part differs from the one outside.');
	my @files = map { s/.*\///r } glob "$package/*crl*.pem $package/*crl*.der";

	is_deeply([ grep { my $known = $_; !grep { $_ eq $known } @files } sort keys %wrong ], [], 'the CRLs of pyca/cryptography are there');
	refused_for($_, slurp_file("$package/$_"), $wrong{$_} // $later{$_} // 'unknown issuer') foreach @files;
	return;
}

# Refused for its issuer, or as an invalid CRL with this in DETAIL.
sub refused_for
{
	my ($file, $octets, $why) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	fresh();
	my $answer = take($octets);
	my $as_expected = like($answer, $why eq 'unknown issuer'
		? qr/^42704 the issuer of the CRL, ".+", is not in the trust list \| No certificate there has this subject\. \|/
		: qr/^22023 invalid CRL \| \Q$why\E.* \| Fetch it again/, $file);
	push @table, [ $file, '', "refused: $why", $as_expected ? 'the same' : $answer, $as_expected ? 'ok' : 'WRONG' ];
	return;
}

sub index_of
{
	my ($suite) = @_;

	return map { [ split /\t/, $_, -1 ] } grep { /^[^#]/ } split /\r?\n/, slurp_file("$vectors/$suite/index.tsv");
}

sub judge
{
	my ($suite, $name, %case) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($status, @messages) = run_case(%case);
	my ($got, $reason) = split / /, $status;
	my $as_expected = grep { $_ eq $got } split / or /, $case{expected};
	my $known = $deviation{$name};

	if ($as_expected)
	{
		pass("$suite $name");
	}
	else
	{
		$seen{$name} = 1;
		is($got, $known ? $known->{here} : $case{expected}, "$suite $name") or diag(join "\n", $status, @messages);
		is($known->{expected}, $case{expected}, "$suite $name: docs/revocation.md says what the suite expects") if $known;
	}
	push @table, [ $suite, $name, $case{expected}, $status, $as_expected ? 'ok' : $known ? 'deviation' : 'WRONG' ];
	return;
}

# The status, and what was said on the way. Refused CRLs are part of a case: the suites mean them to be.
sub run_case
{
	my (%case) = @_;
	my ($stdout, $stderr) = ('', '');
	my @script = ('DELETE FROM cmblock.crl', 'DELETE FROM cmblock.crl_scope', 'DELETE FROM cmblock.certificate_authority');
	my $at = $case{at} ? ", to_timestamp($case{at})" : '';

	push @script, "SELECT FROM cmblock.add_certificate_authority(${\ literal($_) })" foreach @{ $case{authorities} };
	push @script, "SELECT count(cmblock.set_crl_policy(sha256, $case{policy})) > 0 FROM cmblock.certificate_authority" if $case{policy};
	push @script, "SELECT FROM cmblock.import_crl(${\ literal($_) })" foreach @{ $case{crls} };
	push @script, "SELECT 'status ' || concat_ws(' ', status, reason) FROM cmblock.revocation_status(${\ literal($case{leaf}) }$at)";
	$site->psql('postgres', join('', map { "$_;\n" } @script), stdout => \$stdout, stderr => \$stderr, on_error_stop => 0);
	my ($status) = $stdout =~ /^status (.*)/m;
	return ($status // 'none', $stderr);
}

sub literal
{
	my ($path) = @_;

	return hex_literal(slurp_file("$vectors/$path"));
}

sub print_table
{
	my %count;

	$count{ $_->[4] }++ foreach @table;
	diag('');
	diag(sprintf '%-14s %-52s %-24s %-32s %s', 'suite', 'case', 'expected', 'here', '');
	diag(sprintf '%-14s %-52s %-24s %-32s %s', @$_) foreach @table;
	diag(join ', ', map { "$count{$_} $_" } sort keys %count);
	return;
}
