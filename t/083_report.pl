# The web page of examples/report: well formed, escaped whatever the names are, with each link coloured by its state and each
# revocation list by its freshness, for every kind of site and user.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CmblockLinks;
use CmblockTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $script = "$FindBin::RealBin/../examples/report/report.sql";
my $evil = q{<script>alert("1")</script> '&' "};

sub page
{
	my ($node, $user) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ 'psql', '-X', '-U', $user // 'postgres', '-d', $node->connstr('postgres'), '-f', $script ], '<', \undef, '>', \$out, '2>', \$err);
	is($err, '', 'the script runs without a message');
	check_form($out);
	return $out;
}

# Every element is closed where it should be; none that HTML would misread is written in the short form.
sub check_form
{
	my ($page) = @_;
	my @open = qw(html head);
	my @wrong;
	my ($body) = $page =~ m{</style>(.*)}s;

	like($page, qr/\A<!DOCTYPE html>\n/, 'it begins as a page');
	like($page, qr{</html>\s*\z}, 'and ends as one');
	unlike($page, qr/\b(?:src|href)=|url\(|\@import/, 'nothing is loaded from elsewhere');
	unlike($page, qr/<script/i, 'no script is in it');
	while ($body =~ m{<(/?)(\w+)((?:\s[\w-]+="[^"<>]*")*)(/?)>|<}g)
	{
		my ($end, $name, $short) = ($1, $2, $4);

		if (!defined $name)
		{
			push @wrong, 'a stray <: ' . substr($body, pos($body) - 1, 30);
		}
		elsif ($end)
		{
			my $opened = pop @open // 'nothing';
			push @wrong, "</$name> ends $opened" unless $opened eq $name;
		}
		elsif ($short)
		{
			push @wrong, "<$name/>" unless $name =~ /^(rect|path)$/;
		}
		else
		{
			push @open, $name;
		}
	}
	is("@wrong", '', 'the elements fit');
	is("@open", '', 'and all of them are closed');
	return;
}

# ---------- not a site yet ----------
my $empty = new_site('empty');
like(page($empty), qr{<h1>Not a site yet</h1>.*item critical.*Call cmblock\.setup_site\.}s, 'a database that is no site says so');
sql($empty, "SELECT cmblock.setup_site('P09', 'primary')");
my $page = page($empty);
like($page, qr{<h1>Site P09</h1>.*Nothing\. All is well\.}s, 'a stand-alone primary site where all is well');
unlike($page, qr{<h2>(Links|Revocation lists|Blocked last)}, 'has no links, no lists, no blocked clients');

# ---------- a hierarchy with everything ----------
my %site = hierarchy('CEN', 'P01', 'P02', 'S01');
my ($cen, $p01, $s01) = @site{qw(CEN P01 S01)};
my $day = 86400;
my $bad = ca($evil =~ s/'/''/gr, subject => '/CN=<script>alert(1)<\/script> & "quotes"');
my $good = ca('Good CA');
my $soon = ca('Soon CA');

sql($p01, "SELECT cmblock.add_certificate_authority(${\ bytea($_) })") foreach $bad, $good, $soon;
sql($p01, "SELECT cmblock.import_crl(${\ bytea(crl($bad, number => 1, this_update => time - 8 * $day, next_update => time - 2 * $day)) })");
sql($p01, "SELECT cmblock.import_crl(${\ bytea(crl($good, number => 7, this_update => time - $day, next_update => time + $day)) })");
sql($p01, "SELECT cmblock.import_crl(${\ bytea(crl($soon, number => 8, this_update => time - 99 * 3600, next_update => time + 3600 + 90)) })");
sql($p01, "SELECT cmblock.register_client('00000000-0000-0000-0000-000000000001', \$n\$$evil\$n\$)");
sql($p01, "SELECT cmblock.block_client('00000000-0000-0000-0000-000000000001', \$n\$$evil\$n\$, E'<b>\\x01')");
sql($p01, "SELECT cmblock.is_allowed('00000000-0000-0000-0000-000000000001')");
wait_until($p01, "SELECT count(*) FROM cmblock.site", 'P01 knows all sites', '4');
wait_for_block($s01, '00000000-0000-0000-0000-000000000001', 1, 'the block has arrived');
$s01->stop;
sql($p01, "SELECT cmblock.register_client('00000000-0000-0000-0000-000000000002', 'pc2')");
wait_until($p01, "SELECT state FROM cmblock.replication_status WHERE neighbour = 'S01'", 'the link to S01 has failed', 'failed');
wait_until($p01, "SELECT lag_rows FROM cmblock.replication_status WHERE neighbour = 'CEN' AND flow = 'send'", 'the one to CEN works', '0');

$page = page($p01);
my ($tree) = $page =~ m{<h2>The hierarchy</h2>(<svg.*?</svg>)}s;
is(join(' ', sort $tree =~ m{class="code"[^>]*>(\w+)<}g), 'CEN P01 P02 S01', 'the tree has all sites');
like($tree, qr{<path class="edge good"[^>]*><title>CEN – P01: active</title>}, 'a link that works');
like($tree, qr{<path class="edge bad"[^>]*><title>P01 – S01: failed, (?:1 row waits|\d+ wait): .*?</title>}s, 'one that has failed, with the error');
like($tree, qr{<path class="edge none"[^>]*><title>CEN – P02: not seen from here</title>}, 'and one that this site cannot see');
like($tree, qr{<text class="label bad"[^>]*>failed, (?:1 row waits|\d+ wait)</text>}, 'what is wrong is written beside it');
my ($x) = map { { reverse @$_ } } [ map { @$_ } map { [ /x="(\d+)" y="(\d+)">(\w+)/ ? ("$1 $2", $3) : () ] } $tree =~ m{<text class="code" [^<]*}g ];
is(scalar keys %{ { map { $_ => 1 } values %$x } }, 4, 'no site is drawn over another');

my ($lists) = $page =~ m{<h2>Revocation lists</h2>(.*?)</section>}s;
my @rows = $lists =~ m{<tr>(<td.*?)</tr>}gs;
is(scalar @rows, 3, 'the lists');
like($rows[0], qr{&lt;script\\&gt;alert\(1\)\\&lt;/script\\&gt; &amp; .*>stale<.*class="fill bad"[^>]* width="6".*expired 2 d 0 h ago}s, 'one that has expired, whose name is escaped');
like($rows[1], qr{Soon CA.*>ends soon<.*class="fill warn"[^>]* width="6".*1 h 1 min left}s, 'one that ends soon');
like($rows[2], qr{Good CA.*>ok<.*class="fill good"[^>]* width="(?:99|100)".*(?:24 h 0|23 h 59) min left}s, 'and one in the middle of its life');
like($page, qr{<td class="w"><b>&lt;script&gt;alert\("1"\)&lt;/script&gt; '&amp;' "</b>}, 'the name of a client is escaped');
like($page, qr{<td class="w">&lt;script&gt;alert\("1"\)&lt;/script&gt; '&amp;' "</td>}, 'and the reason of a block');
like($page, qr{item critical.*item critical.*item warning}s, 'what needs attention, the worst first');
like($page, qr{<td>client_blocked</td><td class="n">1</td>}, 'decisions');

# ---------- who may see what, and where ----------
sql($p01, 'CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher');
$page = page($p01, 'watcher');
like($page, qr{<h2>The hierarchy</h2>.*<h2>Links</h2>.*<h2>Revocation lists</h2>}s, 'pg_monitor gets the page');
unlike($page, qr{Blocked last|alert\("1"\)}, 'without the clients');
like(page($cen), qr{<h1>Site CEN</h1>.*a central site.*edge good.*CEN – P01}s, 'the central site');
$s01->start;
like(page($s01), qr{<h1>Site S01</h1>.*<title>P01 – S01: receives</title>}s, 'a secondary site, which only receives');

# ---------- a large hierarchy ----------
sql($empty, "SELECT cmblock.add_site(('S' || lpad(n::text, 2, '0'))::cmblock.site_code, 'secondary', 'P09') FROM generate_series(0, 99) n");
sql($empty, "SELECT cmblock.add_site((l || lpad(n::text, 2, '0'))::cmblock.site_code, 'secondary', 'P09') FROM unnest(ARRAY['T', 'U', 'V']) l, generate_series(0, 99) n");
$page = page($empty);
like($page, qr{<path class="edge warn"[^>]*><title>P09 – S00: no link</title>}, 'a neighbour that is not linked');
is(scalar(() = $page =~ m{class="code"}g), 301, 'of very many sites the first 300 are drawn');
like($page, qr{100 more sites are not drawn}, 'and the others counted');

# ---------- make report ----------
my $make = slurp_file("$FindBin::RealBin/../Makefile");
like($make, qr{^report:\n\t\@psql -X -d "?\$\(DB\)"? -f examples/report/report\.sql}m, 'make report runs the script');

done_testing();
