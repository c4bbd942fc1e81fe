# Certificates and CRLs put together octet by octet, for what the openssl command refuses to make. Keys and signatures are openssl's.
#
#	use Der;
#	my $root = der_ca('Root');                                    # {der}, {key}, {name}, {subject}, {sha256}
#	my $cert = der_leaf($root, 'pc1', serial => '05');            # extensions => [dist_points(...)]
#	my $crl = der_crl($root, revoked => ['05', { serial => '06', reason => 6 }], number => 7);   # the octets
#
# Everything below is a string of octets: seq(...), integer('00FF'), oid('2.5.29.20') and so on join what they are given.
package Der;

use strict;
use warnings;
use Carp;
use Digest::SHA qw(sha1 sha256_hex);
use Exporter 'import';
use Math::BigInt;
use PostgreSQL::Test::Utils ();
use POSIX qw(strftime);

our @EXPORT = qw(
  tlv seq set integer number oid octet_string bit_string boolean context utc_time generalized_time
  dn rdn extension reason_flags uri directory full_name relative_name
  dist_point dist_points idp crl_number delta_of reason_code certificate_issuer hold
  key_usage subject_key authority_key
  der_key der_ca der_leaf der_crl der_sign hex_literal
);

# What is made without a time is of this time, so that what is made later is not newer.
my $start = time;
my $dir;
my $files = 0;

# ---------------------------------------------------------------------------------------------
# Elements
# ---------------------------------------------------------------------------------------------

sub tlv
{
	my ($tag, @content) = @_;
	my $content = join('', @content);
	my $size = length $content;
	my $length = $size < 0x80 ? chr $size : '';

	if ($size >= 0x80)
	{
		my $octets = '';
		for (my $n = $size; $n > 0; $n >>= 8) { $octets = chr($n & 0xff) . $octets; }
		$length = chr(0x80 | length $octets) . $octets;
	}
	return chr($tag) . $length . $content;
}

sub seq { return tlv(0x30, @_); }
sub set { return tlv(0x31, @_); }
sub octet_string { return tlv(0x04, @_); }
sub bit_string { my ($content, $unused) = @_; return tlv(0x03, chr($unused // 0), $content); }
sub boolean { return tlv(0x01, $_[0] ? "\xff" : "\x00"); }

# Constructed [n] unless said otherwise.
sub context { my ($n, @content) = @_; return tlv(0xa0 | $n, @content); }
sub implicit { my ($n, @content) = @_; return tlv(0x80 | $n, @content); }

# An INTEGER from its content octets in hex, and from a number that is not negative.
sub integer { return tlv(0x02, pack('H*', $_[0])); }

sub number
{
	my $hex = Math::BigInt->new($_[0])->to_hex;

	$hex = "0$hex" if length($hex) % 2;
	$hex = "00$hex" if hex(substr $hex, 0, 1) >= 8;
	return integer($hex);
}

sub oid
{
	my ($first, $second, @rest) = split /\./, $_[0];

	return tlv(0x06, join '', map { base128($_) } 40 * $first + $second, @rest);
}

sub base128
{
	my ($n) = @_;
	my $octets = chr($n & 0x7f);

	while ($n >>= 7) { $octets = chr(0x80 | ($n & 0x7f)) . $octets; }
	return $octets;
}

sub utc_time { return tlv(0x17, strftime('%y%m%d%H%M%SZ', gmtime $_[0])); }
sub generalized_time { return tlv(0x18, strftime('%Y%m%d%H%M%SZ', gmtime $_[0])); }

sub a_time
{
	my ($seconds) = @_;

	return $seconds if $seconds =~ /\D/;    # octets already
	return (gmtime $seconds)[5] < 150 ? utc_time($seconds) : generalized_time($seconds);
}

# ---------------------------------------------------------------------------------------------
# Names
# ---------------------------------------------------------------------------------------------

my %attribute = (CN => '2.5.4.3', O => '2.5.4.10', OU => '2.5.4.11', C => '2.5.4.6');

# attribute('CN=Root'), as a PrintableString; attribute('CN=Root', 0x0c) as a UTF8String
sub attribute
{
	my ($text, $tag) = @_;
	my ($type, $value) = split /=/, $text, 2;

	return seq(oid($attribute{$type}), tlv($tag // 0x13, $value));
}

# dn('O=Test', 'CN=Root')
sub dn { return seq(map { set(attribute($_)) } @_); }
sub rdn { return attribute($_[0]); }

# GeneralName
sub uri { return implicit(6, $_[0]); }
sub directory { return context(4, dn(@_)); }

# DistributionPointName
sub full_name { return context(0, @_); }
sub relative_name { return context(1, map { attribute($_) } @_); }

# ---------------------------------------------------------------------------------------------
# Extensions
# ---------------------------------------------------------------------------------------------

sub extension
{
	my ($oid, $critical, $value) = @_;

	return seq(oid($oid), $critical ? boolean(1) : '', octet_string($value));
}

# Content of ReasonFlags: the numbers of the bits that are set.
sub reason_flags
{
	my @bits = (0) x 16;
	my $last = -1;

	foreach (@_) { $bits[$_] = 1; $last = $_ if $_ > $last; }
	my $octets = pack('B*', join '', @bits);
	my $size = $last < 8 ? 1 : 2;
	return chr($size * 8 - 1 - $last) . substr($octets, 0, $size);
}

# name => full_name(...) or relative_name(...), reasons => [bits], issuer => [general names]
sub dist_point
{
	my (%opt) = @_;

	return seq(
		$opt{name} ? context(0, $opt{name}) : '',
		$opt{reasons} ? implicit(1, reason_flags(@{ $opt{reasons} })) : '',
		$opt{issuer} ? context(2, @{ $opt{issuer} }) : '');
}

sub dist_points { return extension('2.5.29.31', 0, seq(@_)); }

# name, reasons as above; user, ca, attribute, indirect => 1
sub idp
{
	my (%opt) = @_;

	return extension(
		'2.5.29.28', 1,
		seq($opt{name} ? context(0, $opt{name}) : '',
			$opt{user} ? implicit(1, "\xff") : '',
			$opt{ca} ? implicit(2, "\xff") : '',
			$opt{reasons} ? implicit(3, reason_flags(@{ $opt{reasons} })) : '',
			$opt{indirect} ? implicit(4, "\xff") : '',
			$opt{attribute} ? implicit(5, "\xff") : ''));
}

sub crl_number { return extension('2.5.29.20', 0, number($_[0])); }
sub delta_of { return extension('2.5.29.27', 1, number($_[0])); }
sub reason_code { return extension('2.5.29.21', 0, tlv(0x0a, chr $_[0])); }
sub certificate_issuer { return extension('2.5.29.29', 1, seq(@_)); }

sub key_usage
{
	my (@bits) = @_;

	return extension('2.5.29.15', 1, tlv(0x03, reason_flags(@bits)));
}

# ---------------------------------------------------------------------------------------------
# Keys and signatures
# ---------------------------------------------------------------------------------------------

sub run_openssl
{
	my ($input, @args) = @_;
	my ($output, $errors) = ('', '');

	IPC::Run::run([ 'openssl', @args ], '<', \$input, '>', \$output, '2>', \$errors)
	  or croak "openssl @args failed:\n$errors";
	return $output;
}

# A new key: its path. Elliptic, unless 'rsa' is asked for.
sub der_key
{
	my ($type) = @_;

	$dir //= PostgreSQL::Test::Utils::tempdir('der');
	my $path = "$dir/" . ++$files . '.key';
	run_openssl('', 'genpkey', '-out', $path,
		($type // 'ec') eq 'rsa'
		? ('-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048')
		: ('-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256'));
	return $path;
}

my %public_key;

sub public_key
{
	my ($path) = @_;

	return $public_key{$path} //= run_openssl('', 'pkey', '-in', $path, '-pubout', '-outform', 'DER');
}

my %algorithm = (
	sha256 => seq(oid('1.2.840.10045.4.3.2')),
	sha1 => seq(oid('1.2.840.10045.4.1')),
	'rsa-sha256' => seq(oid('1.2.840.113549.1.1.11'), tlv(0x05)),
	'rsa-md5' => seq(oid('1.2.840.113549.1.1.4'), tlv(0x05)));

# A signed part, its algorithm and the signature. Options: key, digest (sha256), outer => another algorithm outside, signature.
sub der_sign
{
	my ($tbs, %opt) = @_;
	my $digest = $opt{digest} // 'sha256';
	my $signature = $opt{signature}
	  // run_openssl($tbs, 'dgst', "-" . ($digest =~ s/^rsa-//r), '-sign', $opt{key});

	return seq($tbs, $algorithm{ $opt{outer} // $digest }, bit_string($signature));
}

# ---------------------------------------------------------------------------------------------
# Certificates and CRLs
# ---------------------------------------------------------------------------------------------

# Extensions that name a key: its own, and its issuer's.
sub subject_key { return extension('2.5.29.14', 0, octet_string(key_id($_[0]))); }
sub authority_key { return extension('2.5.29.35', 0, seq(implicit(0, key_id($_[0])))); }

sub key_id { return substr(sha1(public_key($_[0])), 0, 20); }

# A certificate below an issuer (undef: self-signed). Options: name (of dn; CN alone), key, serial (hex),
# not_before, not_after, extensions => [...], version (3), digest, spki => the octets of another public key.
sub der_leaf
{
	my ($issuer, $cn, %opt) = @_;
	my $key = $opt{key} // der_key($opt{key_type});
	my $name = $opt{name} // dn("CN=$cn");
	my $version = $opt{version} // 3;
	my $serial = $opt{serial} // sprintf('%08X%08X', 0x10000000 + rand(0x60000000), rand(0xFFFFFFFF));
	my $digest = $opt{digest} // 'sha256';
	my @extensions = @{ $opt{extensions} // [] };

	push @extensions, authority_key($issuer->{key}) if $issuer && !$opt{no_key_id};
	my $tbs = seq(
		$version > 1 ? context(0, number($version - 1)) : '',
		integer($serial),
		$algorithm{$digest},
		$issuer ? $issuer->{name} : $name,
		seq(a_time($opt{not_before} // time - 90 * 86400), a_time($opt{not_after} // time + 365 * 86400)),
		$name,
		$opt{spki} // public_key($key),
		$version > 2 && @extensions ? context(3, seq(@extensions)) : '');
	my $der = der_sign($tbs, key => $issuer ? $issuer->{key} : $key, digest => $digest);

	return {
		der => $der, key => $key, name => $name, cn => $cn, serial => $serial,
		sha256 => uc sha256_hex($der) };
}

# A CA; with crl_only one that signs CRLs and no certificates. Options of der_leaf, and issuer, usage => [bits], more => [extensions].
sub der_ca
{
	my ($cn, %opt) = @_;
	my $key = $opt{key} // der_key($opt{key_type});

	return der_leaf(
		$opt{issuer}, $cn, %opt,
		key => $key,
		extensions => [
			$opt{crl_only} ? () : extension('2.5.29.19', 1, seq(boolean(1))),
			$opt{no_usage} ? () : key_usage(@{ $opt{usage} // [ $opt{crl_only} ? 6 : (5, 6) ] }),
			subject_key($key),
			@{ $opt{more} // [] } ]);
}

# A CRL: its octets. Options:
#   revoked => [serials in hex, or {serial, at, reason, extensions => [...]}], or the octets of the whole list
#   number (1; undef: none), base (makes it a delta), this_update, next_update (undef: none)
#   extensions => [more], version (2), issuer => another name, key => another key, digest, outer, signature
#   key_id => another key's path, or 0 for no authority key identifier; after_next => octets, tail => octets after the list
sub der_crl
{
	my ($ca, %opt) = @_;
	my $version = $opt{version} // 2;
	my $digest = $opt{digest} // 'sha256';
	my @extensions = @{ $opt{extensions} // [] };
	my $list = $opt{revoked} // [];
	my $key_id = $opt{key_id} // $ca->{key};

	if ($version > 1 && !$opt{bare})
	{
		push @extensions, authority_key($key_id) if $key_id;
		push @extensions, crl_number($opt{number} // 1) unless exists $opt{number} && !defined $opt{number};
		push @extensions, delta_of($opt{base}) if defined $opt{base};
	}
	$list = @$list ? seq(map { entry($_) } @$list) : '' if ref $list;
	my $tbs = seq(
		$opt{raw_version} // ($version > 1 ? number($version - 1) : ''),
		$algorithm{$digest},
		$opt{issuer} // $ca->{name},
		a_time($opt{this_update} // $start - 3600),
		exists $opt{next_update} && !defined $opt{next_update} ? '' : a_time($opt{next_update} // $start + 7 * 86400),
		$list,
		@extensions ? context(0, seq(@extensions)) : '');

	return der_sign($tbs, %opt, key => $opt{key} // $ca->{key}, digest => $digest);
}

sub entry
{
	my ($what) = @_;
	my $e = ref $what ? $what : { serial => $what };
	my @extensions = @{ $e->{extensions} // [] };

	unshift @extensions, reason_code($e->{reason}) if defined $e->{reason};
	return seq(
		integer($e->{serial}),
		a_time($e->{at} // $start - 7200),
		@extensions ? seq(@extensions) : '');
}

# Octets, or something with {der}, as an SQL literal of type bytea.
sub hex_literal
{
	my ($what) = @_;

	return q('\\x) . unpack('H*', ref $what ? $what->{der} : $what) . q('::bytea);
}

1;
