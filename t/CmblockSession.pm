# Sessions that stay, for tests of what several of them do to one another.
#
#	my $one = session($node);
#	say($one, 'SELECT pg_sleep(10)');		# does not wait
#	my $text = answer($one);			# what it printed, errors and warnings included
#	is(ask($one, 'SELECT 1'), '1', '...');	# both
#	query($one, 'BEGIN');				# the same, and dies of an error
#	leave($one);
package CmblockSession;

use strict;
use warnings;
use Carp;
use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(session say answer ask query leave private_kb);

# A psql in the database postgres, or another. {pid} is its backend's.
sub session
{
	my ($node, $database) = @_;
	my %session = (in => '', out => '', count => 0, timeout => IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));

	$session{psql} = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr($database // 'postgres') ],
		'<', \$session{in}, '>', \$session{out}, '2>&1', $session{timeout});
	$session{pid} = ask(\%session, 'SELECT pg_backend_pid()');
	return \%session;
}

sub say
{
	my ($session, $query) = @_;

	$session->{timeout}->start;
	$session->{count}++;
	$session->{in} .= "$query;\n\\echo done-$session->{count}\n";
	$session->{psql}->pump_nb;
	return;
}

sub answer
{
	my ($session) = @_;
	my $end = "done-$session->{count}";

	# Each answer has the time for itself, however old the session is.
	$session->{timeout}->start;
	$session->{psql}->pump while $session->{out} !~ /^$end\n/m && $session->{psql}->pumpable;
	(my $answer = $session->{out}) =~ s/\n?^done-.*\n//mg;
	$session->{out} = '';
	return $answer;
}

sub ask
{
	my ($session, $query) = @_;

	say($session, $query);
	return answer($session);
}

sub query
{
	my ($session, $query) = @_;
	my $answer = ask($session, $query);

	croak $answer if $answer =~ /^(?:ERROR|FATAL):/m;
	return $answer;
}

# Also sessions whose backend is gone.
sub leave
{
	foreach my $session (@_)
	{
		$session->{in} .= "\\q\n";
		eval { $session->{psql}->finish };
	}
	return;
}

# Memory of the backend that is its own, in kB; undef where there is no /proc.
sub private_kb
{
	my ($session) = @_;
	my $status = "/proc/$session->{pid}/status";

	return unless -r $status;
	my ($kb) = slurp_file($status) =~ /^RssAnon:\s+(\d+)/m;
	return $kb;
}

1;
