# What the tests of CRLs share: a site, a trust list that begins empty, and short questions.
#
#	my $root = der_ca('Root');
#	fresh($root);                                   # only this CA is trusted, no CRL is held
#	is(take(der_crl($root)), 'accepted');           # or "22023 invalid CRL | detail | hint"
#	is(status(der_leaf($root, 'pc1')), 'good');     # or "unknown crl_missing", "revoked revoked"
package CrlTest;

use strict;
use warnings;
use Exporter 'import';
use CmblockTest;
use Der;
use FindBin;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

our @EXPORT = qw(crl_site fresh trust take status detail run_sql refused deviations);

my $site;

sub crl_site
{
	my ($name, %opt) = @_;

	$site = new_site($name, %opt);
	return $site;
}

sub fresh
{
	my (@authorities) = @_;

	sql($site, 'DELETE FROM cmblock.crl; DELETE FROM cmblock.crl_scope; DELETE FROM cmblock.certificate_authority');
	trust($_) foreach @authorities;
	return;
}

# Policies by name: trust($ca, max_age => "'1 day'")
sub trust
{
	my ($authority, %policy) = @_;
	my $arguments = join '', map { ", $_ => $policy{$_}" } sort keys %policy;

	sql($site, "SELECT cmblock.add_certificate_authority(${\ hex_literal($authority) })");
	sql($site, "SELECT cmblock.set_crl_policy('$authority->{sha256}'$arguments)") if %policy;
	return;
}

# What a statement returns, or "SQLSTATE message | DETAIL | HINT".
sub run_sql
{
	my ($query) = @_;
	my ($stdout, $stderr) = ('', '');
	my $status = $site->psql('postgres', "\\set VERBOSITY verbose\n$query",
		stdout => \$stdout, stderr => \$stderr, on_error_stop => 1);

	return $stdout if $status == 0;
	my ($state, $message) = $stderr =~ /ERROR:  ([0-9A-Z]{5}): (.*)/;
	return join ' | ', "$state $message", map { $stderr =~ /^$_:  (.*)/m ? $1 : () } qw(DETAIL HINT);
}

sub take
{
	my ($crl) = @_;

	return run_sql("SELECT outcome FROM cmblock.import_crl(${\ hex_literal($crl) })");
}

# Is it refused, with this SQLSTATE and with words like the expression, and nothing taken in?
sub refused
{
	my ($crl, $sqlstate, $words, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $before = sql($site, 'SELECT count(*) FROM cmblock.crl');

	return like(take($crl), qr/^\Q$sqlstate\E .*$words/, $name)
	  && is(sql($site, 'SELECT count(*) FROM cmblock.crl'), $before, "$name: it is not kept");
}

# The cases of a suite that give another answer than the suite expects, on purpose: from docs/revocation.md, the rows
# "| `case` | expected | here | why |" below the heading with the suite's name.
sub deviations
{
	my ($suite) = @_;
	my $page = slurp_file("$FindBin::RealBin/../docs/revocation.md");
	my ($section) = $page =~ /^## Deviations\n.*?^### \Q$suite\E\n(.*?)(?=^##|\z)/ms;
	my %rows;

	die "docs/revocation.md has no deviations of $suite" unless $section;
	$rows{$1} = { expected => $2, here => $3 } while $section =~ /^\| `([^`]+)` \| `([^`]+)` \| `([^`]+)` \| .+ \|$/mg;
	return %rows;
}

sub at
{
	my ($seconds) = @_;

	return defined $seconds ? ", to_timestamp($seconds)" : '';
}

sub status
{
	my ($certificate, $at) = @_;

	return sql($site, "SELECT concat_ws(' ', status, reason) FROM cmblock.revocation_status(${\ hex_literal($certificate) }@{[ at($at) ]})");
}

# Any columns of the answer.
sub detail
{
	my ($certificate, $columns, $at) = @_;

	return sql($site, "SELECT $columns FROM cmblock.revocation_status(${\ hex_literal($certificate) }@{[ at($at) ]})");
}

1;
