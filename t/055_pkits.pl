# NIST's PKITS, the whole suite, with the settings as they are by default: a path that PKITS calls valid has the status good and
# gives access, one that it calls invalid is revoked or unknown, and gives none. Every case begins with an empty trust list.
# Where there is more than one CRL or CA to put into an order, the cases are run in other orders, too.
#
# Which certificates and CRLs make a case, and what is expected of it, is in t/pkits.tsv; the octets are in Debian's package
# python3-cryptography-vectors. Where that is not installed, those cases are run whose octets lie in CMBLOCK_VECTORS, or in
# ../shared/crl-vectors beside the repository. Deviations are those of the table in docs/revocation.md, exactly.
# `make check-vectors` prints a table of the results.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockTest;
use CrlTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/..";
my $package = '/usr/lib/python3/dist-packages/cryptography_vectors/x509/PKITS_data';
my ($data) = grep { -d "$_/certs" } $package, ($ENV{CMBLOCK_VECTORS} // "$top/../shared/crl-vectors") . '/pkits';
plan skip_all => 'the package python3-cryptography-vectors, which has the certificates and CRLs of PKITS, is not installed'
  unless $data;

my $client = "'GUID:00000000-0000-0000-0000-000000000051'";
my $site = crl_site('pkits', code => 'P01', kind => 'primary', conf => 'client_min_messages = error');
my @case = read_index();
my %deviation = deviations('PKITS');
my %found;

load();
run('in the order of the index', '^4\.', 'n');
run('the other way round', '^4\.([45]|14|15)\.', "CASE WHEN file LIKE '%.crl' THEN 1 ELSE 0 END, -n");
run('CRLs before the CAs, and once more after them', '^4\.([45]|14|15)\.', "CASE WHEN file LIKE '%.crl' THEN 0 ELSE 1 END, n", 1);

# The deviations that are in the table for one setting alone: what changes with it.
is(answers('^4\.1\.[45]$', 'n', 0, 'SET cmblock.allow_sha1 = on')->{'4.1.4'}{status}, 'good', '4.1.4: with cmblock.allow_sha1 = on');

foreach my $case (grep { $deviation{ $_->{ee} } } @case)
{
	ok($found{ $case->{ee} }, "$case->{test} $case->{ee} is a deviation, as docs/revocation.md says");
}
print_table() if ($ENV{TESTS} // '') =~ /055_pkits/;
done_testing();

# The cases whose octets are there.
sub read_index
{
	my @rows;
	my $absent = 0;

	foreach (grep { /^[^#]/ } split /\n/, slurp_file("$FindBin::RealBin/pkits.tsv"))
	{
		my ($test, $expected, $ee, $others, $crls) = split /\t/;
		my %row = (
			test => $test, expected => $expected, ee => $ee, leaf => "certs/${ee}EE.crt",
			files => [
				'certs/TrustAnchorRootCertificate.crt',
				(map { "certs/${_}Cert.crt" } grep { $_ ne '-' } split / /, $others),
				'crls/TrustAnchorRootCRL.crl',
				(map { "crls/$_.crl" } grep { $_ ne '-' } split / /, $crls) ]);

		if (grep { !-e "$data/$_" } $row{leaf}, @{ $row{files} }) { $absent++; }
		else { push @rows, \%row; }
	}
	note("$absent cases are not run: their octets are not in $data") if $absent;
	cmp_ok(scalar @rows, '>=', $data eq $package ? 224 : 1, 'the cases are there');
	return @rows;
}

sub load
{
	my %file = map { $_ => 1 } map { ($_->{leaf}, @{ $_->{files} }) } @case;

	sql($site, "SELECT cmblock.register_client($client, 'pkits')");
	sql($site, join "\n",
		'CREATE TABLE octets (file text PRIMARY KEY, octets bytea);',
		'COPY octets FROM STDIN;', (map { "$_\t\\\\x" . unpack('H*', slurp_file("$data/$_")) } sort keys %file), '\.',
		'CREATE TABLE pkits (test text, leaf text, files text[]);',
		'COPY pkits FROM STDIN;', (map { join "\t", $_->{test}, $_->{leaf}, '{' . join(',', @{ $_->{files} }) . '}' } @case), '\.',
		'CREATE TABLE answer (test text, status text, reason text, allowed boolean, refused text);');
	sql($site, <<'END');
CREATE PROCEDURE give(name text, INOUT refused text) LANGUAGE plpgsql AS $$
DECLARE
	what bytea := (SELECT octets FROM octets WHERE file = name);
	message text;
	detail text;
BEGIN
	IF name LIKE '%.crl' THEN
		PERFORM cmblock.import_crl(what);
	ELSE
		PERFORM cmblock.add_certificate_authority(what);
	END IF;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
	refused := concat_ws('; ', refused, format('%s: %s %s', name, message, detail));
END $$;

-- sorting: an expression over file and its place n
CREATE PROCEDURE run_cases(which text, sorting text, crls_again boolean) LANGUAGE plpgsql AS $$
DECLARE
	c record;
	name text;
	names text[];
	refused text;
BEGIN
	DELETE FROM answer;
	FOR c IN SELECT * FROM pkits WHERE test ~ which LOOP
		DELETE FROM cmblock.crl;
		DELETE FROM cmblock.crl_scope;
		DELETE FROM cmblock.certificate_authority;
		COMMIT;
		EXECUTE 'SELECT array_agg(file ORDER BY ' || sorting || ') FROM unnest($1) WITH ORDINALITY u(file, n)' INTO names USING c.files;
		IF crls_again THEN
			names := names || (SELECT array_agg(file) FROM unnest(c.files) file WHERE file LIKE '%.crl');
		END IF;
		refused := NULL;
		FOREACH name IN ARRAY names LOOP
			CALL give(name, refused);
			COMMIT;
		END LOOP;
		INSERT INTO answer SELECT c.test, s.status, s.reason, a.allowed, refused FROM octets o,
			cmblock.revocation_status(o.octets) s, cmblock.check_access('GUID:00000000-0000-0000-0000-000000000051', o.octets) a
			WHERE o.file = c.leaf;
		COMMIT;
	END LOOP;
END $$;
END
	return;
}

sub answers
{
	my ($which, $sorting, $crls_again, @before) = @_;
	my %answer;
	my $rows = sql($site, join ";\n", @before,
		"CALL run_cases('$which', \$\$$sorting\$\$, @{[ $crls_again ? 'true' : 'false' ]})",
		"SELECT concat_ws(E'\\t', test, status, coalesce(reason, ''), CASE WHEN allowed THEN 'allowed' ELSE 'refused' END) FROM answer");

	foreach (split /\n/, $rows)
	{
		my ($test, $status, $reason, $access) = split /\t/;
		$answer{$test} = { status => $status, reason => $reason, access => $access } if defined $access;
	}
	return \%answer;
}

sub run
{
	my ($order, $which, $sorting, $crls_again) = @_;
	my $answer = answers($which, $sorting, $crls_again);

	subtest $order => sub {
		foreach my $case (grep { $_->{test} =~ /$which/ } @case)
		{
			my $got = $answer->{ $case->{test} } // { status => 'none', reason => '', access => 'none' };
			my $known = $deviation{ $case->{ee} };
			my $valid = $case->{expected} eq 'VALID';
			my $wanted = $valid ? 'good, allowed' : 'revoked or unknown, refused';
			my $fits = $valid ? "$got->{status}, $got->{access}" eq $wanted
			  : $got->{status} =~ /^(revoked|unknown)$/ && $got->{access} eq 'refused';

			if ($known)
			{
				$found{ $case->{ee} } = 1 unless $fits;
				is($known->{expected}, $valid ? 'good' : 'revoked or unknown', "$case->{test} docs/revocation.md says what PKITS expects");
				is($got->{status}, $known->{here}, "$case->{test} $case->{ee} deviates as docs/revocation.md says");
			}
			else
			{
				ok($fits, "$case->{test} $case->{ee}")
				  or diag("$wanted is expected, and here it is $got->{status}, $got->{access} ($got->{reason})");
			}
			$case->{got} //= $got;
		}
	};
	return;
}

sub print_table
{
	my %count;

	diag('');
	diag(sprintf '%-8s %-52s %-8s %-36s %-8s %s', 'PKITS', 'case', 'expected', 'here', 'access', '');
	foreach my $case (@case)
	{
		my $got = $case->{got};
		my $verdict = ($case->{expected} eq 'VALID') == ($got->{status} eq 'good') ? 'ok' : $deviation{ $case->{ee} } ? 'deviation' : 'WRONG';

		$count{$verdict}++;
		diag(sprintf '%-8s %-52s %-8s %-36s %-8s %s',
			@$case{qw(test ee expected)}, "$got->{status} $got->{reason}", $got->{access}, $verdict);
	}
	diag(join ', ', map { "$count{$_} $_" } sort keys %count);
	return;
}
