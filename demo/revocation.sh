# The demo's chapters on revocation: a CA that publishes its CRLs on a web server, and what becomes of that.
# shellcheck shell=bash

# ---------- the CA ----------

set_up_crls()
{
	mkdir "$AREA/pki/web"
	: >"$AREA/pki/index.txt"
	echo 01 >"$AREA/pki/crlnumber"
	cat >"$AREA/pki/crl.cnf" <<-END
		[ca]
		default_ca = this
		[this]
		database = $AREA/pki/index.txt
		crlnumber = $AREA/pki/crlnumber
		default_md = sha256
		unique_subject = no
		[full]
		authorityKeyIdentifier = keyid
		[delta]
		authorityKeyIdentifier = keyid
		# Delta CRL indicator: for the full CRL with number 1
		2.5.29.27 = critical, DER:020101
	END
}

# publish full|delta DAYS: put the CRL where the web server finds it, all at once
publish()
{
	openssl ca -gencrl -config "$AREA/pki/crl.cnf" -cert "$AREA/pki/ca.pem" -keyfile "$AREA/pki/ca.key" \
		-crlexts "$1" -crldays "$2" -out "$AREA/pki/$1.pem" 2>/dev/null
	openssl crl -in "$AREA/pki/$1.pem" -outform DER -out "$AREA/pki/$1.der"
	mv "$AREA/pki/$1.der" "$AREA/pki/web/$1.crl"
}

revoke()
{
	openssl ca -revoke "$AREA/pki/$1.pem" -crl_reason keyCompromise -config "$AREA/pki/crl.cnf" \
		-cert "$AREA/pki/ca.pem" -keyfile "$AREA/pki/ca.key" 2>/dev/null
}

start_crl_server()
{
	local i
	perl "$here/crl_server.pl" "$AREA/pki/web" "$AREA/pki/port" &
	crl_server=$!
	trap 'kill "$crl_server" 2>/dev/null || true' EXIT
	for ((i = 0; i < 50; i++))
	do
		[ ! -f "$AREA/pki/port" ] || return 0
		sleep 0.1
	done
	fail "the web server did not start"
}

stop_crl_server()
{
	kill "$crl_server"
	wait "$crl_server" 2>/dev/null || true
}

# ---------- the sites ----------

# Each site fetches for itself. A real site asks every hour; nobody wants to watch that.
set_up_crl_sources()
{
	local site url commands
	url=http://127.0.0.1:$(<"$AREA/pki/port")
	commands="SELECT cmblock.add_crl_distribution_point(sha256, '$url/full.crl') FROM cmblock.certificate_authority;
SELECT cmblock.add_crl_distribution_point(sha256, '$url/delta.crl', delta => true) FROM cmblock.certificate_authority;
SELECT cmblock.set_crl_policy(sha256, 'required') FROM cmblock.certificate_authority"
	show P01 "$commands"
	for site in "${SITES[@]}"
	do
		[ "$site" = P01 ] || value "$site" "$commands" >/dev/null
		value "$site" "ALTER SYSTEM SET cmblock.crl_refresh_interval = '1s'"
		value "$site" "SELECT pg_reload_conf()" >/dev/null
	done
	wait_until_everywhere "count(*) = 2 FROM cmblock.crl_status WHERE state = 'ok'"
}

# show_revoked CLIENT CERTIFICATE SINCE: wait until every site refuses it for that reason, and print when it did
show_revoked()
{
	local site
	for site in "${SITES[@]}"
	do
		wait_for "$site" "'certificate_revoked' = ANY (reasons) FROM cmblock.check_access('$1', :'$2'::bytea)"
		awk -v site="$site" -v from="$3" -v to="$(date +%s.%N)" \
			'BEGIN { printf "%s refuses it %.1f s after the CA published\n", site, to - from }'
	done
}

# tell_revocation CLIENT CERTIFICATE: the chapters
tell_revocation()
{
	local published
	chapter "The CA publishes revocation lists on a web server, and each site fetches them"
	set_up_crls
	publish full 7
	publish delta 1
	start_crl_server
	set_up_crl_sources
	show P01 "SELECT kind, state, number, entries, date_trunc('second', age) AS age, next_update::timestamp(0), bytes FROM cmblock.crl_status"
	show_decisions "$1" "$2" t

	chapter "The CA revokes the certificate and publishes a delta CRL. Nobody tells the sites"
	revoke "$2"
	publish delta 1
	published=$(date +%s.%N)
	show_revoked "$1" "$2" "$published"
	show_decisions "$1" "$2" f
	show P02 "SELECT status, reason, detail, delta_number, source FROM cmblock.revocation_status(:'$2'::bytea) \gx
SELECT kind, state, number, entries FROM cmblock.crl_status"

	chapter "The web server dies. What is held stays in force, and the status says how long"
	stop_crl_server
	wait_for P01 "count(*) = 2 FROM cmblock.crl_status WHERE state = 'failing'"
	show P01 "\x on
SELECT kind, state, failures, last_error, next_update::timestamp(0), advice FROM cmblock.crl_status"
	show_decisions "$1" "$2" f
}
