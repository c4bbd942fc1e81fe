# Upgraded equals fresh: a database with an older version of the extension that ALTER EXTENSION brought up to date has the
# same objects as a new one, down to privileges, comments and what pg_dump keeps of the tables.
#
# Every version that has an install script in sql/ is upgraded, so an upgrade script is tested from the day it is there. That
# this test sees what a script forgets is shown with a copy of the extension under another name.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/..";
my $node = new_site('upgrade', preload => 0, extension => 0);
my ($version) = slurp_file("$top/cmblock.control") =~ /^default_version = '(.*)'$/m;
my $fingerprint = slurp_file("$top/test/fingerprint.sql");

# The properties of an extension that is made by these statements, which leave nothing behind.
sub fingerprint
{
	my ($extension, @statements) = @_;

	return sql($node, join("\n", "\\set extension $extension", map({ "$_;" } 'BEGIN', @statements), $fingerprint, 'ROLLBACK;'));
}

# What only one of two fingerprints has.
sub difference
{
	my ($got, $expected) = @_;
	my %count;

	$count{$_}-- foreach split /\n/, $expected;
	$count{$_}++ foreach split /\n/, $got;
	return join "\n", map { $count{$_} > 0 ? "+ $_" : "- $_" } grep { $count{$_} } sort keys %count;
}

# ---------- the versions there are ----------
my $fresh = fingerprint('cmblock', 'CREATE EXTENSION cmblock');
my @versions = map { m{/cmblock--([^/]+?)\.sql$} && $1 !~ /--/ ? $1 : () } glob("$top/sql/cmblock--*.sql");

ok((grep { $_ eq $version } @versions), "version $version can be installed without an upgrade");
cmp_ok(scalar(split /\n/, $fresh), '>', 1000, 'there is something to compare');
is(difference(fingerprint('cmblock', 'CREATE EXTENSION cmblock'), $fresh), '', 'and it is the same each time');
foreach my $old (grep { $_ ne $version } @versions)
{
	is(difference(fingerprint('cmblock', "CREATE EXTENSION cmblock VERSION '$old'", "ALTER EXTENSION cmblock UPDATE TO '$version'"), $fresh),
		'', "upgraded from $old: as new");
}
sql_is($node, "SELECT string_agg(source, ',') FROM pg_extension_update_paths('cmblock') WHERE target = '$version' AND path IS NULL",
	'', "every version has a way to $version");
sql_is($node, "SELECT count(*) FROM pg_available_extension_versions WHERE name = 'cmblock'",
	scalar(@versions), 'all install scripts are installed');

# ---------- what a script can forget ----------
# A next version of a copy: what was there, what a new installation brings, and the steps of the upgrade. Each step left out
# has to be seen.
my $was = <<'END';
CREATE TABLE cmblock.proof (a int);
CREATE FUNCTION cmblock.proof() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TYPE cmblock.proof_kind AS ENUM ('one', 'three');
CREATE VIEW cmblock.proof_view AS SELECT a FROM cmblock.proof;
END
my $is = <<'END';
CREATE TABLE cmblock.proof (a int, b text NOT NULL DEFAULT 'x' CONSTRAINT b_is_short CHECK (length(b) < 10));
CREATE INDEX proof_b ON cmblock.proof (b);
COMMENT ON INDEX cmblock.proof_b IS 'an index';
COMMENT ON COLUMN cmblock.proof.b IS 'a column';
SELECT pg_catalog.pg_extension_config_dump('cmblock.proof', 'WHERE a > 0');
CREATE FUNCTION cmblock.proof() RETURNS int STABLE LANGUAGE sql AS 'SELECT 2';
CREATE FUNCTION cmblock.proof_new(x int) RETURNS int LANGUAGE sql AS 'SELECT $1';
COMMENT ON FUNCTION cmblock.proof_new IS 'a function';
REVOKE ALL ON FUNCTION cmblock.proof_new FROM PUBLIC;
CREATE TYPE cmblock.proof_kind AS ENUM ('one', 'two', 'three');
CREATE VIEW cmblock.proof_view AS SELECT a, b FROM cmblock.proof;
GRANT SELECT ON cmblock.proof_view TO pg_monitor;
CREATE TRIGGER proof_trigger BEFORE TRUNCATE ON cmblock.proof FOR EACH STATEMENT EXECUTE FUNCTION cmblock.proof_trigger();
ALTER TABLE cmblock.proof ENABLE ALWAYS TRIGGER proof_trigger;
CREATE OPERATOR cmblock.=== (PROCEDURE = cmblock.proof_same, LEFTARG = cmblock.site_code, RIGHTARG = cmblock.site_code, COMMUTATOR = OPERATOR(cmblock.===));
CREATE CAST (cmblock.site_code AS varchar) WITH INOUT AS ASSIGNMENT;
END
my $both = <<'END';
CREATE FUNCTION cmblock.proof_trigger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE FUNCTION cmblock.proof_same(cmblock.site_code, cmblock.site_code) RETURNS bool LANGUAGE sql AS 'SELECT true';
END
my @steps = (
	[ 'nothing', '' ],
	[ 'a column', q{ALTER TABLE cmblock.proof ADD COLUMN b text; UPDATE cmblock.proof SET b = 'x'} ],
	[ 'a default', q{ALTER TABLE cmblock.proof ALTER b SET DEFAULT 'x'} ],
	[ 'NOT NULL', 'ALTER TABLE cmblock.proof ALTER b SET NOT NULL' ],
	[ 'a constraint', 'ALTER TABLE cmblock.proof ADD CONSTRAINT b_is_short CHECK (length(b) < 10)' ],
	[ 'an index', 'CREATE INDEX proof_b ON cmblock.proof (b)' ],
	[ 'the comment on an index', q{COMMENT ON INDEX cmblock.proof_b IS 'an index'} ],
	[ 'the comment on a column', q{COMMENT ON COLUMN cmblock.proof.b IS 'a column'} ],
	[ 'the rows of a table in dumps', q{SELECT pg_catalog.pg_extension_config_dump('cmblock.proof', 'WHERE a > 0')} ],
	[ 'the body of a function', q{CREATE OR REPLACE FUNCTION cmblock.proof() RETURNS int LANGUAGE sql AS 'SELECT 2'} ],
	[ 'the volatility of a function', 'ALTER FUNCTION cmblock.proof() STABLE' ],
	[ 'a function', q{CREATE FUNCTION cmblock.proof_new(x int) RETURNS int LANGUAGE sql AS 'SELECT $1'} ],
	[ 'the comment on a function', q{COMMENT ON FUNCTION cmblock.proof_new IS 'a function'} ],
	[ 'that PUBLIC may not call a function', 'REVOKE ALL ON FUNCTION cmblock.proof_new FROM PUBLIC' ],
	[ 'a value of an enum', q{ALTER TYPE cmblock.proof_kind ADD VALUE 'two' BEFORE 'three'} ],
	[ 'a view', 'CREATE OR REPLACE VIEW cmblock.proof_view AS SELECT a, b FROM cmblock.proof' ],
	[ 'a privilege', 'GRANT SELECT ON cmblock.proof_view TO pg_monitor' ],
	[ 'a trigger', 'CREATE TRIGGER proof_trigger BEFORE TRUNCATE ON cmblock.proof FOR EACH STATEMENT EXECUTE FUNCTION cmblock.proof_trigger()' ],
	[ 'that a trigger is always on', 'ALTER TABLE cmblock.proof ENABLE ALWAYS TRIGGER proof_trigger' ],
	[ 'an operator', 'CREATE OPERATOR cmblock.=== (PROCEDURE = cmblock.proof_same, LEFTARG = cmblock.site_code, RIGHTARG = cmblock.site_code, COMMUTATOR = OPERATOR(cmblock.===))' ],
	[ 'a cast', 'CREATE CAST (cmblock.site_code AS varchar) WITH INOUT AS ASSIGNMENT' ]);
# A step that others need is left out by what comes instead of it.
my %instead = (
	'a column' => 'ALTER TABLE cmblock.proof ADD COLUMN c int, ADD COLUMN b text',
	'an index' => 'CREATE INDEX proof_b ON cmblock.proof (a)',
	'a function' => q{CREATE FUNCTION cmblock.proof_new(y int) RETURNS int LANGUAGE sql AS 'SELECT $1'},
	'a trigger' => 'CREATE TRIGGER proof_trigger AFTER TRUNCATE ON cmblock.proof FOR EACH STATEMENT EXECUTE FUNCTION cmblock.proof_trigger()');

my $directory = sql($node, q{SELECT setting FROM pg_config WHERE name = 'SHAREDIR'}) . '/extension';
my $proof = 'cmblock_proof';

sub write_script
{
	my ($name, $text) = @_;

	write_file("$directory/$name", $text);
	return;
}

# The upgrade script, but for one step.
sub upgrade_without
{
	my ($forgotten) = @_;

	return join '', map { "$_;\n" } grep { $_ } map { $_->[0] ne $forgotten ? $_->[1] : $instead{$forgotten} } @steps;
}

SKIP:
{
	skip "the directory of the extensions, $directory, cannot be written", 1 unless -w $directory;
	my $base = slurp_file("$top/sql/cmblock--$version.sql");

	write_script("$proof.control", "comment = 'a copy that t/012_upgrade makes'\ndefault_version = '2'\nmodule_pathname = '\$libdir/cmblock'\nrelocatable = false\n");
	write_script("$proof--1.sql", $base . $both . $was);
	write_script("$proof--2.sql", $base . $both . $is);
	write_script("$proof--1--upgraded$_.sql", upgrade_without($steps[$_][0])) foreach 0 .. $#steps;

	my $new = fingerprint($proof, "CREATE EXTENSION $proof");
	foreach my $n (0 .. $#steps)
	{
		my $difference = difference(fingerprint($proof, "CREATE EXTENSION $proof VERSION '1'", "ALTER EXTENSION $proof UPDATE TO 'upgraded$n'"), $new);

		if ($n == 0)
		{
			is($difference, '', 'a script that forgets nothing: as new');
		}
		else
		{
			like($difference, qr/proof|===|varchar|character varying/, "one that forgets $steps[$n][0] is seen");
			note $difference;
		}
	}
}
unlink glob("$directory/$proof*");

done_testing();
