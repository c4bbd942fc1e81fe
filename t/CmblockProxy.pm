# A TCP proxy between two sites that can be told to misbehave: what a network does, without needing to be root.
#
#	my $proxy = proxy($s01);				# forwards 127.0.0.1:$proxy->{port} to the site
#	link_sites($p01, 'P01', $s01, 'S01', server => { through($proxy) });
#	misbehave($proxy, 'cut');
#	misbehave($proxy, 'forward');
#	octets($proxy);							# forwarded so far, both ways
#
# Modes:
#	forward     as a network should
#	cut         connections are ended, new ones too
#	hole        nothing goes through and nobody is told; what is on its way arrives when the network is back
#	half        the site's end of each connection is closed, the other end does not hear of it; new ones as with hole
#	slow        40 kB a second
package CmblockProxy;

use strict;
use warnings;
use Carp;
use Errno;
use Exporter 'import';
use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Socket;

our @EXPORT = qw(proxy through misbehave octets stop_proxies);

# How much is forwarded at a time, and how much in a tick (seconds) when the proxy is slow.
use constant { OCTETS => 65536, SLOW_OCTETS => 2048, TICK => 0.05 };

my @all;

# Start one in a process of its own; it ends with the test.
sub proxy
{
	my ($node) = @_;
	my $listener = IO::Socket::INET->new(Listen => 20, LocalAddr => '127.0.0.1', ReuseAddr => 1) or croak "could not listen: $!";
	socketpair(my $control, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or croak "could not make a socket pair: $!";
	my $pid = fork // croak "could not fork: $!";

	if ($pid == 0)
	{
		# Each ends when its control connection does, so none may hold another's open.
		close $_ for $control, map { $_->{control} } @all;
		$SIG{PIPE} = 'IGNORE';
		eval { serve($listener, $theirs, $node->port); 1 } or warn "proxy: $@";
		# Not exit: what the test registered for its end is not this process's.
		POSIX::_exit($@ ? 1 : 0);
	}
	close $theirs;
	my $proxy = { pid => $pid, control => $control, port => $listener->sockport };

	push @all, $proxy;
	return $proxy;
}

# undef: the other side is gone. A signal is no end.
sub read_control
{
	my ($control, $length) = @_;
	my ($octets, $got);

	do { $got = sysread $control, $octets, $length } while !defined $got && $!{EINTR};
	return $got ? $octets : undef;
}

# Options of a server that is reached through the proxy.
sub through
{
	my ($proxy) = @_;

	return (host => '127.0.0.1', port => $proxy->{port});
}

# Returns when the proxy is in that mode.
sub misbehave
{
	my ($proxy, $mode) = @_;

	syswrite($proxy->{control}, "$mode\n") or croak "the proxy is gone: $!";
	read_control($proxy->{control}, 1) // croak "the proxy is gone: $!";
	return;
}

# How many octets it has forwarded so far, both ways.
sub octets
{
	my ($proxy) = @_;
	my $answer = '';

	syswrite($proxy->{control}, "count\n") or croak "the proxy is gone: $!";
	$answer .= read_control($proxy->{control}, 32) // croak "the proxy is gone: $!" until $answer =~ /\n/;
	return $answer + 0;
}

sub stop_proxies
{
	foreach my $proxy (splice @all)
	{
		close $proxy->{control};
		waitpid $proxy->{pid}, 0;
	}
	return;
}

# The exit status of a proxy must not become the test's.
END
{
	local $?;
	stop_proxies();
}

# ---------- in the process of the proxy ----------

# An end of a connection: its socket, the other end, whether it is the site's, and what is still to be sent to it. An end
# is read only when nothing waits for the other, so nothing piles up here. Where the site's end is closed, what the other sends is lost.
sub serve
{
	my ($listener, $control, $port) = @_;
	my $mode = 'forward';
	my $total = 0;
	my %ends;

	while (1)
	{
		my $open = $mode ne 'hole';
		my $accepts = $mode ne 'hole' && $mode ne 'half';
		my @readable = grep { !$_->{other} || $_->{other}{out} eq '' } values %ends;
		my @writable = grep { $_->{out} ne '' } values %ends;
		my ($read, $write) = IO::Select->select(
			IO::Select->new($control, $accepts ? $listener : (), $open ? map { $_->{socket} } @readable : ()),
			IO::Select->new($open ? map { $_->{socket} } @writable : ()));

		for my $end (map { $ends{$_} // () } @{ $write // [] })
		{
			my $sent = syswrite $end->{socket}, $end->{out};

			defined $sent ? substr($end->{out}, 0, $sent, '') : hang_up(\%ends, $end);
		}
		for my $socket (@{ $read // [] })
		{
			if ($socket == $control)
			{
				my $command = read_control($control, 100) // return;
				chomp $command;
				if ($command eq 'count')
				{
					syswrite $control, "$total\n";
					last;
				}
				$mode = $command;
				my @all_ends = values %ends;

				hang_up(\%ends, $_) for $mode eq 'cut' ? @all_ends : ();
				close_silently(\%ends, $_) for $mode eq 'half' ? grep { $_->{is_site} } @all_ends : ();
				syswrite $control, '.';
				last;
			}
			elsif ($socket == $listener)
			{
				accept_one(\%ends, $listener, $mode eq 'cut' ? undef : $port);
			}
			elsif (my $end = $ends{$socket})
			{
				my $got = sysread $socket, my $octets, $mode eq 'slow' ? SLOW_OCTETS : OCTETS;

				hang_up(\%ends, $end) if !$got;
				$total += $got // 0;
				$end->{other}{out} .= $octets if $got && $end->{other};
			}
		}
		select undef, undef, undef, TICK if $mode eq 'slow';
	}
	return;
}

sub accept_one
{
	my ($ends, $listener, $port) = @_;
	my $client = $listener->accept or return;
	my $site = $port && IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port);

	# What goes out of scope is closed.
	return unless $site;
	$_->blocking(0) for $client, $site;
	$ends->{$client} = { socket => $client, out => '' };
	$ends->{$site} = { socket => $site, out => '', is_site => 1, other => $ends->{$client} };
	$ends->{$client}{other} = $ends->{$site};
	return;
}

sub close_silently
{
	my ($ends, $end) = @_;

	delete $ends->{ $end->{socket} } or return;
	delete $end->{other}{other} if $end->{other};
	close $end->{socket};
	return;
}

sub hang_up
{
	my ($ends, $end) = @_;
	my $other = $end->{other};

	close_silently($ends, $end);
	close_silently($ends, $other) if $other;
	return;
}

1;
