# A web server for CRLs that can misbehave in every way that the refresher must bear, and writes down what it was asked.
#
#	my $server = CrlServer->new;
#	$server->put('ca.crl', slurp_file($crl->{der}));
#	$server->url('file', 'ca.crl')         the file as it should be served, with ETag and 304
#	$server->url('drip', 'ca.crl')         the same file in another manner: see %manners
#	$server->requests(qr/drip/)            how often that was asked
#	$server->stop; $server->start          the same port again
package CrlServer;

use strict;
use warnings;
use Carp;
use Digest::SHA;
use IO::Socket::INET;
use POSIX ();
use PostgreSQL::Test::Utils;
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use Time::HiRes qw(sleep);

my %pids;

sub new
{
	my ($class) = @_;
	my $self = bless { dir => PostgreSQL::Test::Utils::tempdir('crl_server') }, $class;

	$self->start;
	return $self;
}

# Listen, on the port it had before if there was one, and serve in a child process; each connection in another.
sub start
{
	my ($self) = @_;
	my $socket = IO::Socket::INET->new(
		LocalAddr => '127.0.0.1',
		LocalPort => $self->{port} // 0,
		Listen => 20,
		ReuseAddr => 1) or croak "could not listen: $!";

	$self->{port} = $socket->sockport;
	my $pid = fork // croak "could not fork: $!";
	if ($pid == 0)
	{
		setpgrp;
		$SIG{CHLD} = 'IGNORE';
		$SIG{PIPE} = 'IGNORE';
		while (my $connection = $socket->accept)
		{
			my $child = fork;

			if (defined $child && $child == 0)
			{
				close $socket;
				eval { $self->serve($connection) };
				POSIX::_exit(0);
			}
			close $connection;
		}
		POSIX::_exit(0);
	}
	close $socket;
	$self->{pid} = $pid;
	$pids{$pid} = 1;
	return;
}

sub stop
{
	my ($self) = @_;

	end($self->{pid});
	return;
}

# A process of ours with the children that it forked.
sub end
{
	my ($pid) = @_;

	return unless delete $pids{$pid};
	kill 'KILL', -$pid;
	kill 'KILL', $pid;
	waitpid $pid, 0;
	return;
}

END
{
	my $status = $?;
	end($_) for keys %pids;
	$? = $status;
}

sub put
{
	my ($self, $name, $content) = @_;

	open my $fh, '>:raw', "$self->{dir}/$name.new" or croak "could not write: $!";
	print $fh $content;
	close $fh or croak "could not write: $!";
	rename "$self->{dir}/$name.new", "$self->{dir}/$name" or croak "could not rename: $!";
	return;
}

sub url
{
	my ($self, $manner, $name) = @_;

	return "http://127.0.0.1:$self->{port}/$manner/" . ($name // 'x');
}

# Lines "METHOD target [conditional]" so far that are like the expression.
sub requests
{
	my ($self, $regexp) = @_;

	return scalar grep { $_ =~ $regexp } split /\n/, -e "$self->{dir}/log" ? slurp_file("$self->{dir}/log") : '';
}

# An address of this machine that takes no connection and refuses none: its queue is full.
sub black_hole
{
	my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or croak "could not listen: $!";
	my @fill = map {
		IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $socket->sockport, Blocking => 0)
	} 1 .. 8;

	return ("http://127.0.0.1:" . $socket->sockport . '/ca.crl', [ $socket, @fill ]);
}

# ---------------------------------------------------------------------------------------------
# In the child processes
# ---------------------------------------------------------------------------------------------

my %manners = (
	# as it should be
	file => sub {
		my ($c, $content, $request) = @_;
		my $tag = '"' . Digest::SHA::sha1_hex($content) . '"';

		return answer($c, '304 Not Modified', { ETag => $tag }, '')
		  if ($request->{'if-none-match'} // '') eq $tag;
		answer($c, '200 OK', { ETag => $tag, 'Content-Type' => 'application/pkix-crl' }, $content);
	},
	# without a name for the version
	plain => sub { answer($_[0], '200 OK', {}, $_[1]) },
	chunked => sub {
		my ($c, $content) = @_;

		print $c "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
		printf $c "%x\r\n%s\r\n", length($_), $_ for unpack '(a7)*', $content;
		print $c "0\r\n\r\n";
	},
	html => sub {
		answer($_[0], '200 OK', { 'Content-Type' => 'text/html' }, '<html>Sign in to the guest network</html>');
	},
	empty => sub { answer($_[0], '200 OK', {}, '') },
	404 => sub { answer($_[0], '404 Not Found', { 'Content-Type' => 'text/html' }, '<html>No</html>') },
	500 => sub { answer($_[0], '500 Oops', {}, '') },
	503 => sub { answer($_[0], '503 Busy', { 'Retry-After' => 600 }, '') },
	401 => sub { answer($_[0], '401 Who', { 'WWW-Authenticate' => 'Basic realm="x"' }, '') },
	# the file's content is where to go
	redirect => sub { answer($_[0], '302 Found', { Location => $_[1] }, '') },
	loop => sub { answer($_[0], '301 Moved', { Location => $_[2]->{target} . '/more' }, '') },
	hang => sub { sleep 600 },
	drip => sub {
		my ($c, $content) = @_;

		print $c "HTTP/1.1 200 OK\r\nContent-Length: " . length($content) . "\r\n\r\n";
		for my $octet (split //, $content)
		{
			print $c $octet or return;
			sleep 0.2;
		}
	},
	endless => sub {
		my ($c) = @_;

		print $c "HTTP/1.1 200 OK\r\n\r\n";
		1 while print $c "\x30" x 65536;
	},
	headers => sub {
		my ($c) = @_;

		print $c "HTTP/1.1 200 OK\r\n";
		1 while print $c 'X-More: ' . ('x' x 1000) . "\r\n";
	},
	truncated => sub {
		my ($c, $content) = @_;

		print $c "HTTP/1.1 200 OK\r\nContent-Length: "
		  . length($content) . "\r\n\r\n" . substr($content, 0, length($content) / 2);
	},
	# says less than it sends
	lying => sub {
		my ($c, $content) = @_;

		print $c "HTTP/1.1 200 OK\r\nContent-Length: " . int(length($content) / 2) . "\r\n\r\n$content";
	},
	# says more than anybody would take
	huge => sub { print { $_[0] } "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n\x30\x82" },
	garbage => sub { print { $_[0] } "SSH-2.0-OpenSSH_9.2\r\n" });

sub answer
{
	my ($connection, $status, $headers, $content) = @_;

	print $connection join("\r\n",
		"HTTP/1.1 $status",
		(map { "$_: $headers->{$_}" } sort keys %$headers),
		'Content-Length: ' . length($content), 'Connection: close', '', $content);
	return;
}

# As a proxy it is asked for whole addresses; it serves them from its own files.
sub serve
{
	my ($self, $connection) = @_;
	my ($method, $target) = (<$connection> // '') =~ /^(\S+) (\S+)/ or return;
	my %request = (target => $target);

	binmode $connection;
	$connection->autoflush(1);
	setsockopt $connection, IPPROTO_TCP, TCP_NODELAY, 1;
	while (defined(my $line = <$connection>))
	{
		last if $line =~ /^\r?\n$/;
		$request{ lc $1 } = $2 if $line =~ /^([^:]+):\s*(.*?)\r?\n$/;
	}
	open my $log, '>>', "$self->{dir}/log" or return;
	syswrite $log, "$method $target" . ($request{'if-none-match'} ? ' conditional' : '') . "\n";
	close $log;

	my ($manner, $name) = $target =~ m{^(?:http://[^/]+)?/([^/]+)/([^/]*)};
	my $handler = $manners{ $manner // '404' } // $manners{404};
	my $path = "$self->{dir}/" . ($name // '');
	$handler->($connection, -f $path ? slurp_file($path) : '', \%request);
	shutdown $connection, 1;
	close $connection;
	return;
}

1;
