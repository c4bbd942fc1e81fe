#!/bin/sh
# certificates.sh DIRECTORY: the certificates of the regression tests, made by the openssl command.
# Leaves them in DIRECTORY/certificates.tsv, one line each: name, tab, octets as COPY reads a bytea.
set -eu
cd "$1"
umask 022
exec 2>log
trap '[ $? = 0 ] || cat log' EXIT

: > index
cat > ca.cnf <<'END'
[ca]
default_ca = this
[this]
database = index
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
organizationName = optional
commonName = optional
[req]
distinguished_name = name
string_mask = utf8only
utf8 = yes
[name]
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[intermediate]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[path0]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[named]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
nameConstraints = critical, permitted;dirName:permitted
[permitted]
O = Allowed
[crlsign]
basicConstraints = critical, CA:TRUE
keyUsage = critical, cRLSign
[critical]
1.2.3.4 = critical, ASN1:NULL
[critical_ca]
basicConstraints = critical, CA:TRUE
1.2.3.4 = critical, ASN1:NULL
[client]
basicConstraints = CA:FALSE
keyUsage = digitalSignature
extendedKeyUsage = clientAuth
authorityKeyIdentifier = keyid
[server]
basicConstraints = CA:FALSE
extendedKeyUsage = serverAuth
[plain]
basicConstraints = CA:FALSE
[badusage]
2.5.29.15 = DER:0500
END

key() # NAME
{
	[ -f "$1.key" ] || openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"
}

# certificate NAME SUBJECT ISSUER EXTENSIONS [option of openssl ca]...: ISSUER "-" is self-signed
certificate()
{
	name=$1 subject=$2 issuer=$3 extensions=$4
	shift 4
	key "$name"
	openssl req -new -key "$name.key" -subj "$subject" -utf8 -config ca.cnf -out "$name.csr"
	if [ "$issuer" = - ]; then
		set -- -selfsign -keyfile "$name.key" "$@"
	else
		set -- -cert "$issuer.pem" -keyfile "$issuer.key" "$@"
	fi
	case " $* " in *' -startdate '*) ;; *) set -- -startdate 20200101000000Z "$@" ;; esac
	case " $* " in *' -enddate '*) ;; *) set -- -enddate 20990101000000Z "$@" ;; esac
	openssl ca -batch -notext -config ca.cnf -preserveDN -in "$name.csr" -extensions "$extensions" -out "$name.pem" "$@"
	openssl x509 -in "$name.pem" -outform DER -out "$name.der"
}

# ---------- CAs ----------
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out root.key
certificate root '/O=Test/CN=Root' - root
certificate twin '/O=Test/CN=Root' - plain # the same name, another key, no CA
certificate other '/O=Test/CN=Other root' - root
certificate middle '/O=Test/CN=Middle' root path0
certificate low '/O=Test/CN=Low' middle intermediate
certificate named '/O=Test/CN=Named' - named
certificate old '/O=Test/CN=Old root' - root -enddate 20210101000000Z
certificate crlsign '/O=Test/CN=CRL signer' - crlsign
certificate critical_ca '/O=Test/CN=Critical CA' - critical_ca
key v1
# Since OpenSSL 3.2 version 3 is the default, and the first has an option.
v1_option=
! openssl req -help 2>&1 | grep -q -e -x509v1 || v1_option=-x509v1
openssl req -x509 $v1_option -key v1.key -subj '/O=Test/CN=V1 root' -config ca.cnf -days 3650 -outform DER -out v1.der
openssl x509 -in v1.der -inform DER -out v1.pem

# ---------- certificates of the root ----------
certificate pc1 '/O=Test/CN=pc1' root client
cp pc1.key renewed.key
certificate renewed '/O=Test/CN=pc1' root client
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out pc2.key
certificate pc2 '/O=Test/CN=pc2' root client
certificate pc3 '/O=Test/CN=pc3' root client
certificate media '/O=Test/CN=Boot media' root client
certificate point '/O=Test/CN=Distribution point' root client
certificate proxy '/O=Test/CN=ISV proxy' root client
certificate expired '/O=Test/CN=expired' root client -enddate 20210101000000Z
certificate future '/O=Test/CN=future' root client -startdate 20980101000000Z
certificate forever '/O=Test/CN=forever' root client -enddate 99991231235959Z
certificate server '/O=Test/CN=server' root server
certificate plain '/O=Test/CN=plain' root plain
certificate critical '/O=Test/CN=critical' root critical
certificate sha1 '/O=Test/CN=sha1' root client -md sha1
certificate md5 '/O=Test/CN=md5' root client -md md5
certificate badusage '/O=Test/CN=badusage' root badusage
certificate umlaut '/O=Größe/CN=日本' root client
certificate odd '/O=Test/CN=odd_byte' root client

# ---------- of the others ----------
certificate of_twin '/O=Test/CN=of twin' twin plain
certificate of_other '/O=Test/CN=of other' other client
certificate of_middle '/O=Test/CN=of middle' middle client
certificate of_low '/O=Test/CN=of low' low client
certificate of_named '/O=Allowed/CN=of named' named client
certificate of_named_not '/O=Test/CN=of named' named client
certificate of_old '/O=Test/CN=of old' old client
certificate of_v1 '/O=Test/CN=of v1' v1 plain
certificate self '/O=Test/CN=self' - plain
certificate self2 '/O=Test/CN=self2' - plain
certificate impostor '/O=Test/CN=Root' - root

# Serial numbers as they come: 00 that keeps it positive, and a negative one.
with_serial() # NAME NUMBER
{
	openssl x509 -req -in pc3.csr -CA root.pem -CAkey root.key -set_serial "$2" -days 365 -outform DER -out "$1.der"
}
with_serial serial_positive 0x80
with_serial serial_negative -0x80
with_serial serial_long 0x0102030405060708090a0b0c0d0e0f1011121314151617

# ---------- damaged, wrapped, foreign ----------
openssl crl2pkcs7 -nocrl -certfile pc1.pem -out foreign.pem
openssl ca -gencrl -config ca.cnf -cert root.pem -keyfile root.key -crldays 7 -out crl.pem
perl -MMath::BigInt -e '
	sub slurp { local (@ARGV, $/) = (shift); binmode STDIN; my $x = <>; $x }
	sub put { my ($name, $octets) = @_; open my $f, ">:raw", $name or die; print $f $octets; close $f }
	sub der { my ($tag, $content) = @_; my $n = length $content;
		return pack("C", $tag) . ($n < 128 ? pack("C", $n) : $n < 256 ? pack("CC", 0x81, $n) : pack("Cn", 0x82, $n)) . $content }
	my $pc1 = slurp("pc1.der");
	put("flipped.der", substr($pc1, 0, -1) . chr(ord(substr($pc1, -1)) ^ 1));
	(my $x = $pc1) =~ s/pc1/pc9/;
	put("altered.der", $x);
	put("truncated.der", substr($pc1, 0, -1));
	put("trailing.der", $pc1 . "\0");
	put("garbage.der", "0" . join("", map { chr($_ * 7 % 256) } 1 .. 300));
	put("text.der", "not a certificate at all");
	put("empty.der", "");
	put("huge.der", $pc1 . "\0" x (65537 - length $pc1));
	put("cut.der", substr(slurp("pc1.pem"), 0, 300));
	put("double.der", slurp("pc1.pem") . slurp("pc2.pem"));
	put("wordy.der", "pc1, made by hand\n" . slurp("pc1.pem") . "\n\n");
	put("pem.der", slurp("pc1.pem"));
	put("key.der", slurp("pc1.key"));
	put("crl.der", slurp("crl.pem"));
	put("pkcs7.der", slurp("foreign.pem"));
	($x = slurp("odd.der")) =~ s/odd_byte/odd\0byte/; put("nul.der", $x);
	($x = slurp("odd.der")) =~ s/odd_byte/odd\xffbyte/; put("invalid.der", $x);
	# keyUsage twice, which openssl refuses to make: extendedKeyUsage under its name.
	($x = $pc1) =~ s/\x06\x03\x55\x1d\x25/\x06\x03\x55\x1d\x0f/ or die; put("twice.der", $x);
	# The same certificate with an outer length of three octets: BER, and another thumbprint.
	die unless $pc1 =~ /^\x30\x82/;
	put("ber.der", "\x30\x83\x00" . substr($pc1, 2));
	# The ECDSA signature (r, s) of of_middle made into (r, n - s): valid as well, and anybody can do it.
	my $c = slurp("of_middle.der");
	my $inner = substr($c, 4);
	my $tbs = substr($inner, 0, 4 + unpack("n", substr($inner, 2, 2)));
	my $algorithm = substr($inner, length $tbs, 2 + ord(substr($inner, length($tbs) + 1, 1)));
	my $signature = substr($inner, length($tbs) + length($algorithm));
	my ($r, $s) = $signature =~ /^\x03.\x00\x30.\x02(.)/s ? (substr($signature, 7, ord $1), "") : die;
	$s = substr($signature, 7 + length($r) + 2);
	my $order = Math::BigInt->from_hex("FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551");
	my $hex = $order->bsub(Math::BigInt->from_bytes($s))->to_hex;
	$hex = "0$hex" if length($hex) % 2;
	$hex = "00$hex" if hex(substr($hex, 0, 1)) >= 8;
	my $other = der(0x30, der(0x02, $r) . der(0x02, pack("H*", $hex)));
	put("rewritten.der", der(0x30, $tbs . $algorithm . der(0x03, "\0" . $other)));
'

for f in *.der; do
	printf '%s\t\\\\x' "${f%.der}"
	od -An -v -tx1 "$f" | tr -d ' \n'
	echo
done > certificates.tsv
