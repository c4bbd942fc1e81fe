# Every SQL example of README.md and docs/ is run, in order, and prints what the page says that it prints.
#
# A page is run from its top to its end, in databases of its own. Comments that a reader does not see say
# what the page does not; each begins a line:
#
#	<!-- sites P01 S01 -->	fresh databases "site": these sites are set up and linked, and the first one is asked.
#							Without a name: no server has such a database.
#	<!-- at P01 -->			from here on, blocks are run at this site
#	<!-- in DATABASE -->	the next block is run in this database
#	<!-- as ROLE -->		the next block is run by this role
#	<!-- expect error SQLSTATE -->	the next block fails so
#	<!-- do STATEMENT -->	run this, too
#	<!-- until QUERY -->	wait until this returns true
#	<!-- run -->			the next block is for a shell
#	<!-- output -->			the next block is what the last one printed
#
# The hosts cen.example.com, p01.example.com ... are the servers of this test, which ask for passwords over TCP.
# Outputs are compared without regard to times, hashes, uuids and the widths of columns.
#
# For the author of a page: DOCS_PAGE=tutorial runs that page alone, DOCS_UPDATE=1 writes what was printed into it.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::RealBin/..";
my %parent = (P01 => 'CEN', P02 => 'CEN', S01 => 'P01');
my %kind = (CEN => 'central', P01 => 'primary', P02 => 'primary', S01 => 'secondary');
my $hierarchy = '6f1b7a52-3c0e-4d2b-9a55-000000000001';
my %node;
my $pki = make_pki();

foreach my $code (sort keys %kind)
{
	my $node = $node{$code} = new_site(lc $code, extension => 0, conf => "timezone = 'UTC'");

	unlink $node->data_dir . '/pg_hba.conf';
	$node->append_conf('pg_hba.conf', "local all all trust\nhost site all 127.0.0.1/32 scram-sha-256\n");
	$node->reload;
}
foreach my $page ("$root/README.md", sort glob("$root/docs/*.md"))
{
	my ($name) = $page =~ m{([^/]+)\.md$};
	run_page($page, $name) if ($ENV{DOCS_PAGE} // $name) eq $name;
}
done_testing();

# ---------------------------------------------------------------------------------------------
# A page: text, comments and blocks
# ---------------------------------------------------------------------------------------------

sub run_page
{
	my ($path, $name) = @_;
	my %page = (
		name => $name, site => 'P01', line => 1, printed => '', next => {},
		dir => PostgreSQL::Test::Utils::tempdir("page_$name"));
	my $text = slurp_file($path);
	my $new = '';

	run_or_die('cp', glob("$pki/*"), $page{dir});
	while ($text =~ /\G(.*?)(^<!-- (\w+)(.*?)-->\n|^```(\w*)\n(.*?)^```\n|\z)/gms)
	{
		my ($before, $whole, $directive, $argument, $language, $block) = ($1, $2, $3, $4, $5, $6);
		$page{line} += $before =~ tr/\n//;
		if ($directive)
		{
			obey(\%page, $directive, $argument =~ s/^\s+|\s+$//gr);
		}
		elsif (defined $block)
		{
			my $replaced = run_block(\%page, $language, $block);
			$whole = "```$language\n$replaced```\n" if defined $replaced;
		}
		$new .= $before . $whole;
		$page{line} += $whole =~ tr/\n//;
		last if $whole eq '';
	}
	if ($ENV{DOCS_UPDATE})
	{
		open my $fh, '>', $path or die "could not write $path: $!";
		print $fh $new;
		close $fh or die "could not write $path: $!";
	}
	return;
}

sub obey
{
	my ($page, $directive, $argument) = @_;
	my $where = "$page->{name}.md, line $page->{line}";

	return make_sites($page, split ' ', $argument) if $directive eq 'sites';
	return $page->{site} = $argument if $directive eq 'at';
	return $page->{next}{$directive} = $argument if $directive =~ /^(in|as|run|output|expect)$/;
	if ($directive eq 'do')
	{
		my ($output, $state) = psql($page, "$argument;");
		is($state, '00000', "$where: preparation at $page->{site}") or diag($output);
	}
	elsif ($directive eq 'until')
	{
		wait_until_true($page, $argument, "$where: $argument");
	}
	else
	{
		fail("$where: directive $directive is not known");
	}
	return;
}

# Returns the text that should stand in the block, if the block is an output.
sub run_block
{
	my ($page, $language, $block) = @_;
	my $where = "$page->{name}.md, line $page->{line}";
	my $options = $page->{next};

	$page->{next} = {};
	if (defined $options->{output})
	{
		return $page->{printed} if $ENV{DOCS_UPDATE} && essence($block) ne essence($page->{printed});
		return is(essence($block), essence($page->{printed}), "$where: the output") && undef;
	}
	if ($language eq 'sql')
	{
		my ($expected) = ($options->{expect} // 'error 00000') =~ /^error (\w{5})$/;
		my ($output, $state) = psql($page, $block, %$options);
		is($state, $expected, "$where: SQL at $page->{site}") or diag("$block\n$output");
		$page->{printed} = $output;
	}
	elsif (defined $options->{run})
	{
		my $output = '';
		ok(IPC::Run::run([ 'bash', '-ec', $block ], '<', \undef, '>&', \$output, init => sub { chdir $page->{dir} }),
			"$where: shell")
		  or diag($output);
		$page->{printed} = $output;
	}
	return;
}

# What a reader would call the same output.
sub essence
{
	my ($text) = @_;

	$text =~ s/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?([+-]\d\d|Z)?/TIME/g;
	$text =~ s/(?<!GUID:)\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/UUID/g;
	$text =~ s/(\\x)?\b[0-9A-Fa-f]{40,}\b/HASH/g;
	$text =~ s/\b\d+\.\d{3}\b/NUMBER/g;
	$text =~ s/-{2,}/--/g;
	$text =~ s/[ \t]+/ /g;
	$text =~ s/ $//mg;
	return $text;
}

# ---------------------------------------------------------------------------------------------
# psql, as a reader calls it
# ---------------------------------------------------------------------------------------------

# Returns what the script prints and the SQLSTATE of its last error. stdbuf keeps messages and results in order.
sub psql
{
	my ($page, $script, %options) = @_;
	my $node = $node{ $page->{site} };
	my $output = '';

	$script =~ s/host '(\w+)\.example\.com'/"host '127.0.0.1', port '" . $node{uc $1}->port . "'"/ge;
	IPC::Run::run(
		[
			'stdbuf', '-oL', 'psql', '-X', '-h', $node->host, '-p', $node->port,
			'-U', $options{as} // 'postgres', '-d', $options{in} // 'site'
		],
		'<', \"$script\n\\echo SQLSTATE :LAST_ERROR_SQLSTATE\n",
		'>&', \$output,
		init => sub { chdir $page->{dir} });
	my $state = $output =~ s/^SQLSTATE (\w+)\n\z//m ? $1 : 'no answer';
	$output =~ s/[ \t]+$//mg;
	$output =~ s/\n\n\z/\n/;
	return ($output, $state);
}

sub wait_until_true
{
	my ($page, $query, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return ok($node{ $page->{site} }->poll_query_until('site', $query), $name);
}

# ---------------------------------------------------------------------------------------------
# Sites and certificates
# ---------------------------------------------------------------------------------------------

sub make_sites
{
	my ($page, @codes) = @_;

	foreach my $node (values %node)
	{
		$node->safe_psql('postgres', 'DROP DATABASE IF EXISTS site WITH (FORCE)');
		$node->safe_psql('postgres', <<'END');
SELECT format('DROP ROLE %I', rolname) FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> 'postgres' \gexec
END
	}
	foreach my $code (@codes)
	{
		my $parent = grep({ $_ eq ($parent{$code} // '') } @codes) ? "'$parent{$code}'" : 'NULL';
		$node{$code}->safe_psql('postgres', 'CREATE DATABASE site');
		$node{$code}->safe_psql('site',
			"CREATE EXTENSION cmblock; SELECT cmblock.setup_site('$code', '$kind{$code}', '$hierarchy', $parent)");
		$node{ $parent{$code} }->safe_psql('site', "SELECT cmblock.add_site('$code', '$kind{$code}', $parent)")
		  if $parent ne 'NULL';
	}
	foreach my $code (grep { my $c = $_; grep { $_ eq ($parent{$c} // '') } @codes } @codes)
	{
		link_sites($parent{$code}, $code);
		link_sites($code, $parent{$code}) if $kind{$code} ne 'secondary';
	}
	$page->{site} = $codes[0] if @codes;
	return;
}

sub link_sites
{
	my ($from, $to) = @_;
	my ($peer, $server) = (lc "${from}_replicator", lc $to);
	my $options = server_options($node{$to}, dbname => 'site');

	$node{$to}->safe_psql('site', "CREATE ROLE $peer LOGIN PASSWORD 'known'; SELECT cmblock.accept_link('$from', '$peer')");
	$node{$from}->safe_psql('site', <<"END");
CREATE SERVER $server FOREIGN DATA WRAPPER cmblock_fdw OPTIONS ($options);
CREATE USER MAPPING FOR CURRENT_USER SERVER $server OPTIONS (user '$peer', password 'known');
SELECT cmblock.link_site('$to', '$server');
END
	return;
}

# The files that the pages speak of: certificates, and a CRL of their CA.
sub make_pki
{
	my $dir = PostgreSQL::Test::Utils::tempdir('page_pki');
	my $ca = ca('Example Device CA');
	my %file = (
		ca => $ca,
		laptop => leaf($ca, 'LAPTOP-0042'),
		media => leaf($ca, 'Boot media 2026-11'),
		isv => leaf($ca, 'ISV proxy'));

	run_or_die('cp', $file{$_}{pem}, "$dir/$_.pem") foreach keys %file;
	run_or_die('cp', crl($ca, number => 17, revoked => [ leaf($ca, 'LAPTOP-0001') ])->{pem}, "$dir/ca.crl");
	return $dir;
}

sub run_or_die
{
	my (@command) = @_;

	system(@command) == 0 or die "@command failed";
	return;
}
