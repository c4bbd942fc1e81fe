#!/bin/bash
# pki.sh DIRECTORY ENTRIES: a CA, a certificate of it and a CRL of so many entries, for the benchmarks.
set -euo pipefail
mkdir -p "$1"
cd "$1"
cat > ca.cnf <<'E'
[ca]
default_ca = this
[this]
database = index
new_certs_dir = .
serial = serial
default_md = sha256
policy = any
crlnumber = crlnumber
default_crl_days = 30
x509_extensions = client
[any]
commonName = optional
[req]
distinguished_name = name
[name]
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[client]
basicConstraints = CA:FALSE
keyUsage = digitalSignature
extendedKeyUsage = clientAuth
authorityKeyIdentifier = keyid
E
: > index; echo 1000 > serial; echo 01 > crlnumber
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out root.key 2>/dev/null
openssl req -x509 -new -key root.key -subj /CN=Root -days 3650 -config ca.cnf -extensions root -out root.pem
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out pc.key 2>/dev/null
openssl req -new -key pc.key -subj /CN=pc -config ca.cnf -out pc.csr
openssl ca -batch -notext -config ca.cnf -cert root.pem -keyfile root.key -in pc.csr -days 3000 -out pc.pem 2>/dev/null
openssl x509 -in root.pem -outform DER -out root.der
openssl x509 -in pc.pem -outform DER -out pc.der
awk -v n="$2" 'BEGIN{for(i=0;i<n;i++) printf "R\t350101000000Z\t240101000000Z\t7F%014X\tunknown\t/CN=r%d\n", i*7919, i}' >> index
openssl ca -gencrl -config ca.cnf -cert root.pem -keyfile root.key -out crl.pem 2>/dev/null
openssl crl -in crl.pem -outform DER -out crl.der
