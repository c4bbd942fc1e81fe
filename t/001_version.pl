# The version has one place, CMBLOCK_VERSION in src/cmblock.h; the files that repeat it must agree.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/..";
my ($version) = slurp_file("$top/src/cmblock.h") =~ /^#define CMBLOCK_VERSION "([\d.]+)"$/m;
my $meta = decode_json(slurp_file("$top/META.json"));

like($version, qr/^\d+\.\d+$/, 'the C sources name a version of two parts');
like(slurp_file("$top/cmblock.control"), qr/^default_version = '\Q$version\E'$/m, 'control file');
is($meta->{provides}{cmblock}{version}, $meta->{version}, 'META.json has one version');
like($meta->{version}, qr/^\Q$version\E\.\d+$/, 'META.json adds a patch level to it');
is($meta->{provides}{cmblock}{file}, "sql/cmblock--$version.sql", 'META.json names the install script');
ok(-f "$top/$meta->{provides}{cmblock}{file}", 'the install script is there');
like(slurp_file("$top/CHANGELOG.md"), qr/^## \Q$meta->{version}\E\b/m, 'CHANGELOG.md tells of it');

my $node = new_site('version', preload => 0);
sql_is($node, q{SELECT extversion FROM pg_extension WHERE extname = 'cmblock'},
	$version, 'CREATE EXTENSION installs it');

done_testing();
