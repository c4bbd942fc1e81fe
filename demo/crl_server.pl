# A web server for the files of a directory, on a free port of 127.0.0.1 that it writes into a file.
# usage: crl_server.pl DIRECTORY PORT_FILE
use strict;
use warnings;
use IO::Socket::INET;

my ($directory, $port_file) = @ARGV;
my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 20) or die "could not listen: $!";

open my $out, '>', "$port_file.new" or die "could not write: $!";
print $out $socket->sockport;
close $out or die "could not write: $!";
rename "$port_file.new", $port_file or die "could not rename: $!";
$SIG{PIPE} = 'IGNORE';
while (my $connection = $socket->accept)
{
	my ($name) = (<$connection> // '') =~ m{^GET /([\w.-]+) };
	my $file;

	while (defined(my $line = <$connection>))
	{
		last if $line =~ /^\r?\n$/;
	}
	if (defined $name && open $file, '<:raw', "$directory/$name")
	{
		my $content = do { local $/; <$file> };

		print $connection "HTTP/1.0 200 OK\r\nContent-Type: application/pkix-crl\r\nContent-Length: ",
		  length($content), "\r\n\r\n", $content;
	}
	else
	{
		print $connection "HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n";
	}
	close $connection;
}
