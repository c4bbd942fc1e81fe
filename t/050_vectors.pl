# Certificates and CRLs that nobody here made: PKITS, BoringSSL's, a Microsoft CA's, two public CAs'. Each case begins with an empty trust
# list. Where the answer is another one than the suite's own, docs/revocation.md says why in its table of deviations; this test
# wants exactly those.
#
# They lie in CMBLOCK_VECTORS, or in ../shared/crl-vectors beside the repository. `make check-vectors` prints a table of the results.
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
plan skip_all => "there are no vectors in $vectors" unless -d $vectors;

my %deviation = read_deviations();
my %seen;
my @table;
my $site = crl_site('vectors');

# ---------- PKITS: valid is good; invalid is revoked or unknown ----------
foreach my $row (index_of('pkits'))
{
	my ($test, $name, $chain, $crls, $expected) = @$row;
	my @chain = map { "pkits/certs/$_" } split /,/, $chain;
	my $leaf = pop @chain;

	judge(
		"PKITS $test", $name,
		authorities => \@chain,
		crls => [ map { "pkits/crls/$_" } split /,/, $crls ],
		leaf => $leaf,
		expected => $expected eq 'VALID' ? 'good' : 'revoked or unknown');
}

# ---------- BoringSSL: numbers are missing there, and nothing is older than a week ----------
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

# ---------- CRLs without their issuers: read whole, and refused for that alone ----------
foreach my $file ('adcs/microsoft-azure-tls-issuing-ca-06.crl.pem', 'public-cas/test.crl', 'public-cas/test_crl')
{
	fresh();
	my $answer = take(slurp_file("$vectors/$file"));
	like($answer, qr/^42704 the issuer of the CRL, ".+", is not in the trust list/, $file);
	push @table, [ $file, '', 'refused: unknown issuer', $answer =~ /^42704/ ? 'refused: unknown issuer' : $answer, 'ok' ];
}

is_deeply([ sort keys %seen ], [ sort keys %deviation ], 'the deviations are those of docs/revocation.md');
print_table() if ($ENV{TESTS} // '') =~ /050_vectors/;
done_testing();

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

# Rows of the table "| `case` | expected | here | why |".
sub read_deviations
{
	my ($section) = slurp_file("$top/docs/revocation.md") =~ /^## Deviations.*?\n(.*?)(?=^## |\z)/ms;
	my %rows;

	while (($section // '') =~ /^\| `([^`]+)` \| `([^`]+)` \| `([^`]+)` \| (.+) \|$/mg)
	{
		$rows{$1} = { expected => $2, here => $3, why => $4 };
	}
	return %rows;
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
