# The shape, the signer and the time of a CRL: rules 1 to 26 of docs/revocation.md, each under its number.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockTest;
use CrlTest;
use Der;
use PostgreSQL::Test::Utils;
use Test::More;

my $day = 86400;
my $now = time;
my $site = crl_site('rules');
my $ca = der_ca('CA', name => dn('O=Test', 'CN=CA'));
my $cert = der_leaf($ca, 'pc1', serial => '05');
my $other = der_leaf($ca, 'pc2', serial => '06');

# PEM of some octets.
sub pem
{
	my ($der) = @_;
	my $text = MIME::Base64::encode_base64($der);

	return "-----BEGIN X509 CRL-----\n$text-----END X509 CRL-----\n";
}
require MIME::Base64;

subtest 'rule 1: DER alone, bounded; PEM is unwrapped; no indefinite length' => sub {
	my $crl = der_crl($ca, revoked => ['05']);

	fresh($ca);
	refused($crl . "\0", '22023', qr/after|trailing/i, 'an octet after it');
	refused(substr($crl, 0, -1), '22023', qr/invalid CRL/, 'an octet too few');
	refused("\x30\x80" . substr($crl, 4) . "\0\0", '22023', qr/indefinite/i, 'indefinite length');
	refused('', '22023', qr/neither DER/, 'nothing at all');
	refused('hello', '22023', qr/neither DER/, 'words');
	refused(pem($crl) . pem($crl), '22023', qr/invalid CRL/, 'two PEM blocks');
	refused(pem($crl) =~ s/X509 CRL/CERTIFICATE/gr, '22023', qr/invalid CRL/, 'a PEM block of another kind');
	like(run_sql("SET cmblock.crl_max_size = 1; SELECT cmblock.import_crl(${\ hex_literal(der_crl($ca, revoked => [ map { sprintf '%04X', 0x100 + $_ } 1 .. 200 ])) })"),
		qr/^22023 invalid CRL/, 'larger than cmblock.crl_max_size');
	is(take(pem($crl)), 'accepted', 'PEM');
	is(take($crl), 'unchanged', 'the same as DER');
	is(status($cert), 'revoked revoked', 'and it counts');
};

subtest 'rule 2: version 1 or 2; extensions need version 2' => sub {
	fresh($ca);
	refused(der_crl($ca, raw_version => number(2)), '22023', qr/version/i, 'version 3');
	refused(der_crl($ca, raw_version => number(0)), '22023', qr/version/i, 'version 1 written out');
	refused(der_crl($ca, raw_version => ''), '22023', qr/version|extension/i, 'extensions without a version');
	refused(der_crl($ca, version => 1, revoked => [ { serial => '05', reason => 1 } ]), '22023', qr/version|extension/i,
		'entry extensions without a version');
	is(take(der_crl($ca, version => 1, revoked => ['05'])), 'accepted', 'version 1 without extensions');
	is(status($cert), 'revoked revoked', 'and it revokes');
	is(status($other), 'good', 'and shows to be good');
};

subtest 'rule 3: inner and outer signature algorithm are the same octets' => sub {
	fresh($ca);
	refused(der_crl($ca, outer => 'sha1'), '22023', qr/algorithm/i, 'another one outside');
};

subtest 'rule 4: no MD5, and SHA-1 only where an administrator allows it' => sub {
	my $rsa = der_ca('RSA', key_type => 'rsa', digest => 'rsa-sha256');
	my $crl = der_crl($ca, digest => 'sha1', revoked => ['05']);

	fresh($ca, $rsa);
	refused(der_crl($rsa, digest => 'rsa-md5'), '22023', qr/signature/, 'MD5');
	refused($crl, '22023', qr/SHA-1/, 'SHA-1');
	trust($rsa, allow_sha1 => 'true');
	refused($crl, '22023', qr/SHA-1/, 'SHA-1 that was allowed to another CA');
	trust($ca, allow_sha1 => 'true');
	is(take($crl), 'accepted', 'SHA-1 that was allowed');
	is(run_sql("SET cmblock.allow_sha1 = on; SELECT outcome FROM cmblock.import_crl(${\ hex_literal(der_crl($rsa, digest => 'rsa-sha256')) })"),
		'accepted', 'SHA-256 with RSA');
	refused(der_crl($rsa, digest => 'rsa-md5', number => 2), '22023', qr/signature/, 'MD5, whatever is allowed');
};

subtest 'rule 5: the signature is over the octets that were signed' => sub {
	my $crl = der_crl($ca, revoked => ['05']);
	my $altered = $crl;

	fresh($ca);
	substr($altered, index($altered, "\x02\x01\x05"), 3, "\x02\x01\x07");
	refused($altered, '22023', qr/signature/, 'a serial number was changed');
	refused(der_crl($ca, signature => "\0" x 71), '22023', qr/signature/, 'a signature of zeros');
	refused(der_crl($ca, signature => ''), '22023', qr/invalid CRL|signature/, 'no signature');
	is(take($crl), 'accepted', 'unaltered');
};

subtest 'rule 6: times are strict' => sub {
	fresh($ca);
	foreach my $bad (
		[ '261123000000', 'without Z' ], [ '2611230000Z', 'without seconds' ], [ '261123000000+0100', 'with an offset' ],
		[ '261323000000Z', 'in a thirteenth month' ], [ '260230000000Z', 'on 30 February' ], [ '261123240000Z', 'at 24 o\'clock' ])
	{
		refused(der_crl($ca, this_update => tlv(0x17, $bad->[0])), '22023', qr/update|time/i, "this update $bad->[1]");
		refused(der_crl($ca, next_update => tlv(0x17, $bad->[0])), '22023', qr/update|time/i, "next update $bad->[1]");
		refused(der_crl($ca, revoked => [ { serial => '05', at => tlv(0x17, $bad->[0]) } ]), '22023', qr/date|time/i, "an entry $bad->[1]");
	}
	refused(der_crl($ca, next_update => tlv(0x18, '20301123000000.5Z')), '22023', qr/update/i, 'with a fraction');
	refused(der_crl($ca, this_update => tlv(0x0c, '261123000000Z')), '22023', qr/update/i, 'as a text');
	is(take(der_crl($ca, this_update => generalized_time($now - 3600), next_update => generalized_time($now + 3600))), 'accepted', 'GeneralizedTime');
	is(status($cert), 'good', 'and it counts');
};

subtest 'rule 7: duplicate extensions and unknown critical ones' => sub {
	fresh($ca);
	refused(der_crl($ca, extensions => [ crl_number(1) ]), '22023', qr/twice|duplicate/i, 'two CRL numbers');
	refused(der_crl($ca, extensions => [ extension('1.2.3.4', 1, seq()) ]), '22023', qr/critical/i, 'unknown and critical');
	is(take(der_crl($ca, extensions => [ extension('1.2.3.4', 0, seq()) ])), 'accepted', 'unknown and not critical');
};

subtest 'rule 8: an unknown critical entry extension proves nobody good, and un-revokes nobody' => sub {
	my $odd = { serial => '07', extensions => [ extension('1.2.3.4', 1, seq()) ] };

	fresh($ca);
	is(take(der_crl($ca, revoked => [ '05', $odd ])), 'accepted', 'it is taken in');
	is(status($cert), 'revoked revoked', 'what it lists is revoked');
	is(status(der_leaf($ca, 'odd', serial => '07')), 'revoked revoked', 'the odd entry, too');
	is(status($other), 'unknown unknown_critical_entry', 'the others are not good');
	is(sql($site, 'SELECT unknown_critical_entry, array_length(warnings, 1) FROM cmblock.crl'), 't|1', 'the table says why');
	fresh($ca);
	take(der_crl($ca));
	is(take(der_crl($ca, number => 2, base => 1, revoked => [$odd])), 'accepted', 'in a delta CRL');
	is(status($other), 'unknown unknown_critical_entry', 'nobody is good either');
};

subtest 'rule 9: the CRL number' => sub {
	my $crl = der_crl($ca, number => undef, revoked => ['05']);

	fresh($ca);
	refused($crl, '22023', qr/no CRL number.*require_number/, 'none');
	refused(der_crl($ca, number => undef, extensions => [ extension('2.5.29.20', 1, number(1)) ]), '22023', qr/number/i, 'critical');
	refused(der_crl($ca, number => undef, extensions => [ extension('2.5.29.20', 0, integer('FF')) ]), '22023', qr/number/i, 'negative');
	refused(der_crl($ca, number => undef, extensions => [ extension('2.5.29.20', 0, tlv(0x0a, "\1")) ]), '22023', qr/number/i, 'not an INTEGER');
	refused(der_crl($ca, number => undef, extensions => [ extension('2.5.29.20', 0, integer('0080' . '00' x 19)) ]), '22023', qr/number/i, '2^159');
	is(take(der_crl($ca, number => '0x7fffffffffffffffffffffffffffffffffffffff')), 'accepted', '2^159 - 1');
	is(sql($site, 'SELECT number FROM cmblock.crl'), '730750818665451459101842416358141509827966271487', 'in full');
	fresh($ca);
	is(take(der_crl($ca, number => 0)), 'accepted', '0');
	fresh();
	trust($ca, require_number => 'false');
	is(take($crl), 'accepted', 'none, where the policy lets it in');
	is(status($cert), 'revoked revoked', 'and it counts');
	refused(der_crl($ca, number => undef, base => 1), '22023', qr/delta CRL without a CRL number/, 'none in a delta CRL, whatever the policy');
};

subtest 'rule 10: the issuing distribution point' => sub {
	fresh($ca);
	refused(der_crl($ca, extensions => [ extension('2.5.29.28', 1, seq()) ]), '22023', qr/distribution point/i, 'empty');
	refused(der_crl($ca, extensions => [ idp(user => 1, ca => 1) ]), '22023', qr/distribution point/i, 'two flags');
	refused(der_crl($ca, extensions => [ extension('2.5.29.28', 1, seq(tlv(0x81, "\x01"))) ]), '22023', qr/distribution point/i, 'a BOOLEAN that is neither 00 nor FF');
	refused(der_crl($ca, extensions => [ extension('2.5.29.28', 1, seq(tlv(0x81, "\x00"))) ]), '22023', qr/distribution point/i, 'a default that is written out');
	refused(der_crl($ca, extensions => [ extension('2.5.29.28', 1, seq(tlv(0x85, "\xff"), tlv(0x84, "\xff"))) ]), '22023', qr/distribution point/i, 'out of order');
	is(take(der_crl($ca, extensions => [ idp(user => 1) ])), 'accepted', 'critical');
	is(take(der_crl($ca, number => 2, extensions => [ extension('2.5.29.28', 0, seq(tlv(0x81, "\xff"))) ])), 'accepted', 'not critical');
};

subtest 'rule 11: no list, and an empty list' => sub {
	fresh($ca);
	is(take(der_crl($ca)), 'accepted', 'absent');
	is(status($cert), 'good', 'nothing is revoked');
	is(run_sql("SELECT outcome, warnings FROM cmblock.import_crl(${\ hex_literal(der_crl($ca, number => 2, revoked => seq())) })"),
		'accepted|{"Its list of revoked certificates is present and empty; RFC 5280 wants it absent."}', 'present and empty, with a warning');
	is(status($cert), 'good', 'nothing is revoked');
};

subtest 'rule 12: serial numbers and reason codes' => sub {
	my @serials = ('00', 'FF', '00FF', '7F', '80', 'FF7F', '0080', '01' x 20, '01' x 21);
	my %cert = map { $_ => der_leaf($ca, "s$_", serial => $_) } @serials;

	fresh($ca);
	take(der_crl($ca, revoked => [ 'FF', '00', '0080', '01' x 21 ]));
	foreach my $serial (@serials)
	{
		my $listed = grep { $_ eq $serial } 'FF', '00', '0080', '01' x 21;
		is(status($cert{$serial}), $listed ? 'revoked revoked' : 'good', "serial $serial");
	}
	like(sql($site, 'SELECT warnings FROM cmblock.crl'), qr/more than 20 octets/, 'a long one is flagged');
	fresh($ca);
	take(der_crl($ca, revoked => [ { serial => '05', reason => 6 }, { serial => '05', reason => 1 } ]));
	is(status($cert), 'revoked revoked', 'listed twice');
	take(der_crl($ca, number => 2, base => 1, revoked => [ { serial => '05', reason => 8 }, { serial => '05', reason => 1 } ]));
	is(status($cert), 'revoked revoked', 'removed and revoked in one CRL: revoked wins');
	fresh($ca);
	take(der_crl($ca, revoked => [ { serial => '05', reason => 7 }, { serial => '06', reason => 99 } ]));
	is(status($cert), 'revoked revoked', 'reason 7, which is none');
	is(status($other), 'revoked revoked', 'reason 99, which is none');
	like(sql($site, 'SELECT warnings FROM cmblock.crl'), qr/reason codes/, 'a warning says so');
};

subtest 'rule 13: the issuer by canonical comparison' => sub {
	fresh($ca);
	refused(der_crl($ca, issuer => dn('O=Test', 'CN=Somebody else')), '42704', qr/Somebody else.*trust list/, 'another name');
	is(take(der_crl($ca, issuer => seq(set(Der::attribute('O=  TEST ', 0x0c)), set(Der::attribute('CN=ca', 0x0c))), revoked => ['05'])),
		'accepted', 'the same in other letters and another kind of string');
	is(status($cert), 'revoked revoked', 'and it counts');
};

subtest 'rule 14: several CAs of one name' => sub {
	my $twin = der_ca('CA', name => $ca->{name});
	my $twins_cert = der_leaf($twin, 'of twin', serial => '05');

	fresh($twin, $ca);
	is(take(der_crl($ca, revoked => ['05'])), 'accepted', 'each is tried');
	is(sql($site, 'SELECT signer FROM cmblock.crl'), $ca->{sha256}, 'the one whose key it is was found');
	is(take(der_crl($ca, number => 2, revoked => ['05'], key_id => 0)), 'accepted', 'also without a key identifier');
	refused(der_crl($ca, number => 3, key_id => der_key()), '42704', qr/key identifier|key/, 'a key identifier of nobody');
	is(status($cert), 'revoked revoked', 'a certificate of that key');
	# Two roots are two anchors.
	is(status($twins_cert), 'unknown signer_untrusted', 'a certificate of the other');
};

subtest 'rule 15: the signer may sign CRLs' => sub {
	my $mute = der_ca('Mute', usage => [5]);
	my $silent = der_ca('Silent', no_usage => 1);

	fresh($mute, $silent);
	refused(der_crl($mute), '22023', qr/usage/, 'key usage without cRLSign');
	is(take(der_crl($silent)), 'accepted', 'no key usage');
	is(status(der_leaf($mute, 'm')), 'unknown crl_missing', 'unknown');
	is(status(der_leaf($silent, 's')), 'good', 'good');
};

subtest 'rule 16: the signer is below the same anchor, and not revoked' => sub {
	my $root = der_ca('Root');
	my $middle = der_ca('Middle', issuer => $root, serial => '10', usage => [5]);
	my $signer = der_ca('Middle', issuer => $root, serial => '11', crl_only => 1);
	my $stranger = der_ca('Middle', crl_only => 1);
	my $leaf = der_leaf($middle, 'leaf', serial => '05');

	fresh($root, $middle, $stranger);
	take(der_crl($root));
	is(take(der_crl($stranger)), 'accepted', 'a signer that is its own anchor is taken in');
	is(status($leaf), 'unknown signer_untrusted', 'and does not count for another anchor');
	trust($signer);
	is(take(der_crl($signer)), 'accepted', 'the CA\'s own signer');
	is(status($leaf), 'good', 'does count');
	is(detail($leaf, 'signer'), $signer->{sha256}, 'and the evidence names it');
	take(der_crl($root, number => 2, revoked => ['11']));
	is(status($leaf), 'unknown signer_revoked', 'once it is revoked, nobody is good by it');
	take(der_crl($signer, number => 2, revoked => ['05']));
	is(status($leaf), 'revoked revoked', 'but whom it revoked stays revoked');
	sql($site, 'DELETE FROM cmblock.crl WHERE issuer = \'CN=Root\'');
	is(status(der_leaf($middle, 'second')), 'unknown signer_unknown', 'nor when nobody knows about the signer');
};

subtest 'rule 17: one CRL per key under one name' => sub {
	my $root = der_ca('Root');
	my $name = dn('CN=Issuing');
	my $version = sub { extension('1.3.6.1.4.1.311.21.1', 0, number($_[0])) };
	my ($old, $new) = map { der_ca('Issuing', name => $name, issuer => $root) } 1, 2;
	my ($ms_old, $ms_new) = map { der_ca('Issuing', name => $name, issuer => $root, more => [ $version->(65536 * $_) ]) } 0, 1;
	my $leaf = der_leaf($old, 'leaf', serial => '05');
	my $ms_leaf = der_leaf($ms_old, 'leaf', serial => '05');

	fresh($root, $old, $new);
	take(der_crl($root));
	is(take(der_crl($new, number => 9)), 'accepted', 'the new key\'s');
	is(take(der_crl($old, number => 3, revoked => ['06'])), 'accepted', 'the old key\'s, with a number of its own');
	is(sql($site, 'SELECT count(*) FROM cmblock.crl WHERE issuer = \'CN=Issuing\''), '2', 'both are current');
	sql($site, 'DELETE FROM cmblock.crl WHERE issuer = \'CN=Issuing\' AND number = 3');
	is(status($leaf), 'good', 'any_key: the new key speaks of the old key\'s certificates');
	sql($site, "SELECT cmblock.set_crl_policy('$old->{sha256}', key_policy => 'same_key')");
	is(status($leaf), 'unknown other_key', 'same_key: it does not');

	fresh($root, $ms_old, $ms_new);
	take(der_crl($root));
	take(der_crl($ms_new, extensions => [ $version->(65537) ]));
	is(status($ms_leaf), 'unknown other_key', 'same_key is what a CA Version means');
	take(der_crl($ms_old, extensions => [ $version->(0) ], revoked => ['06']));
	is(status($ms_leaf), 'good', 'the CRL of its own key');
	is(sql($site, 'SELECT string_agg(ca_version::text, \' \' ORDER BY ca_version) FROM cmblock.crl'), '0 65537', 'the versions are shown');
	sql($site, "DELETE FROM cmblock.crl WHERE ca_version = 0");
	sql($site, "SELECT cmblock.set_crl_policy('$ms_old->{sha256}', key_policy => 'any_key')");
	is(status($ms_leaf), 'good', 'any_key, where an administrator says so');
};

subtest 'rule 18 and rule 19: time, with skew, grace and asymmetry' => sub {
	fresh($ca);
	refused(der_crl($ca, this_update => $now + 3600), '22023', qr/not valid yet/, 'from the future');
	is(take(der_crl($ca, this_update => $now + 300, next_update => $now + $day, revoked => ['05'])), 'accepted', 'five minutes ahead');
	is(status($other), 'good', 'counts');
	is(status($other, $now - 600), 'unknown crl_not_yet_valid', 'but not fifteen minutes before');
	is(status($cert, $now - 600), 'revoked revoked', 'while revoked is revoked');
	is(status($other, $now + $day - 5), 'good', 'just before next update');
	is(status($other, $now + $day + 5), 'unknown crl_expired', 'just after');
	is(status($cert, $now + 30 * $day), 'revoked revoked', 'revoked stays revoked');
	trust($ca, base_grace => "'2 days'");
	is(status($other, $now + 2 * $day), 'good', 'within the grace');
	is(status($other, $now + 4 * $day), 'unknown crl_expired', 'and after it');
	trust($ca, base_grace => "'300000 years'");
	is(status($other, $now + 4 * $day), 'good', 'a grace that does not fit into a number of microseconds is long, not negative');
	fresh($ca);
	is(take(der_crl($ca, this_update => $now - 9 * $day, next_update => $now - 2 * $day, revoked => ['05'])), 'accepted', 'an expired CRL is taken in');
	is(status($cert), 'revoked revoked', 'it revokes');
	is(status($other), 'unknown crl_expired', 'and proves nobody good');
	fresh($ca);
	is(take(der_crl($ca, next_update => undef, revoked => ['05'])), 'accepted', 'without a next update');
	is(status($cert), 'revoked revoked', 'it revokes');
	is(status($other), 'unknown no_next_update', 'and proves nobody good');
	trust($ca, max_age => "'1 day'");
	is(status($other), 'good', 'unless the CA has a max_age');
	is(status($other, $now + 2 * $day), 'unknown crl_expired', 'for that long');
	trust($ca, max_age => "'0'");
	is(status($other), 'unknown no_next_update', 'a max_age of 0 is none');
};

subtest 'rule 20: Next CRL Publish is when to fetch, not when it expires' => sub {
	fresh($ca);
	take(der_crl($ca, extensions => [ extension('1.3.6.1.4.1.311.21.4', 0, utc_time($now - 1800)) ]));
	is(status($cert), 'good', 'past, and the CRL counts');
	is(sql($site, "SELECT next_publish = to_timestamp(@{[ $now - 1800 ]}) FROM cmblock.crl"), 't', 'it is kept');
	refused(der_crl($ca, number => 2, extensions => [ extension('1.3.6.1.4.1.311.21.4', 0, number(1)) ]), '22023', qr/publish/i, 'it has to be a time');
};

subtest 'rule 21: numbers and times never go back' => sub {
	my $five = der_crl($ca, number => 5, this_update => $now - 3000, revoked => ['05']);

	fresh($ca);
	is(take($five), 'accepted', 'number 5');
	is(take($five), 'unchanged', 'the same again');
	refused(der_crl($ca, number => 4, this_update => $now - 2000), '55000', qr/older.*number is 4, and number 5.*reset_crl_scope/, 'a lower number');
	refused(der_crl($ca, number => 6, this_update => $now - 4000), '55000', qr/older.*this update/, 'an older this update');
	refused(der_crl($ca, number => 5, this_update => $now - 2000), '55000', qr/two different/, 'the same number with other octets');
	is(status($cert), 'revoked revoked', 'number 5 still counts');
	sql($site, "SELECT cmblock.remove_crl(sha256) FROM cmblock.crl");
	is(status($cert), 'unknown crl_missing', 'removed');
	refused(der_crl($ca, number => 4), '55000', qr/older/, 'the mark outlives the CRL');
	$site->restart;
	refused(der_crl($ca, number => 4), '55000', qr/older/, 'and a restart');
	is(take($five), 'accepted', 'what made the mark may come back');
	is(sql($site, "SELECT count(cmblock.reset_crl_scope(scope)) FROM cmblock.crl_scope"), '1', 'an administrator takes the mark away');
	is(take(der_crl($ca, number => 1, this_update => $now - 4000, revoked => ['05'])), 'accepted', 'and numbers begin again');
	is(sql($site, "SELECT number FROM cmblock.crl"), '1', 'in place of the other');
	is(take(der_crl($ca, number => 3, base => 1)), 'accepted', 'a delta CRL has a mark of its own');
	refused(der_crl($ca, number => 2, base => 1), '55000', qr/delta CRL.*older/, 'which does not go back either');
	refused(der_crl($ca, number => 3, base => 1, revoked => ['06']), '55000', qr/two different delta/, 'nor is a number used twice');
	sql($site, "SELECT cmblock.reset_crl_scope(scope) FROM cmblock.crl_scope");
	is(take(der_crl($ca, number => 1, this_update => $now - 4000)), 'accepted', 'after another reset a full CRL');
	is(sql($site, "SELECT is_delta, number FROM cmblock.crl"), 'f|1', 'replaces the deltas of the time before, too');
	take(der_crl($ca, number => 8, base => 1));
	sql($site, "SELECT cmblock.reset_crl_scope(scope) FROM cmblock.crl_scope");
	is(take(der_crl($ca, number => 2, base => 1, revoked => ['06'])), 'accepted', 'and a delta CRL');
	is(sql($site, "SELECT string_agg(number::text, ' ' ORDER BY number) FROM cmblock.crl"), '1 2', 'replaces them as well');
};

subtest 'rule 22: a delta CRL is never a base' => sub {
	fresh($ca);
	is(take(der_crl($ca, number => 2, base => 1, revoked => ['05'])), 'accepted', 'a lone delta CRL');
	is(status($other), 'unknown crl_missing', 'proves nobody good');
	like(detail($other, 'detail'), qr/^Only the delta CRL 2 of .* is held, no full one\.$/, 'and the detail says what is missing');
	is(status($cert), 'revoked revoked', 'and revokes whom it lists');
	fresh($ca);
	is(take(der_crl($ca, number => 2, extensions => [ extension('2.5.29.27', 0, number(1)) ])), 'accepted', 'also when its indicator is not critical');
	is(sql($site, 'SELECT is_delta FROM cmblock.crl'), 't', 'it is a delta CRL');
};

subtest 'rule 23: which base a delta CRL applies to' => sub {
	my $points = idp(name => full_name(uri('http://crl.test/1')));

	foreach my $case ([ 3, 3, 'good' ], [ 3, 4, 'good' ], [ 1, 4, 'good' ], [ 5, 4, 'unknown base_too_old' ])
	{
		my ($from, $base, $expected) = @$case;
		fresh($ca);
		take(der_crl($ca, number => $base, revoked => [ { serial => '05', reason => 6 } ]));
		is(take(der_crl($ca, number => 6, base => $from, revoked => [ { serial => '05', reason => 8 } ])), 'accepted', "delta CRL from $from on");
		is(status($other), $expected, "on base $base");
		is(status($cert), $expected eq 'good' ? 'good' : 'revoked revoked', 'and what it removes');
	}
	fresh($ca);
	take(der_crl($ca, number => 6, base => 3, revoked => ['05']));
	is(take(der_crl($ca, number => 4)), 'accepted', 'the delta CRL may come first');
	is(status($other), 'good', 'then both count');
	is(status($cert), 'revoked revoked', 'for who is revoked, too');
	fresh($ca);
	take(der_crl($ca, number => 4, revoked => [ { serial => '05', reason => 6 } ]));
	take(der_crl($ca, number => 6, base => 4, extensions => [$points], revoked => [ { serial => '05', reason => 8 } ]));
	is(status($cert), 'revoked revoked', 'one with another issuing distribution point does not apply');
};

subtest 'rule 24: the window of the delta CRL, and what a site that uses them expects' => sub {
	my @old = (this_update => $now - 2 * $day, next_update => $now - $day);
	my $held = { serial => '05', reason => 6 };
	my $released = { serial => '05', reason => 8 };

	fresh($ca);
	take(der_crl($ca, this_update => $now - 3 * $day, revoked => [$held]));
	is(status($other), 'good', 'before any delta CRL the base is enough');
	take(der_crl($ca, number => 2, base => 1, @old, revoked => [ $released, '07' ]));
	is(status($other), 'unknown delta_expired', 'an expired delta CRL: nobody is good');
	is(status($cert), 'revoked revoked', 'it releases nobody');
	is(status(der_leaf($ca, 'pc3', serial => '07')), 'revoked revoked', 'whom it revoked stays revoked');
	is(status($cert, $now - 2 * $day + 60), 'good', 'while it was in force it did release');
	is(status($other, $now - 2 * $day - 3600), 'unknown delta_not_yet_valid', 'before that it did not count');
	trust($ca, delta_policy => "'optional'");
	is(status($other), 'good', 'the policy may fall back to the base alone');
	is(status($cert), 'revoked revoked', 'where the expired delta CRL still releases nobody');
	trust($ca, delta_policy => "'when_held'", delta_grace => "'2 days'");
	is(status($other), 'good', 'or give grace');
	is(status($cert), 'good', 'which lets it release, too');
	fresh($ca);
	trust($ca, delta_policy => "'required'");
	take(der_crl($ca, extensions => [ extension('2.5.29.46', 0, seq(dist_point(name => full_name(uri('http://crl.test/delta'))))) ]));
	is(status($other), 'unknown delta_missing', 'required: the base names one that was never held');
	is(sql($site, 'SELECT freshest FROM cmblock.crl'), '{http://crl.test/delta}', 'and says where it is (rule 26)');
	trust($ca, delta_policy => "'when_held'");
	is(status($other), 'good', 'when_held: nothing is expected yet');
};

subtest 'rule 25: removeFromCRL and certificateHold' => sub {
	fresh($ca);
	take(der_crl($ca, revoked => [ { serial => '05', reason => 6 } ]));
	is(status($cert), 'revoked revoked', 'on hold is revoked');
	is(detail($cert, 'revocation_reason'), 'certificateHold', 'with its reason');
	take(der_crl($ca, number => 2, base => 1, revoked => [ { serial => '05', reason => 8 }, { serial => '07', reason => 8 } ]));
	is(status($cert), 'good', 'released by a delta CRL');
	is(status(der_leaf($ca, 'pc3', serial => '07')), 'good', 'harmless where there is nothing to remove');
	take(der_crl($ca, number => 3, revoked => [ { serial => '06', reason => 8 } ]));
	is(status($other), 'revoked revoked', 'in a full CRL it means nothing');
	like(sql($site, 'SELECT warnings FROM cmblock.crl WHERE NOT is_delta'), qr/removeFromCRL/, 'with a warning');
};

subtest 'rule 26: a new base supersedes deltas' => sub {
	fresh($ca);
	take(der_crl($ca, number => 1, this_update => $now - 3 * $day));
	take(der_crl($ca, number => 3, base => 1, this_update => $now - 2 * $day, next_update => $now + $day, revoked => [ { serial => '05', reason => 6 } ]));
	is(status($cert), 'revoked revoked', 'on hold by a delta CRL');
	take(der_crl($ca, number => 3, this_update => $now - 2 * $day));
	is(status($cert), 'good', 'a base of the same number has everything that was in it');
	is(sql($site, 'SELECT count(*) FROM cmblock.crl'), '1', 'the delta CRL is dropped');
	is(status($other, $now + 0.9 * $day), 'good', 'for as long as that delta CRL would have been in force the base is enough');
	is(status($other, $now + 2 * $day), 'unknown delta_missing', 'then another delta CRL is due');
	is(take(der_crl($ca, number => 4, base => 3, revoked => ['06'])), 'accepted', 'which then comes');
	is(status($other), 'revoked revoked', 'and counts');
	is(take(der_crl($ca, number => 8, base => 7, revoked => ['07'])), 'accepted', 'and one for a base that is still to come');
	is(status($other), 'revoked revoked', 'the one before it still counts');
	is(sql($site, 'SELECT string_agg(number::text, \' \' ORDER BY number) FROM cmblock.crl'), '3 4 8', 'so both are kept');
	take(der_crl($ca, number => 7, revoked => ['06']));
	is(sql($site, 'SELECT string_agg(number::text, \' \' ORDER BY number) FROM cmblock.crl'), '7 8', 'until the base is here');
	is(take(der_crl($ca, number => 9, revoked => ['06'])), 'accepted', 'a base again');
	is(run_sql("SELECT outcome, warnings FROM cmblock.import_crl(${\ hex_literal(der_crl($ca, number => 9, base => 7)) })"),
		'unchanged|{"A full CRL that is held has all that is in it."}', 'a delta CRL that comes after it');
};

done_testing();
