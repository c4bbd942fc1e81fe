# docs/sql-reference.md and the catalog say the same: every function with its arguments, result and privileges, every
# type with its values, every table and view with its columns, every setting with its default. What the page has and
# the catalog has not fails, too.
#
# The messages that README.md explains are those of the sources. In all pages, each link leads to a file and a heading
# that are there.
#
# Left out are the functions of the data types, which a type's own section describes.
#
# For the author of the page: DOCS_UPDATE=1 writes the signatures into it.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $path = "$FindBin::RealBin/../docs/sql-reference.md";
my $text = slurp_file($path);
my $node = new_site('reference');

my %section = sections($text);
compare_functions();
compare_trigger_functions();
compare_types();
compare_columns('Views', 'v');
compare_columns('Tables', 'r');
compare_settings();
compare_foreign_data_wrappers();
check_readme();
check_messages();
check_links($_) foreach "$FindBin::RealBin/../README.md", glob("$FindBin::RealBin/../docs/*.md");
done_testing();

# Title of a second-level heading => { title of a third-level heading => its text }; the text before those is at ''.
sub sections
{
	my ($page) = @_;
	my %result;

	foreach my $part (split /^## /m, $page)
	{
		my ($title, $body) = $part =~ /^(.*?)\n(.*)/s or next;
		my ($head, @items) = split /^### /m, $body;
		$result{$title}{''} = $head;
		foreach my $item (@items)
		{
			my ($name, $content) = $item =~ /^(\S+)\n(.*)/s or die "heading without a name: $item";
			$result{$title}{$name} = $content;
		}
	}
	return %result;
}

sub names
{
	my ($title) = @_;

	return sort grep { $_ ne '' } keys %{ $section{$title} };
}

sub rows
{
	my ($query) = @_;

	return map { [ split /\|/, $_, -1 ] } split /\n/, sql($node, $query);
}

# The first column of a Markdown table, where it is code.
sub table_keys
{
	my ($content) = @_;

	return [ $content =~ /^\| `([^`]+)` \|/mg ];
}

# ---------------------------------------------------------------------------------------------
# Functions
# ---------------------------------------------------------------------------------------------

sub compare_functions
{
	my @functions = rows(<<'END');
SELECT p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), p.oid
FROM pg_proc p
WHERE p.pronamespace = 'cmblock'::regnamespace AND p.prokind = 'f' AND p.prorettype <> 'trigger'::regtype
  AND p.proname !~ '^(site_code|smsid|thumbprint|certificate_serial)(_|$)'
ORDER BY 1
END

	is_deeply([ names('Functions') ], [ map { $_->[0] } @functions ], 'the functions are those of the catalog');
	update_signatures(@functions) if $ENV{DOCS_UPDATE};
	foreach my $kind (qw(block_changer pki_administrator site_system replication_peer reader))
	{
		sql($node, "CREATE ROLE is_$kind; SELECT cmblock.grant_privilege('is_$kind', '$kind')");
	}
	foreach my $function (@functions)
	{
		my ($name, $arguments, $result, $oid) = @$function;
		my $content = $section{Functions}{$name} // '';
		my ($shown) = $content =~ /^```\n(.*?)^```/ms;
		my ($granted) = $content =~ /^Granted to: (.*?)\.$/m;

		is(squeeze($shown // ''), squeeze(signature($name, $arguments, $result)), "$name: signature");
		is($granted // '', sql($node, <<"END"), "$name: privilege");
SELECT coalesce(string_agg(substr(rolname, 4), ', ' ORDER BY oid), 'the owner')
FROM pg_roles WHERE rolname LIKE 'is\\_%' AND has_function_privilege(oid, $oid, 'EXECUTE')
END
	}
	return;
}

# As a person writes it: no casts of defaults, short names of types, the columns of a result behind the arrow.
sub signature
{
	my ($name, $arguments, $result) = @_;
	my @in = grep { !/^OUT / } split /, /, $arguments;
	my @out = map { s/^OUT //r } grep { /^OUT / } split /, /, $arguments;
	my $set = $result =~ /^SETOF/ ? 'SETOF ' : '';
	my $call = "cmblock.$name(" . join(', ', @in) . ')';
	my $line = @out ? "$call\n    → $set(" . join(', ', @out) . ')' : "$call → $result";

	$line =~ s{::[\w.]+(?:\[\])?}{}g;
	$line =~ s/timestamp with time zone/timestamptz/g;
	return $line;
}

sub squeeze
{
	my ($code) = @_;

	return join ' ', split ' ', $code;
}

sub update_signatures
{
	foreach my $function (@_)
	{
		my ($name, $arguments, $result) = @$function;
		my $signature = join("\n", map { fold_line($_) } split /\n/, signature($name, $arguments, $result));

		$text =~ s/^(### \Q$name\E\n\n)(```\n.*?^```\n)?/$1```\n$signature\n```\n/ms;
	}
	open my $fh, '>', $path or die "could not write $path: $!";
	print $fh $text;
	close $fh or die "could not write $path: $!";
	%section = sections($text);
	return;
}

# Lines of at most 100 characters.
sub fold_line
{
	my ($line) = @_;
	my ($result, $length) = ('', 0);

	foreach my $word (split /(?<=,) /, $line)
	{
		if ($length && $length + length($word) > 100)
		{
			$result .= "\n        ";
			$length = 8;
		}
		elsif ($length)
		{
			$result .= ' ';
		}
		$result .= $word;
		$length += length($word) + 1;
	}
	return $result;
}

sub compare_trigger_functions
{
	my @documented = sort grep { /^[a-z]/ } @{ table_keys($section{'Trigger functions'}{''} // '') };
	my @existing = map { $_->[0] } rows(<<'END');
SELECT proname FROM pg_proc
WHERE pronamespace = 'cmblock'::regnamespace AND prorettype = 'trigger'::regtype
ORDER BY 1
END

	is_deeply(\@documented, \@existing, 'the trigger functions are those of the catalog');
	return;
}

# ---------------------------------------------------------------------------------------------
# Types, tables, views
# ---------------------------------------------------------------------------------------------

sub compare_types
{
	my @types = rows(<<'END');
SELECT t.typname,
       coalesce((SELECT string_agg(e.enumlabel, ' ' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
                (SELECT string_agg(a.attname, ' ' ORDER BY a.attnum) FROM pg_attribute a
                 WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped), '')
FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE t.typnamespace = 'cmblock'::regnamespace AND t.typcategory <> 'A' AND (c.oid IS NULL OR c.relkind = 'c')
ORDER BY 1
END

	is_deeply([ names('Types') ], [ map { $_->[0] } @types ], 'the types are those of the catalog');
	foreach my $type (@types)
	{
		my ($name, $values) = @$type;
		is(join(' ', @{ table_keys($section{Types}{$name} // '') }), $values, "type $name: values or fields")
		  if $values ne '';
	}
	return;
}

sub compare_columns
{
	my ($title, $relkind) = @_;
	my @relations = rows(<<"END");
SELECT c.relname, string_agg(a.attname, ' ' ORDER BY a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'cmblock'::regnamespace AND c.relkind = '$relkind'
GROUP BY 1 ORDER BY 1
END

	is_deeply([ names($title) ], [ map { $_->[0] } @relations ], lc($title) . ' are those of the catalog');
	foreach my $relation (@relations)
	{
		my ($name, $columns) = @$relation;
		is(join(' ', @{ table_keys($section{$title}{$name} // '') }), $columns, "$name: columns");
	}
	return;
}

# ---------------------------------------------------------------------------------------------
# Settings, foreign data wrapper
# ---------------------------------------------------------------------------------------------

sub compare_settings
{
	my @documented = $section{Settings}{''} =~ /^\| `(cmblock\.\w+)` \| `([^`]*)` \| (\w+) \|/mg;
	my @existing = map { @$_ } rows(<<'END');
SELECT name, concat_ws(' ', boot_val, unit), context FROM pg_settings WHERE name LIKE 'cmblock.%' ORDER BY 1
END

	is_deeply(\@documented, \@existing, 'the settings have the defaults and contexts of pg_settings, in the order of their names');
	return;
}

sub compare_foreign_data_wrappers
{
	my @documented = names('Foreign data wrapper');
	my @existing = map { $_->[0] } rows(q(SELECT fdwname FROM pg_foreign_data_wrapper WHERE fdwname LIKE 'cmblock%'));

	is_deeply(\@documented, \@existing, 'the foreign data wrapper is that of the catalog');
	return;
}

# ---------------------------------------------------------------------------------------------
# Messages
# ---------------------------------------------------------------------------------------------

# README.md leads to everything that a person would look for: not to what neighbours call, nor to what is a view as well.
sub check_readme
{
	my $readme = slurp_file("$FindBin::RealBin/../README.md");
	my @internal = qw(fdw_validator link_phase refresher_state replication_worker version);
	my @functions = grep { my $name = $_; $section{Functions}{$name} !~ /^Part of the replication protocol|^The rows of |adds them up/m && !grep { $_ eq $name } @internal } names('Functions');

	is(join(' ', grep { index($readme, "(docs/sql-reference.md#$_)") < 0 } @functions, names('Views')), '', 'README.md leads to all commands and views');
	is(join(' ', grep { index($readme, "`$_`") < 0 } @{ table_keys($section{Settings}{''}) }), '', 'and has all settings');
	return;
}

# Of a message, what stands between the parts that vary has to be in a string of the sources.
sub check_messages
{
	my $sources = join '', map { slurp_file($_) } glob("$FindBin::RealBin/../{src,worker}/*.c");
	my ($table) = slurp_file("$FindBin::RealBin/../README.md") =~ /^## Troubleshooting\n(.*?)^## /ms;

	# a long string is several in C
	$sources =~ s/"\s*\n\s*"//g;
	$sources =~ s/\\"/"/g;
	foreach my $message ($table =~ /^\| (?:reason )?`(?:WARNING: )?([^`]+)` \|/mg)
	{
		my @missing = grep { length > 8 && index($sources, $_) < 0 } split /\s*…\s*/, $message;
		is("@missing", '', "message: $message");
	}
	return;
}

# ---------------------------------------------------------------------------------------------
# Links
# ---------------------------------------------------------------------------------------------

sub check_links
{
	my ($page) = @_;
	my ($directory, $name) = $page =~ m{(.*/)(.*)};
	my @broken;

	foreach my $link (slurp_file($page) =~ /\]\(([^)\s]+)\)/g)
	{
		my ($file, $anchor) = $link =~ /^([^#]*)#?(.*)$/;
		my $target = $file eq '' ? $page : "$directory$file";

		next if $link =~ /^https?:/;
		push @broken, $link
		  unless -e $target && ($anchor eq '' || grep { $_ eq $anchor } anchors($target));
	}
	is("@broken", '', "$name: links");
	return;
}

# As the usual web pages make them from headings: the second of the same name gets -1.
sub anchors
{
	my ($page) = @_;
	my %count;

	return map {
		my $anchor = lc($_) =~ s/[^\w\- ]//gr =~ s/ /-/gr;
		$count{$anchor}++ ? "$anchor-" . ($count{$anchor} - 1) : $anchor
	} slurp_file($page) =~ /^#+ (.*)$/mg;
}
