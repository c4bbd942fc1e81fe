# What the TAP tests share: sites on throw-away clusters, short assertions on SQL, and certificates made by openssl.
#
#	use FindBin;
#	use lib $FindBin::RealBin;
#	use CmblockTest;
#	use Test::More;
#
#	my $p01 = new_site('p01', code => 'P01', kind => 'primary');
#	sql_is($p01, 'SELECT 1', '1', 'the site answers');
#	sql_fails($p01, 'SELECT 1/0', '22012', qr/division by zero/, 'SQLSTATE and message');
#	my $ca = ca('Root');
#	my $cert = leaf($ca, 'client 1');
#	sql_is($p01, "SELECT length(${\ bytea($cert) }) > 0", 't', 'a certificate as a literal');
#	my $crl = crl($ca, revoked => [$cert], number => 7);
package CmblockTest;

use strict;
use warnings;
use Carp;
use Digest::SHA;
use Exporter 'import';
use Math::BigInt;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use POSIX qw(strftime);
use Test::More;

our @EXPORT = qw(
  new_site setup_site server_options
  sql sql_is sql_like sql_ok sql_fails wait_until
  ca leaf crl bytea pem_of write_file
);

# The superuser is the same whoever runs the tests, so that messages with his name are, too.
BEGIN
{
	$ENV{PGUSER} = 'postgres';
}

# ---------------------------------------------------------------------------------------------
# Sites
# ---------------------------------------------------------------------------------------------

# Start a cluster with the extension in its database postgres. It listens on its Unix socket and on 127.0.0.1,
# trusts everybody, and can be backed up and followed by a standby. Options:
#   preload => 0     not in shared_preload_libraries, so no workers (1)
#   extension => 0   no CREATE EXTENSION (1)
#   code, kind, hierarchy, parent   call cmblock.setup_site with these
#   conf => text     more lines for postgresql.conf
#   init => [...]    more options of initdb
#   start => 0       only made, and without the extension (1)
#   install_path => directory   another server than the one under test, with its bin and lib below
sub new_site
{
	my ($name, %opt) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name, $opt{install_path} ? (install_path => $opt{install_path}) : ());

	$node->init(
		allows_streaming => 1,
		extra => [ '-U', 'postgres', '-E', 'UTF8', '--locale=C', @{ $opt{init} // [] } ]);
	$node->append_conf('postgresql.conf', <<"END");
listen_addresses = '127.0.0.1'
shared_buffers = 16MB
max_connections = 50
max_worker_processes = 32
max_prepared_transactions = 10
END
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'cmblock'")
	  if $opt{preload} // 1;
	$node->append_conf('postgresql.conf', $opt{conf}) if $opt{conf};
	# The library of 18 sets it whatever the server is.
	$node->adjust_conf('postgresql.conf', 'autovacuum_worker_slots', undef) if $node->pg_version < 18;
	return $node unless $opt{start} // 1;
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION cmblock') if $opt{extension} // 1;
	setup_site($node, %opt) if $opt{kind};
	return $node;
}

# Say which site of which hierarchy a database is.
sub setup_site
{
	my ($node, %opt) = @_;
	my @args = ("code => '$opt{code}'", "kind => '$opt{kind}'");

	push @args, "hierarchy => '$opt{hierarchy}'" if $opt{hierarchy};
	push @args, "parent => '$opt{parent}'" if $opt{parent};
	return $node->safe_psql('postgres', "SELECT cmblock.setup_site(@{[ join(', ', @args) ]})");
}

# What CREATE SERVER ... OPTIONS (...) needs to reach a site.
sub server_options
{
	my ($node, %more) = @_;
	my %options = (host => $node->host, port => $node->port, dbname => 'postgres', %more);

	return join(', ', map { "$_ '$options{$_}'" } sort keys %options);
}

# ---------------------------------------------------------------------------------------------
# SQL in the database postgres of a site
# ---------------------------------------------------------------------------------------------

# What a statement returns; an error ends the test.
sub sql
{
	my ($node, $query) = @_;

	return $node->safe_psql('postgres', $query);
}

sub sql_is
{
	my ($node, $query, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($status, $stdout, $stderr) = psql($node, $query);

	return is($stdout, $expected, $name) if $status == 0;
	return is("$stdout$stderr", $expected, $name);
}

sub sql_like
{
	my ($node, $query, $regexp, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($status, $stdout, $stderr) = psql($node, $query);

	return like($stdout, $regexp, $name) if $status == 0;
	return is($stderr, '', $name);
}

sub sql_ok
{
	my ($node, $query, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($status, undef, $stderr) = psql($node, $query);

	return is($status ? $stderr : '', '', $name);
}

# A statement fails with this SQLSTATE, and with a message, detail or hint like the expression.
sub sql_fails
{
	my ($node, $query, $sqlstate, $regexp, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my (undef, undef, $stderr) = psql($node, $query);
	my ($got) = $stderr =~ /(?:ERROR|FATAL):  ([0-9A-Z]{5}):/;

	return is($got // 'no error', $sqlstate, $name) if ($got // '') ne $sqlstate;
	return like($stderr, $regexp, $name);
}

# Wait until a query returns this (t if nothing is given): an assertion, with the test's own time limit.
sub wait_until
{
	my ($node, $query, $name, $expected) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return ok($node->poll_query_until('postgres', $query, $expected), $name);
}

sub psql
{
	my ($node, $query) = @_;
	my ($stdout, $stderr) = ('', '');
	my $status = $node->psql('postgres', "\\set VERBOSITY verbose\n$query",
		stdout => \$stdout, stderr => \$stderr, on_error_stop => 1);

	return ($status, $stdout, $stderr);
}

# ---------------------------------------------------------------------------------------------
# Certificates and certificate revocation lists, made by the openssl command
# ---------------------------------------------------------------------------------------------

my $pki_dir;
my $files = 0;

# Make a CA: self-signed, or below another with issuer => $ca. Options as for leaf().
sub ca
{
	my ($cn, %opt) = @_;

	return leaf(
		$opt{issuer}, $cn,
		extensions => [
			'basicConstraints = critical, CA:TRUE',
			'keyUsage = critical, keyCertSign, cRLSign',
			'subjectKeyIdentifier = hash'
		],
		not_after => time + 10 * 365 * 86400,
		%opt);
}

# Make a certificate signed by a CA (undef: self-signed). Options:
#   serial => hex            (a new one)
#   not_before, not_after => seconds since the epoch    (an hour ago, in a year)
#   extensions => [lines of an openssl extension section]
#   key => path of a key to use again, as of another certificate's {key}
#   key_type => 'rsa' or 'ec'   ('ec', which is made in no time)
#   subject => '/CN=...'     (the common name alone)
# The result has the paths {pem}, {der} and {key}, and {cn}, {subject}, {serial}, {sha1}, {sha256} (hex, capitals).
sub leaf
{
	my ($issuer, $cn, %opt) = @_;
	my $base = new_file();
	my $key = $opt{key} // "$base.key";
	my $subject = $opt{subject} // "/CN=$cn";
	my $serial = uc($opt{serial} // sprintf('%08X%08X', 0x10000000 + rand(0x60000000), rand(0xFFFFFFFF)));
	my @extensions = @{ $opt{extensions} // [
			'basicConstraints = CA:FALSE',
			'keyUsage = digitalSignature',
			'extendedKeyUsage = clientAuth'
		] };

	openssl('genpkey', '-out', $key,
		($opt{key_type} // 'ec') eq 'rsa'
		? ('-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048')
		: ('-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256'))
	  unless $opt{key};
	push @extensions, 'authorityKeyIdentifier = keyid' if $issuer;
	write_ca_config($base, extensions => \@extensions);
	write_file("$base.serial", even_hex($serial) . "\n");
	openssl('req', '-new', '-key', $key, '-subj', $subject, '-config', "$base.cnf", '-out', "$base.csr");
	openssl('ca', '-batch', '-notext', '-config', "$base.cnf", '-in', "$base.csr", '-out', "$base.pem",
		'-preserveDN', '-extensions', 'extensions',
		'-startdate', utc($opt{not_before} // time - 3600),
		'-enddate', utc($opt{not_after} // time + 365 * 86400),
		$issuer
		? ('-cert', $issuer->{pem}, '-keyfile', $issuer->{key})
		: ('-selfsign', '-keyfile', $key));
	openssl('x509', '-in', "$base.pem", '-outform', 'DER', '-out', "$base.der");

	my $der = slurp_file("$base.der");
	return {
		pem => "$base.pem",
		der => "$base.der",
		key => $key,
		cn => $cn,
		subject => $subject,
		serial => $serial,
		not_after => $opt{not_after} // time + 365 * 86400,
		sha1 => uc(Digest::SHA::sha1_hex($der)),
		sha256 => uc(Digest::SHA::sha256_hex($der)) };
}

# Make a CRL of a CA. Options:
#   revoked => [certificates, or {serial => hex, reason => name, at => seconds since the epoch}]
#   number => n              a number, or a string of decimal or 0x... digits (no number without)
#   base => n                makes it a delta CRL for the full CRL of this number
#   this_update, next_update => seconds since the epoch    (an hour ago, in a week)
#   extensions => [more lines; they may end with sections that they refer to]
# The result has the paths {pem} and {der}, and {sha256}.
sub crl
{
	my ($ca, %opt) = @_;
	my $base = new_file();
	my @extensions = ('authorityKeyIdentifier = keyid');

	# openssl has a name for the delta CRL indicator but makes none from text
	push @extensions, '2.5.29.27 = critical, DER:' . der_integer($opt{base}) if defined $opt{base};
	push @extensions, @{ $opt{extensions} // [] };
	write_file("$base.number", number_hex($opt{number}) . "\n")
	  if defined $opt{number};
	write_ca_config(
		$base,
		extensions => \@extensions,
		number => defined $opt{number});
	write_file(
		"$base.index",
		join(
			'',
			map {
				join("\t",
					'R', utc($_->{not_after} // time + 365 * 86400),
					utc($_->{at} // time - 7200) . ($_->{reason} ? ",$_->{reason}" : ''),
					even_hex($_->{serial}),
					'unknown', $_->{subject} // '/CN=revoked') . "\n"
			} @{ $opt{revoked} // [] }));
	openssl('ca', '-gencrl', '-config', "$base.cnf", '-cert', $ca->{pem}, '-keyfile', $ca->{key},
		'-crlexts', 'extensions', '-out', "$base.pem",
		'-crl_lastupdate', utc($opt{this_update} // time - 3600),
		'-crl_nextupdate', utc($opt{next_update} // time + 7 * 86400));
	openssl('crl', '-in', "$base.pem", '-outform', 'DER', '-out', "$base.der");
	return {
		pem => "$base.pem",
		der => "$base.der",
		sha256 => uc(Digest::SHA::sha256_hex(slurp_file("$base.der"))) };
}

# A certificate or CRL, or any file by its path, as an SQL literal of type bytea.
sub bytea
{
	my ($what) = @_;

	return q('\\x) . unpack('H*', slurp_file(ref $what ? $what->{der} : $what)) . q('::bytea);
}

# The PEM text of a certificate or CRL.
sub pem_of
{
	my ($what) = @_;

	return slurp_file($what->{pem});
}

sub new_file
{
	$pki_dir //= PostgreSQL::Test::Utils::tempdir('pki');
	return "$pki_dir/" . ++$files;
}

# GeneralizedTime for years beyond 2049, UTCTime before, as X.509 wants it.
sub utc
{
	my ($seconds) = @_;
	my @time = gmtime($seconds);

	return strftime($time[5] < 150 ? '%y%m%d%H%M%SZ' : '%Y%m%d%H%M%SZ', @time);
}

# openssl's files hold whole octets.
sub even_hex
{
	my ($hex) = @_;

	return length($hex) % 2 ? "0$hex" : $hex;
}

sub number_hex
{
	my ($number) = @_;

	return even_hex(uc Math::BigInt->new($number)->to_hex);
}

# A number that is not negative as a DER INTEGER, in hex.
sub der_integer
{
	my ($number) = @_;
	my $octets = number_hex($number);

	$octets = "00$octets" if hex(substr($octets, 0, 1)) >= 8;
	return sprintf('02%02X%s', length($octets) / 2, $octets);
}

sub write_ca_config
{
	my ($base, %opt) = @_;

	write_file("$base.index", '');
	write_file("$base.cnf", <<"END");
[ca]
default_ca = this
[this]
database = $base.index
serial = $base.serial
new_certs_dir = $pki_dir
default_md = sha256
default_crl_days = 7
policy = any
unique_subject = no
@{[ $opt{number} ? "crlnumber = $base.number" : '' ]}
[any]
commonName = optional
organizationName = optional
[req]
distinguished_name = name
[name]
[extensions]
@{[ join("\n", @{ $opt{extensions} }) ]}
END
	return;
}

# Writes a file anew, or dies.
sub write_file
{
	my ($path, $text) = @_;

	open my $fh, '>', $path or croak "could not write $path: $!";
	print $fh $text;
	close $fh or croak "could not write $path: $!";
	return;
}

sub openssl
{
	my (@args) = @_;
	my $output = '';

	IPC::Run::run([ 'openssl', @args ], '<', \undef, '>', \$output, '2>&1')
	  or croak "openssl @args failed:\n$output";
	return;
}

1;
