#!/bin/sh
# Seeds for crl_fuzz: CRLs made by openssl, and the vector folders where they are present.
#
#	make_seeds.sh DIRECTORY [VECTORS]
set -eu

out=$1
vectors=${2:-}
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Vectors first, so that the names of ours win. Large real CRLs make slow seeds.
if [ -n "$vectors" ] && [ -d "$vectors" ]; then
	find "$vectors" -type f \( -name '*.crl' -o -name '*.crl.pem' \) -size -16k | while read -r file; do
		cp "$file" "$out/vector-$(basename "$file")"
	done
fi

cd "$work"
cat > ca.cnf <<'CNF'
[ca]
default_ca = test
[test]
database = index.txt
crlnumber = crlnumber
default_md = sha256
default_crl_days = 7
[plain]
[full]
authorityKeyIdentifier = keyid:always,issuer:always
issuingDistributionPoint = critical,@idp
freshestCRL = URI:http://pki.example/delta.crl
1.3.6.1.4.1.311.21.1 = ASN1:INTEGER:0x10001
1.3.6.1.4.1.311.21.4 = ASN1:UTC:300101000000Z
[idp]
fullname = URI:http://pki.example/ca.crl,dirName:idp_name
onlyuser = TRUE
onlysomereasons = keyCompromise,CACompromise
[idp_name]
CN = partition 1
[indirect]
issuingDistributionPoint = critical,@idp_indirect
[idp_indirect]
relativename = idp_name
indirectCRL = TRUE
[delta]
2.5.29.27 = critical,ASN1:INTEGER:7
CNF
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 30 \
	-subj "/O=Seeds/CN=Seed CA" -addext keyUsage=critical,cRLSign,keyCertSign 2> /dev/null

# crl NAME EXTENSIONS: from what index.txt says
crl() {
	echo 2A > crlnumber
	openssl ca -config ca.cnf -gencrl -keyfile ca.key -cert ca.crt -crlexts "$2" -out "$1.pem" 2> /dev/null
	openssl crl -in "$1.pem" -outform DER -out "$out/openssl-$1.crl"
}

: > index.txt
crl empty plain
crl empty-indirect indirect
i=0
for reason in "" ,keyCompromise ,CACompromise ,superseded ,certificateHold ,removeFromCRL \
	,CAkeyTime,20250101000000Z ,holdInstruction,holdInstructionReject; do
	i=$((i + 1))
	printf 'R\t300101000000Z\t2501%02d000000Z%s\t%032X\tunknown\t/CN=%d\n' "$i" "$reason" "$((i * 7919))" "$i" >> index.txt
done
crl plain plain
crl full full
crl delta delta
crl indirect indirect
cp plain.pem "$out/openssl-plain.pem"
printf 'P' | cat - plain.pem > "$out/openssl-plain.p"
