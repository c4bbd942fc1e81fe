# The cache gives the answers of the tables: random requests of all forms are answered from both, for the same
# clients and certificates in all states, and everything that a decision says or counts has to be the same.
#
# CMBLOCK_RANDOM_SEED repeats a run.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockSession;
use CmblockTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{CMBLOCK_RANDOM_SEED} || int(rand(1_000_000_000));
srand($seed);
note("CMBLOCK_RANDOM_SEED=$seed");

my $site = new_site('p01', code => 'P01', kind => 'primary');
my $session = session($site);

# ---------- clients and certificates in all states ----------
my @clients = map { sprintf('%08d-0000-0000-0000-000000000000', $_) } 0 .. 15;
my ($good, $blocked, $deleted, $waiting, $proxied, $rejoining) = @clients;

ask($session, "SELECT cmblock.register_client('$clients[$_]', 'pc$_', hardware_id => 'HW$_')") foreach 0 .. 2, 6 .. 14;
ask($session, "SELECT cmblock.register_client('$waiting', 'waiting', approval => 0::smallint)");
ask($session, "SELECT cmblock.register_client('$proxied', 'proxied', isv_proxied => true)");
ask($session, "SELECT cmblock.register_client('$rejoining', 'again', hardware_id => 'HW1')");

my %ca = (
	required => ca('Required'),
	lenient => ca('Lenient'),
	silent => ca('Silent'),
	off => ca('Off'));
my $stranger = ca('Stranger');

sub policy
{
	my ($name) = @_;

	return $name eq 'lenient' ? 'best_effort' : $name eq 'off' ? 'off' : 'required';
}

ask($session, "SELECT cmblock.add_certificate_authority(${\ bytea($ca{$_}) }, '${\ policy($_) }')") foreach keys %ca;

my @shown;

# A certificate of a client or of none (undef), registered with this type.
sub known
{
	my ($issuer, $client, $type, %opt) = @_;
	my $certificate = leaf($issuer, 'c' . scalar(@shown), %opt);
	my $for = defined $client ? "'$client'" : 'NULL';

	ask($session, "SELECT cmblock.register_certificate(${\ bytea($certificate) }, $for, '$type')");
	push @shown, $certificate;
	return $certificate;
}

known($ca{required}, $_, 'client') foreach $good, $blocked, $deleted, $waiting, $rejoining;
my $revoked = known($ca{required}, $clients[6], 'client');
my $shut_out = known($ca{required}, $clients[7], 'client');
known($ca{required}, $clients[8], 'client', not_before => time - 86400 * 10, not_after => time + 86400);
known($ca{$_}, $clients[9], 'client') foreach 'lenient', 'silent', 'off';
known(undef, $clients[10], 'client');
known($stranger, $clients[11], 'client');
known($ca{required}, undef, $_) foreach 'boot_media', 'distribution_point', 'isv_proxy';
my $lost = known($ca{required}, undef, 'boot_media');
push @shown, leaf($ca{required}, 'unregistered'), leaf($ca{required}, 'its key', key => $shut_out->{key});

ask($session, "SELECT cmblock.import_crl(${\ bytea(crl($ca{required}, number => 1, revoked => [$revoked])) })");
ask($session, "SELECT cmblock.import_crl(${\ bytea(crl($ca{off}, number => 1)) })");
ask($session, "SELECT cmblock.block_client('$_')") foreach $blocked, $clients[6], $clients[12];
ask($session, "SELECT cmblock.block_certificate('$_->{sha256}')") foreach $shut_out, $lost;
ask($session, "SELECT cmblock.delete_client('$deleted')");
ask($session, "UPDATE cmblock.client SET approval = 0 WHERE smsid = '$clients[7]'");

# ---------- what a decision says, and what it is counted as ----------
ask($session, <<'END');
CREATE FUNCTION counted() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(decisions::text, ',' ORDER BY reason, transport, request) FROM cmblock.decision_counts()
$$;
CREATE FUNCTION asked(client cmblock.smsid, certificate bytea, transport cmblock.transport, request cmblock.request_kind,
	hardware_id text, at timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	allowed boolean;
	reason text;
BEGIN
	PERFORM cmblock.reset_decision_statistics();
	allowed := cmblock.is_allowed(client, certificate, transport, request, hardware_id, at);
	SELECT string_agg(concat_ws(' ', d.reason, d.transport, d.request, d.decisions), ',') INTO reason
		FROM cmblock.decision_counts() d WHERE d.decisions > 0;
	RETURN concat_ws(' | ', allowed, reason, cmblock.check_access(client, certificate, transport, request, hardware_id, at)::text);
END $$;
END

sub one_of
{
	return $_[ int(rand(@_)) ];
}

# As a literal of SQL; NULL now and then.
sub quoted
{
	my ($value) = @_;

	return defined $value ? "'$value'" : 'NULL';
}

sub request
{
	my $certificate = one_of(@shown, @shown, undef);
	my @form = $certificate ? ("'\\x$certificate->{sha256}'", "'\\x$certificate->{sha256}'", bytea($certificate), "'\\x$certificate->{sha1}'") : ('NULL');

	return sprintf(
		'asked(%s, %s, %s, %s, %s, %s)',
		quoted(one_of(@clients, (undef) x 24)),
		one_of(@form),
		quoted(one_of('https', 'https', 'https', 'http', 'enhanced_http')),
		quoted(one_of('policy', 'policy', 'inventory', 'content', 'os_deployment', 'registration')),
		quoted(one_of(undef, undef, 'HW1', 'HW3', 'none')),
		one_of(('now()') x 6, "now() + interval '2 days'", "now() - interval '5 days'", "now() + interval '3 years'", "'infinity'", "'-infinity'"));
}

my @requests = map { request() } 1 .. 800;

# All of them, a row each.
sub ask_all
{
	my @left = @requests;
	my @rows;

	push @rows, split(/\n/, ask($session, join(";\n", map { "SELECT $_" } splice(@left, 0, 20)))) while @left;
	return @rows;
}

sub from_cache
{
	return ask($session, 'SELECT from_cache FROM cmblock.decision_cache()');
}

foreach my $policy ('report', 'refuse')
{
	ask($session, "SET cmblock.rejoin_policy = $policy");
	ask_all();
	my $before = from_cache();
	my @cached = ask_all();
	my $quick = from_cache() - $before;

	# While a transaction changes the rows, all decisions are made from the tables.
	ask($session, 'BEGIN; UPDATE cmblock.client SET name = name; UPDATE cmblock.certificate SET subject = subject');
	$before = from_cache();
	my @read = ask_all();
	is(from_cache() - $before, 0, "$policy: nothing comes from the cache while everything is being changed");
	ask($session, 'ROLLBACK');

	my @differ = grep { $cached[$_] ne $read[$_] } 0 .. $#requests;
	is(scalar @differ, 0, "$policy: the cache and the tables agree");
	diag("$requests[$_]\ncache: $cached[$_]\ntable: $read[$_]") foreach splice(@differ, 0, 5);
	note("$policy: $quick of ${\ (2 * @requests) } decisions came from the cache");
	cmp_ok($quick, '>', @requests / 4, "$policy: many came from the cache");

	my %reason;
	$reason{ (split(/[ |]+/, $_))[1] }++ foreach @cached;
	note("$policy: " . join(', ', map { "$_ $reason{$_}" } sort keys %reason));
	is(scalar(grep { !$reason{$_} }
			qw(allowed no_identity client_unknown client_deleted certificate_unknown certificate_deleted certificate_of_another_client
			   certificate_not_yet_valid certificate_expired certificate_untrusted certificate_revoked crl_unavailable certificate_blocked client_blocked not_approved)),
		0, "$policy: every reason occurs");
}
leave($session);
done_testing();
