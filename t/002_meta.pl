# META.json keeps the rules of the PGXN Meta Specification 1.0.0, and says what the other files say; debian/ agrees with them.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/..";
my $meta = decode_json(slurp_file("$top/META.json"));
my $semantic_version = qr/(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)(?:-?[a-zA-Z][-0-9A-Za-z]*)?/;
my $range = qr/(?:(?:<|<=|==|!=|>=|>)\s*)?$semantic_version|0/;
my $term = qr{[^\s/\\[:cntrl:]][^/\\[:cntrl:]]{1,255}};
my $url = qr{[a-z][a-z0-9+.-]*://\S+};
my $mail = qr/[^\s@]+@[^\s@]+\.[^\s@]+/;
my %licence = map { $_ => 1 } qw(
  agpl_3 apache_1_1 apache_2_0 artistic_1 artistic_2 bsd freebsd gfdl_1_2 gfdl_1_3 gpl_1 gpl_2 gpl_3 lgpl_2_1 lgpl_3_0
  mit mozilla_1_0 mozilla_1_1 openssl perl_5 postgresql qpl_1_0 ssleay sun zlib open_source restricted unrestricted unknown);

# A map has these keys, which must be there if they have a !, and none but those and x_ ones.
sub keys_are
{
	my ($map, $name, @keys) = @_;
	my %known = map { s/!//r => 1 } @keys;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(ref $map, 'HASH', "$name is a map") or return;
	is(join(' ', grep { !exists $map->{$_} } map { /(.*)!/ } @keys), '', "$name has all keys that it must have");
	is(join(' ', grep { !$known{$_} && !/^x_/i } sort keys %$map), '', "$name has no unknown keys");
	return;
}

sub matches
{
	my ($value, $regexp, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return like(ref $value ? ref $value : $value // '', qr/\A(?:$regexp)\z/, $name);
}

# ---------- the specification ----------

keys_are($meta, 'META.json', qw(name! version! abstract! maintainer! license! provides! meta-spec!
	description generated_by tags no_index prereqs release_status resources));
matches($meta->{name}, $term, 'name');
matches($meta->{version}, $semantic_version, 'version');
matches($meta->{abstract}, qr/\S.*/, 'abstract');
matches($meta->{maintainer}, qr/[^<>]+ <$mail>/, 'maintainer');
ok($licence{ $meta->{license} }, 'license');
matches($meta->{release_status}, qr/stable|testing|unstable/, 'release_status');

keys_are($meta->{'meta-spec'}, 'meta-spec', qw(version! url));
is($meta->{'meta-spec'}{version}, '1.0.0', 'meta-spec.version');
matches($meta->{'meta-spec'}{url}, qr{https?://pgxn\.org/meta/spec\.txt}, 'meta-spec.url');

foreach my $extension (sort keys %{ $meta->{provides} })
{
	my $provided = $meta->{provides}{$extension};

	matches($extension, $term, "provides: $extension");
	keys_are($provided, "provides.$extension", qw(file! version! abstract docfile));
	matches($provided->{version}, $semantic_version, "provides.$extension.version");
	ok(-f "$top/$provided->{$_}", "provides.$extension.$_ is a file") foreach grep { exists $provided->{$_} } qw(file docfile);
	matches($provided->{abstract}, qr/\S.*/, "provides.$extension.abstract");
}

keys_are($meta->{prereqs}, 'prereqs', qw(configure build test runtime develop));
foreach my $phase (sort keys %{ $meta->{prereqs} })
{
	keys_are($meta->{prereqs}{$phase}, "prereqs.$phase", qw(requires recommends suggests conflicts));
	foreach my $needed (values %{ $meta->{prereqs}{$phase} })
	{
		matches($_, $term, "prereqs.$phase: $_"), matches($needed->{$_}, qr/$range(?:\s*,\s*$range)*/, "prereqs.$phase: version of $_")
		  foreach sort keys %$needed;
	}
}

is(ref $meta->{tags}, 'ARRAY', 'tags is a list');
matches($_, $term, "tag: $_") foreach @{ $meta->{tags} };

keys_are($meta->{resources}, 'resources', qw(homepage bugtracker repository));
keys_are($meta->{resources}{bugtracker}, 'resources.bugtracker', qw(web mailto));
keys_are($meta->{resources}{repository}, 'resources.repository', qw(url web type));
matches($meta->{resources}{homepage}, $url, 'resources.homepage');
matches($meta->{resources}{bugtracker}{mailto}, $mail, 'resources.bugtracker.mailto');
matches($meta->{resources}{repository}{$_}, $url, "resources.repository.$_") foreach qw(url web);
matches($meta->{resources}{repository}{type}, qr/[a-z]+/, 'resources.repository.type');

# ---------- what other files say ----------

my $control = slurp_file("$top/debian/control.in");

is(slurp_file("$top/cmblock.control") =~ /^comment = '(.*)'$/m ? ucfirst $1 : undef, $meta->{abstract}, 'the control file has the same abstract');
is(join(' ', sort keys %{ $meta->{provides} }), 'cmblock', 'one extension is provided');
matches($meta->{prereqs}{runtime}{requires}{PostgreSQL}, qr/15\.0\.0/, 'it needs PostgreSQL 15');
is(slurp_file("$top/debian/pgversions"), "15+\n", 'and so does the Debian package');
like(slurp_file("$top/debian/changelog"), qr/\Acmblock \(\Q$meta->{version}\E-\d+\) /, 'which has the same version');
like($control, qr/^Maintainer: \Q$meta->{maintainer}\E$/m, 'the same maintainer');
like($control, qr/^Homepage: \Q$meta->{resources}{homepage}\E$/m, 'the same home page');
is(slurp_file("$top/debian/control"), $control =~ s/PGVERSION/15/gr, 'debian/control is made from debian/control.in, for the version of Debian 12');

done_testing();
