# Run TAP programs and count what they say.
#
#   usage: perl test/prove.pl RESULT PROGRAM...
#
# Like prove, which runs the same library; but the numbers go to the file RESULT as "passed failed skipped", and for
# each program that failed the end of its logs is printed. JOBS programs run at a time.
use strict;
use warnings;
use File::Basename;
use TAP::Harness;

my ($result, @programs) = @ARGV;
my ($passed, $failed, $skipped) = (0, 0, 0);
my @bad;
my %ended;

my $harness = TAP::Harness->new(
	{
		jobs => $ENV{JOBS} || 2,
		lib => [ grep { !ref } @INC ],
		merge => 0,
		# undef leaves a program to the harness, which knows Perl
		exec => sub { $_[1] =~ /\.pl$/ ? undef : [ $_[1] ] },
	});

$harness->callback(
	after_test => sub {
		my ($job, $parser) = @_;
		my $not_ok = $parser->failed;

		$ended{ $job->[0] } = $parser->is_good_plan && !$parser->exit;
		$passed += $parser->passed - $parser->skipped;
		$skipped += $parser->skipped || ($parser->skip_all ? 1 : 0);
		# Died, killed, a plan that was not kept: a failure that no assertion tells of.
		$not_ok ||= 1 if $parser->has_problems;
		$failed += $not_ok;
		push @bad, $job->[0] if $not_ok;
	});
# A program that bails out ends the harness, and with it those beside it: any of them may tell why.
unless (eval { $harness->runtests(@programs); 1 })
{
	print $@;
	$failed++;
	push @bad, grep { !$ended{$_} } @programs;
}

foreach my $program (@bad)
{
	my $name = basename($program, '.pl');

	foreach my $log (grep { -e } glob("tmp_check/log/regress_log_$name tmp_check/log/$name\_*.log"))
	{
		print "\n== the end of $log\n";
		system('tail', '-n', '60', $log);
	}
}

open my $fh, '>', $result or die "could not write $result: $!";
print $fh "$passed $failed $skipped\n";
close $fh or die "could not write $result: $!";
