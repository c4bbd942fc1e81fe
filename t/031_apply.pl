# What a neighbour may send: wrong role, hierarchy, protocol or site, forged rows and malformed batches are refused,
# and nothing of the batch is taken in.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockTest;
use CmblockLinks;
use PostgreSQL::Test::Utils;
use Test::More;

my $uuid = hierarchy_uuid;

# The receivers: the central site and a primary, neither with a worker.
my $cen = new_site('cen', code => 'CEN', kind => 'central', hierarchy => $uuid, preload => 0);
my $p01 = new_site('p01', code => 'P01', kind => 'primary', hierarchy => $uuid, parent => 'CEN', preload => 0);
sql($cen, "SELECT cmblock.add_site('$_', 'primary', 'CEN')") for qw(P01 P02);
sql($p01, "SELECT cmblock.add_site('S01', 'secondary', 'P01')");
sql($cen, "CREATE ROLE ${\ lc($_) }_link LOGIN; SELECT cmblock.accept_link('$_', '${\ lc($_) }_link')") for qw(P01 P02);
sql($p01, "CREATE ROLE cen_link LOGIN; SELECT cmblock.accept_link('CEN', 'cen_link')");
sql($_, 'CREATE ROLE stranger LOGIN') for $cen, $p01;

# ---------- making batches ----------

# A column: its length and its octets, as an SQL expression; undef is null.
sub column
{
	my ($send, $value) = @_;

	return "int4send(-1)" unless defined $value;
	return "int4send(octet_length($send($value))) || $send($value)";
}

sub section
{
	my ($letter, $columns, @rows) = @_;

	return "'$letter'::bytea || int2send(${columns}::int2) || int4send(${\ scalar @rows }) || " . join(' || ', @rows);
}

sub client_row
{
	my (%c) = @_;

	return join(' || ',
		column('cmblock.smsid_send', "'$c{smsid}'::cmblock.smsid"),
		column('textsend', "'$c{name}'::text"),
		column('enum_send', "'computer'::cmblock.client_kind"),
		column('cmblock.site_code_send', "'$c{assigned}'::cmblock.site_code"),
		column('textsend', undef),
		column('int2send', '2::int2'),
		column('boolsend', ($c{isv} // 'false')),
		column('timestamptz_send', $c{registered} // "timestamptz '2026-01-01'"),
		column('timestamptz_send', undef),
		column('boolsend', $c{blocked} // 'false'),
		column('textsend', undef),
		column('textsend', undef),
		column('textsend', "'mallory'::text"),
		column('timestamptz_send', 'now()'),
		column('int8send', "$c{version}::int8"),
		column('cmblock.site_code_send', "'$c{origin}'::cmblock.site_code"),
		column('textsend', "'mallory'::text"),
		column('timestamptz_send', 'now()'));
}

sub clients
{
	return section('c', 18, map { client_row(%$_) } @_);
}

sub sites
{
	return section('s', 8,
		map {
			join(' || ',
				column('cmblock.site_code_send', "'$_->{code}'::cmblock.site_code"),
				column('enum_send', "'$_->{kind}'::cmblock.site_kind"),
				column('cmblock.site_code_send', $_->{parent} ? "'$_->{parent}'::cmblock.site_code" : undef),
				column('timestamptz_send', $_->{retired} ? 'now()' : undef),
				column('int8send', "$_->{version}::int8"),
				column('cmblock.site_code_send', "'$_->{origin}'::cmblock.site_code"),
				column('textsend', "'mallory'::text"),
				column('timestamptz_send', 'now()'))
		} @_);
}

# A call of apply_changes by a role.
sub call
{
	my ($role, $batch, %opt) = @_;
	my %call = (protocol => 1, hierarchy => $uuid, sender => 'P01', receiver => 'CEN', cursor => 'NULL', repair => 'false', %opt);

	return "SET client_encoding = '" . ($opt{encoding} // 'UTF8') . "'; SET SESSION AUTHORIZATION $role; "
	  . "SELECT * FROM cmblock.apply_changes($call{protocol}, '$call{hierarchy}', '$call{sender}', '$call{receiver}', 'cluster.1', "
	  . ($batch // 'NULL') . ", $call{cursor}, repair => $call{repair})";
}

# A call of another function of the protocol; `rest` are the arguments behind the first five.
sub call_function
{
	my ($role, $function, $rest, %opt) = @_;
	my %call = (protocol => 1, hierarchy => $uuid, sender => 'P01', receiver => 'CEN', %opt);

	return "SET client_encoding = UTF8; SET SESSION AUTHORIZATION $role; "
	  . "SELECT * FROM cmblock.$function($call{protocol}, '$call{hierarchy}', '$call{sender}', '$call{receiver}', 'cluster.1'$rest)";
}

my $one = 'aaaaaaaa-0000-0000-0000-000000000000';
my $two = 'bbbbbbbb-0000-0000-0000-000000000000';
my %a1 = (smsid => $one, name => 'a', assigned => 'P01', version => 1, origin => 'P01');
my %b1 = (smsid => $two, name => 'b', assigned => 'P02', version => 1, origin => 'P02');

# ---------- who is calling ----------
sql_fails($cen, call('stranger', clients(\%a1)), '42501', qr/permission denied/, 'a stranger may not even call');
sql($cen, "SELECT cmblock.grant_privilege('stranger', 'replication_peer')");
sql_fails($cen, call('stranger', clients(\%a1)), '42501', qr/role "stranger" is not the one accepted for site P01.*accept_link\('P01', 'stranger'\)/s,
	'nor may one who can call');
sql_fails($cen, call('postgres', clients(\%a1)), '42501', qr/role "postgres" is not the one/, 'nor a superuser');
sql_fails($cen, call('p02_link', clients(\%a1)), '42501', qr/role "p02_link" is not the one accepted for site P01/, 'nor another neighbour');
sql_fails($cen, call('p01_link', clients(\%a1), hierarchy => '99999999-2222-3333-4444-555555555555'),
	'22023', qr/belongs to another hierarchy/, 'another hierarchy');
sql_fails($cen, call('p01_link', clients(\%a1), protocol => 2), '0A000', qr/protocol 2 is not spoken/, 'another protocol');
sql_fails($cen, call('p01_link', clients(\%a1), receiver => 'P02'), '22023', qr/this is site CEN, not site P02/, 'a call that is for another site');
sql_fails($cen, call('p01_link', clients(\%a1), encoding => 'LATIN1'), '08P01', qr/client_encoding/, 'another encoding');
sql_fails($cen, call('p01_link', undef), '22004', qr/changes cannot be null/, 'no batch');
sql_fails($cen, call('p01_link', clients(\%a1), sender => 'X99'), '42501', qr/not the one accepted/, 'an unknown sender');
sql_is($cen, 'SELECT count(*) FROM cmblock.client', '0', 'nothing was taken in');
# The other calls ask the same.
for my $case (
	[ 'open_link', '' ],
	[ 'compare_rows', ", 'client', NULL, NULL, 0, 0" ],
	[ 'fetch_rows', ", 'client', ''" ],
	[ 'ask_enforcement', ", 1, '$one'" ],
	[ 'tell_enforcement', ", 1, ''" ],
)
{
	my ($function, $rest) = @$case;

	sql_fails($cen, call_function('stranger', $function, $rest), '42501', qr/role "stranger" is not the one accepted/, "$function: a stranger");
	sql_fails($cen, call_function('p02_link', $function, $rest), '42501', qr/role "p02_link" is not the one/, "$function: another neighbour");
	sql_fails($cen, call_function('p01_link', $function, $rest, hierarchy => '99999999-2222-3333-4444-555555555555'), '22023', qr/another hierarchy/, "$function: another hierarchy");
	sql_fails($cen, call_function('p01_link', $function, $rest, protocol => 0), '0A000', qr/protocol 0 is not spoken/, "$function: an old protocol");
	sql_fails($cen, call_function('p01_link', $function, $rest, receiver => 'P02'), '22023', qr/this is site CEN, not/, "$function: for another site");
}
like(slurp_file($cen->logfile), qr/ERROR:  role "stranger" is not the one accepted for site P01/, 'the receiver\'s log has it');

# ---------- what is right ----------
sql_is($cen, call('p01_link', clients(\%a1), cursor => "'100:100:'"), '1|0', 'a row of its own');
sql_is($cen, call('p02_link', clients(\%b1), sender => 'P02'), '1|0', 'another neighbour\'s');
sql_is($cen, call('p01_link', clients(\%a1)), '0|1', 'the same again is ignored');
sql_is($cen, call('p01_link', clients({ %a1, version => 2, blocked => 'true' })), '1|0', 'a newer version');
sql_is($cen, call('p01_link', clients(\%a1)), '0|1', 'an older one is ignored');
sql_is($cen, 'SELECT concat_ws(\' \', blocked, version, changed_by, change_xid < pg_current_xact_id()) FROM cmblock.client WHERE name = \'a\'',
	't 2 mallory t', 'version and actor are the sender\'s, the transaction is this site\'s');
sql_is($cen, 'SELECT concat_ws(\' \', incarnation, snapshot, rows_received, rows_ignored, batches_received) FROM cmblock.replication_cursor WHERE neighbour = \'P01\'',
	'cluster.1 100:100: 4 2 4', 'the cursor stays until another comes');
sql_is($cen, "SET SESSION AUTHORIZATION p01_link; SELECT protocol_spoken, cursor FROM cmblock.open_link(1, '$uuid', 'P01', 'CEN', 'cluster.1')",
	'1|100:100:', 'open_link says it');
sql_is($cen, "SET SESSION AUTHORIZATION p01_link; SELECT cursor, cursor_incarnation, cursor_position FROM cmblock.open_link(1, '$uuid', 'P01', 'CEN', 'cluster.2')",
	'100:100:|cluster.1|', 'and in which life of the sender it was made');
sql_is($cen, 'SELECT count(*) FROM cmblock.block_event', '0', 'what a neighbour did is not this site\'s history');
sql_is($cen, call('p01_link', "''"), '0|0', 'an empty batch is one');

# ---------- forged rows, from a child ----------
my %bad = (
	'a row of another site, as its own' => [ { %b1, version => 2, origin => 'P01' }, qr/assigned to site P02/ ],
	'a row of another site, as that site\'s' => [ { %b1, version => 2 }, qr/written by site P02/ ],
	'another site\'s client taken over' => [ { %b1, version => 2, origin => 'P01', assigned => 'P01' }, qr/assigned to site P02/ ],
	'a new row assigned to another' => [ { %b1, smsid => 'cccccccc-0000-0000-0000-000000000000', origin => 'P01' }, qr/assigned to site P02/ ],
	'a hand-over to nobody' => [ { %a1, version => 3, assigned => 'X99' }, qr/X99, which is not a primary site/ ],
	'a hand-over to the central site' => [ { %a1, version => 3, assigned => 'CEN' }, qr/CEN, which is not a primary site/ ],
	'a row of the central site\'s' => [ { %a1, version => 3, origin => 'CEN' }, qr/written by site CEN/ ],
);
for my $what (sort keys %bad)
{
	my ($row, $rule) = @{ $bad{$what} };
	my %good = (%a1, smsid => 'dddddddd-0000-0000-0000-000000000000');

	sql_fails($cen, call('p01_link', clients(\%good, $row)), '42501', qr/site P01 has no authority over client GUID:.*$rule.*Nothing of the batch/s, "refused: $what");
}
sql_is($cen, "SELECT count(*), max(version), sum(version) FROM cmblock.client", '2|2|3', 'no row of those batches was taken in');
sql_fails($cen, call('p01_link', clients({ %a1, version => 3, blocked => 'true', isv => 'true' })), '23514', qr/check constraint/, 'constraints hold');
sql_is($cen, call('p01_link', clients({ %a1, version => 3, assigned => 'P02', blocked => 'true' })), '1|0', 'a hand-over is the owner\'s right');
sql_fails($cen, call('p01_link', clients({ %a1, version => 4 })), '42501', qr/assigned to site P02/, 'after it, the row is not its own any more');
sql_is($cen, call('p02_link', clients({ %a1, version => 4, assigned => 'P02', origin => 'P02' }), sender => 'P02'), '1|0', 'but the new owner\'s');
sql_is($cen, call('p01_link', clients({ %a1, smsid => 'eeeeeeee-0000-0000-0000-000000000000', assigned => 'P02', version => 2 })),
	'1|0', 'a client registered and handed over before it was ever sent');

# A repair says that the sender has compared, and nothing about its authority.
sql_fails($cen, call('p01_link', clients({ %b1, version => 1, origin => 'P01', blocked => 'true' }), repair => 'true'), '42501', qr/assigned to site P02/, 'refused: a repair of another site\'s row');
sql_is($cen, call('p01_link', clients({ %a1, smsid => 'ffffffff-0000-0000-0000-000000000000', version => 5 })), '1|0', 'a row of its own');
sql_is($cen, call('p01_link', clients({ %a1, smsid => 'ffffffff-0000-0000-0000-000000000000', version => 4, blocked => 'true' }), repair => 'true'), '1|0', 'a repair of it takes a lower version');

# Registered at both while they knew nothing of each other: who came first has it, and both are told. Nothing of the other one counts.
sql_is($cen, call('p01_link', clients({ %b1, name => 'twice', version => 7, origin => 'P01', assigned => 'P01', blocked => 'true', registered => "timestamptz '2026-02-02'" })), '1|0', 'a second registration');
sql_is($cen, "SELECT name, assigned_site, blocked, origin_site, version >= 7 + 2147483648 FROM cmblock.client WHERE smsid::uuid = '$two'", 'b|P02|f|CEN|t', 'does not count');
sql_is($cen, "SELECT action, to_site, reason FROM cmblock.block_event WHERE client::uuid = '$two'", 'conflict|P02|registered at site P01 as well, which learns that it is not its own; blocked there', 'and is on record');
# ---------- versions that cannot have come about ----------
my $day = 86400;
my $now_version = "((extract(epoch FROM now()) - extract(epoch FROM timestamptz '2025-01-01 00:00+00'))::int8 * 2147483648)";
my %version = (
	'the largest there is' => '9223372036854775807',
	'two days ahead' => "($now_version + 2::int8 * $day * 2147483648)",
	'zero' => '0',
	'negative' => '(-1)',
);
for my $what (sort keys %version)
{
	for my $smsid ('ffffffff-0000-0000-0000-000000000000', 'ffffffff-0000-0000-0000-000000000001')
	{
		my $is_newer = $smsid =~ /1$/ || $what !~ /zero|negative/;

		next unless $is_newer;
		sql_fails($cen, call('p01_link', clients({ %a1, smsid => $smsid, version => $version{$what} })), '42501',
			qr/has no authority over client GUID:FFFFFFFF.*Its version -?\d+ cannot have come about/s, "refused: version $what, of a row that is " . ($smsid =~ /1$/ ? 'new' : 'known'));
	}
}
sql_fails($cen, call('p01_link', sites({ code => 'S09', kind => 'secondary', parent => 'P01', version => '9223372036854775807', origin => 'P01' })), '42501', qr/site S09.*cannot have come about/s, 'refused: a site with the largest version');
sql_fails($cen, call('p01_link', clients({ %b1, version => "($now_version + 7200::int8 * 2147483648)", origin => 'P01', assigned => 'P01', registered => "timestamptz '2026-02-02'" })),
	'42501', qr/assigned to site P02/, 'refused: a second registration that would use up the versions');
# The highest that is taken can be outbid all the same.
sql_is($cen, call('p01_link', clients({ %a1, smsid => 'ffffffff-0000-0000-0000-000000000001', version => "($now_version + ${day}::int8 / 2 * 2147483648)", blocked => 'true' })), '1|0', 'a version of tomorrow');
sql_is($cen, "SELECT clients FROM cmblock.seize_clients('P01', 'P02')", '2', 'its clients are seized all the same');
sql_is($cen, "SELECT blocked, assigned_site FROM cmblock.client WHERE smsid::uuid = 'ffffffff-0000-0000-0000-000000000001'", 't|P02', 'with their blocks');
sql_fails($cen, call('p01_link', clients({ %a1, smsid => 'ffffffff-0000-0000-0000-000000000001', version => "($now_version + ${day}::int8 * 2147483648 - 2147483648 * 60)" })),
	'42501', qr/assigned to site P02/, 'and what it sends with an even higher one is refused');
# A late block counts if the client was seized from the sender; else such a row is ignored as any other that is not newer.
sql_is($cen, call('p01_link', clients({ %b1, version => 1, origin => 'P01', blocked => 'true' })), '0|1', 'ignored: a late block for a client that was never its own');
sql_is($cen, call('p01_link', clients({ %b1, version => 1, origin => 'P02', blocked => 'true' })), '0|1', 'ignored: one that it did not write');
sql_is($cen, "SELECT count(*) FROM cmblock.client WHERE smsid::uuid = '$two' AND blocked", '0', 'it is not blocked');
sql($cen, "SET cmblock.restore = on; UPDATE cmblock.client SET blocked = false WHERE smsid::uuid = 'ffffffff-0000-0000-0000-000000000000'");
sql_is($cen, call('p01_link', clients({ %a1, smsid => 'ffffffff-0000-0000-0000-000000000000', version => 6, blocked => 'true' })), '1|0', 'taken: one for a client that was');
sql_is($cen, "SELECT blocked, assigned_site, origin_site FROM cmblock.client WHERE smsid::uuid = 'ffffffff-0000-0000-0000-000000000000'", 't|P02|CEN', 'which stays the new owner\'s');
sql_is($cen, "SELECT reason FROM cmblock.block_event WHERE action = 'conflict' AND client::uuid <> '$two'", 'blocked by site P01, which did not know yet that it was seized', 'and is on record');
sql_is($cen, call('p01_link', clients({ %a1, smsid => 'ffffffff-0000-0000-0000-000000000000', version => 6, blocked => 'true' })), '0|1', 'once');

# ---------- sites, from a child ----------
sql_is($cen, call('p01_link', sites({ code => 'S01', kind => 'secondary', parent => 'P01', version => 1, origin => 'P01' })), '1|0', 'a secondary site below it');
my %bad_site = (
	'a site below another' => { code => 'S02', kind => 'secondary', parent => 'P02', version => 1, origin => 'P01' },
	'a primary site' => { code => 'P03', kind => 'primary', parent => 'P01', version => 1, origin => 'P01' },
	'itself' => { code => 'P01', kind => 'primary', parent => 'CEN', version => 9, origin => 'P01' },
	'a site that another wrote' => { code => 'S03', kind => 'secondary', parent => 'P01', version => 1, origin => 'P02' },
);
for my $what (sort keys %bad_site)
{
	sql_fails($cen, call('p01_link', sites($bad_site{$what})), '42501', qr/site P01 has no authority over site/, "refused: $what");
}
# A code that is another's: what came first stays, with a higher version, so that the sender learns it.
sql_is($cen, call('p01_link', sites({ code => 'CEN', kind => 'secondary', parent => 'P01', version => 9, origin => 'P01' })), '1|0', 'the code of the central site');
sql_is($cen, call('p02_link', sites({ code => 'S01', kind => 'secondary', parent => 'P02', version => 2, origin => 'P02' }), sender => 'P02'), '1|0', 'the code of a site below another');
sql_is($cen, "SELECT code, kind, parent, version, origin_site FROM cmblock.site WHERE code::text IN ('CEN', 'S01') ORDER BY code", "CEN|central||10|CEN\nS01|secondary|P01|3|CEN", 'nothing is taken of it');
sql($cen, "SELECT cmblock.retire_site('S01')");
sql_is($cen, call('p02_link', sites({ code => 'S01', kind => 'secondary', parent => 'P02', version => 5, origin => 'P02' }), sender => 'P02'),
	'1|0', 'the code of a retired secondary site is free');

# ---------- from the parent ----------
sql($p01, "SELECT cmblock.register_client('$one', 'a')");
my @parent = (sender => 'CEN', receiver => 'P01');
sql_is($p01, call('cen_link', clients(\%b1), @parent), '1|0', 'other sites\' rows');
sql_fails($p01, call('cen_link', clients({ %a1, version => 9, origin => 'P02', blocked => 'true' }), @parent),
	'42501', qr/site CEN has no authority over client.*assigned to site P01, which alone/s, 'refused: a row that is assigned here');
sql_fails($p01, call('cen_link', clients({ %a1, version => 9, origin => 'P02', assigned => 'P02' }), @parent),
	'42501', qr/assigned to site P01, which alone/, 'refused: taking one away');
sql_fails($p01, call('cen_link', clients({ %b1, smsid => 'cccccccc-0000-0000-0000-000000000000', origin => 'P01', assigned => 'P01' }), @parent),
	'42501', qr/claims to have been written by site P01/, 'refused: a row in this site\'s name');
sql_fails($p01, call('cen_link', clients({ %b1, smsid => 'cccccccc-0000-0000-0000-000000000000', version => '9223372036854775807' }), @parent),
	'42501', qr/cannot have come about/, 'refused: the largest version there is, from the parent as well');
sql_fails($p01, call('cen_link', clients({ %a1, version => 9, origin => 'CEN', assigned => 'P02' }), @parent),
	'42501', qr/assigned to site P01, which alone/, 'refused: taking one away in the central site\'s name, without the jump of a seizure');
sql_fails($p01, call('cen_link', clients({ %a1, version => $now_version, origin => 'CEN', assigned => 'S01' }), @parent),
	'42501', qr/assigned to site P01, which alone/, 'refused: a seizure for a site that has no clients');
sql_is($p01, call('cen_link', sites({ code => 'P02', kind => 'primary', parent => 'CEN', version => 1, origin => 'CEN' }), @parent), '1|0', 'another primary site');
sql_fails($p01, call('cen_link', clients({ %a1, version => $now_version, origin => 'P01', assigned => 'P02' }), @parent),
	'42501', qr/claims to have been written by site P01/, 'refused: a seizure in this site\'s name');
sql_is($p01, call('cen_link', clients({ %a1, version => 9, origin => 'CEN', blocked => 'true', name => 'forged' }), @parent), '1|0', 'the central site can add a block');
sql_is($p01, "SELECT name, blocked, assigned_site, origin_site, version FROM cmblock.client WHERE smsid::uuid = '$one'", 'a|t|P01|P01|10', 'and nothing else');
sql_is($p01, "SELECT action, site FROM cmblock.block_event WHERE client::uuid = '$one' ORDER BY id DESC LIMIT 1", 'conflict|P01', 'it is on record');
sql_is($p01, call('cen_link', clients({ %b1, version => 2, assigned => 'P01', blocked => 'true' }), @parent), '1|0', 'a hand-over to this site');
sql_is($p01, "SELECT cmblock.unblock_client('$two')", 'unblocked', 'which may then change it');
sql_fails($p01, call('cen_link', sites({ code => 'P01', kind => 'secondary', parent => 'CEN', version => 9, origin => 'CEN' }), @parent),
	'42501', qr/contradicts/, 'refused: what contradicts this site\'s set-up');
sql_is($p01, call('cen_link', sites({ code => 'P01', kind => 'primary', parent => 'CEN', version => 9, origin => 'CEN' }), @parent), '1|0', 'what agrees with it');
# Two sites may write a site's row at once: the higher code wins at both.
sql_is($p01, call('cen_link', sites({ code => 'S01', kind => 'secondary', parent => 'P01', version => 1, origin => 'CEN' }), @parent), '0|1', 'a draw with a lower code is lost');
sql_is($cen, call('p02_link', sites({ code => 'S01', kind => 'secondary', parent => 'P02', version => 3, origin => 'P02' }), sender => 'P02'), '0|1', 'the same row is no draw');

# ---------- malformed batches ----------
my $row = clients(\%a1);
for my $case (
	[ "'\\x00'", qr/unknown table/, 'an unknown table' ],
	[ "'c'::bytea", qr/ends too early/, 'a header cut off' ],
	[ "'c'::bytea || int2send(17::int2) || int4send(1)", qr/wrong number of columns/, 'too few columns' ],
	[ "'c'::bytea || int2send(18::int2) || int4send(0)", qr/wrong number of rows/, 'no rows' ],
	[ "'c'::bytea || int2send(18::int2) || int4send(-1)", qr/wrong number of rows/, 'fewer than none' ],
	[ "'c'::bytea || int2send(18::int2) || int4send(1) || int4send(-2)", qr/negative length/, 'a negative length' ],
	[ "'c'::bytea || int2send(18::int2) || int4send(1) || int4send(2147483647)", qr/ends too early/, 'a length beyond the end' ],
	[ "substring($row FROM 1 FOR 60)", qr/ends too early/, 'a row cut off' ],
	[ "$row || $row", qr/out of order/, 'a table twice' ],
	[ "$row || '\\x63'::bytea", qr/malformed/, 'octets left over' ],
)
{
	my ($batch, $message, $what) = @$case;

	sql_fails($cen, call('p01_link', $batch), '08P01', $message, "malformed: $what");
}
sql_fails($cen, call('p01_link', "'c'::bytea || int2send(18::int2) || int4send(1) || int4send(3) || '\\x001122'::bytea"),
	'22P03', qr/smsid/, 'a value that its type refuses');
sql_fails($cen, call('p01_link', "decode(repeat('00', 17000000), 'hex')"), '54000', qr/too large/, 'a batch that is too large');

# ---------- accept_link and unlink_site ----------
sql($cen, "SELECT cmblock.accept_link('P01', 'stranger')");
sql_fails($cen, call('p01_link', clients(\%a1)), '42501', qr/permission denied|not the one/, 'the old role is not accepted any more');
sql_is($cen, call('stranger', clients(\%a1)), '0|1', 'the new one is');
sql($cen, "SELECT cmblock.unlink_site('P01')");
sql_fails($cen, call('stranger', clients(\%a1)), '42501', qr/permission denied/, 'after unlink_site nobody is');
sql_fails($cen, "SELECT cmblock.unlink_site('P01')", '42704', qr/no link to site P01/, 'there is nothing left to unlink');

# ---------- not preloaded ----------
sql($p01, "CREATE SERVER cen FOREIGN DATA WRAPPER cmblock_fdw OPTIONS (${\ server_options($cen) })");
$p01->psql('postgres', "SELECT cmblock.link_site('CEN', 'cen')", stderr => \my $warning);
like($warning, qr/WARNING:  nothing is sent: cmblock is not preloaded.*shared_preload_libraries = 'cmblock'/s, 'link_site warns when the library is not preloaded');
sql_like($p01, "SELECT advice FROM cmblock.replication_status WHERE flow = 'send'", qr/^Add shared_preload_libraries = 'cmblock' to postgresql.conf and restart/, 'and the status says what to do');
sql_is($p01, "SELECT cmblock.unblock_client('$one')", 'unblocked', 'everything else works');

# ---------- the validator ----------
sql_fails($p01, "CREATE SERVER x FOREIGN DATA WRAPPER cmblock_fdw OPTIONS (pasword 'x')", 'HV00D', qr/invalid option "pasword".*Valid options here are:.*\bhost\b/s, 'an unknown option');
sql_fails($p01, "CREATE SERVER x FOREIGN DATA WRAPPER cmblock_fdw OPTIONS (password 'x')", 'HV00D', qr/invalid option "password".*DETAIL:  It belongs to the user mapping\./s, 'a password belongs to the user mapping');
sql_fails($p01, "CREATE SERVER x FOREIGN DATA WRAPPER cmblock_fdw OPTIONS (client_encoding 'LATIN1')", 'HV00D', qr/invalid option/, 'what the replicator sets itself');
sql_fails($p01, "CREATE USER MAPPING FOR postgres SERVER cen OPTIONS (host 'x')", 'HV00D', qr/Valid options here are:.*\buser\b.*\bpassword\b/s, 'a host belongs to the server');
sql_ok($p01, "CREATE USER MAPPING FOR postgres SERVER cen OPTIONS (user 'u', password 'p', sslcert 'c', sslkey 'k')", 'options of a user mapping');
sql_ok($p01, "CREATE SERVER y FOREIGN DATA WRAPPER cmblock_fdw OPTIONS (service 's', sslmode 'verify-full', hostaddr '127.0.0.1', connect_timeout '3')", 'options of a server');

done_testing();
