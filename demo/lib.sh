# The stage of the demo: clusters, certificates, and commands that are shown as they run.
# shellcheck shell=bash disable=SC2034

SITES=(CEN P01 P02 S01)
declare -A PORT=([CEN]=17001 [P01]=17002 [P02]=17003 [S01]=17004)
CERTIFICATES=(laptop mac media isv)
bin=$(dirname "$PG_CONFIG")

# Colours are for a terminal only: a log stays plain.
bold='' cyan='' plain=''
[ ! -t 1 ] || bold=$'\e[1m' cyan=$'\e[36m' plain=$'\e[0m'

chapter()
{
	printf '\n%s== %s%s\n' "$bold" "$*" "$plain"
}

fail()
{
	echo "demo: $*"
	tail -n 20 "$AREA"/*/log 2>/dev/null || true
	exit 1
}

# psql at a site; the certificates are variables: :'laptop'::bytea
at()
{
	local site=$1 name variables=()
	shift
	for name in "${CERTIFICATES[@]}"
	do
		[ ! -f "$AREA/pki/$name.pem" ] || variables+=(-v "$name=$(<"$AREA/pki/$name.pem")")
	done
	"$bin/psql" -X -q -v ON_ERROR_STOP=1 "${variables[@]}" -h "$AREA/run" -p "${PORT[$site]}" -U admin -d site "$@"
}

value()
{
	at "$1" -At <<<"$2"
}

prompt()
{
	printf '%s%s=>%s %s;\n' "$cyan" "$1" "$plain" "$2"
}

# show SITE SQL: the command as an administrator types it, then what psql prints
show()
{
	prompt "$1" "$2"
	at "$1" -P footer=off <<<"$2;" || fail "that should have worked"
}

# show_refused SITE WORD SQL: the same for a command that must fail, with an error that has WORD in it
show_refused()
{
	local output
	prompt "$1" "$3"
	if output=$(at "$1" <<<"$3;" 2>&1)
	then
		fail "that should have been refused"
	fi
	echo "$output"
	[[ $output == *"$2"* ]] || fail "the error does not name $2"
}

# ---------- clusters ----------

start_site()
{
	local site=$1 data="$AREA/$1/data"
	mkdir "$AREA/$site"
	"$bin/initdb" -D "$data" -U admin -N --auth-local=trust --auth-host=scram-sha-256 >"$AREA/$site/log" 2>&1
	cat >>"$data/postgresql.conf" <<-END
		shared_preload_libraries = 'cmblock'
		listen_addresses = '127.0.0.1'
		port = ${PORT[$site]}
		unix_socket_directories = '$AREA/run'
		fsync = off
		cluster_name = '$site'
		timezone = 'UTC'
	END
	"$bin/pg_ctl" -D "$data" -l "$AREA/$site/log" -w start >/dev/null || fail "$site did not start"
	"$bin/psql" -X -q -h "$AREA/run" -p "${PORT[$site]}" -U admin -d postgres -c 'CREATE DATABASE site'
	at "$site" -c 'CREATE EXTENSION cmblock'
}

# Ports that something else uses are passed over.
choose_ports()
{
	local port=17001 site
	for site in "${SITES[@]}"
	do
		while (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null
		do
			port=$((port + 1))
		done
		PORT[$site]=$port
		port=$((port + 1))
	done
}

start_sites()
{
	local site job jobs=()
	mkdir "$AREA/run"
	choose_ports
	for site in "${SITES[@]}"
	do
		start_site "$site" &
		jobs+=($!)
	done
	for job in "${jobs[@]}"
	do
		wait "$job" || fail "a site did not start"
	done
}

# ---------- certificates ----------

issue()
{
	local name=$1 subject=$2
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$AREA/pki/$name.key" -subj "$subject" \
		-out "$AREA/pki/$name.csr" 2>/dev/null
	openssl x509 -req -in "$AREA/pki/$name.csr" -CA "$AREA/pki/ca.pem" -CAkey "$AREA/pki/ca.key" -CAcreateserial -days 30 \
		-extfile <(printf 'basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=clientAuth\nauthorityKeyIdentifier=keyid\n') \
		-out "$AREA/pki/$name.pem" 2>/dev/null
}

make_certificates()
{
	mkdir "$AREA/pki"
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$AREA/pki/ca.key" -out "$AREA/pki/ca.pem" \
		-days 365 -subj "/O=Contoso/CN=Contoso Device CA" -addext "keyUsage=critical,keyCertSign,cRLSign" 2>/dev/null
	issue laptop "/O=Contoso/CN=LAPTOP-0042"
	issue mac "/O=Contoso/CN=MAC-0043"
	issue media "/O=Contoso/CN=Boot media 2026-11"
	issue isv "/O=Partner/CN=ISV proxy"
}

# ---------- the hierarchy ----------

# join CHILD PARENT: both ends of the links between two sites, as docs/tutorial.md explains them. PARENT_ONLY=1 sends
# only down: a secondary site sends nothing.
link()
{
	local from=$1 to=$2 password
	password=$(openssl rand -hex 16)
	at "$to" <<-END
		CREATE ROLE ${from,,}_replicator LOGIN PASSWORD '$password';
		SELECT cmblock.accept_link('$from', '${from,,}_replicator') \g /dev/null
	END
	at "$from" <<-END
		CREATE SERVER ${to,,} FOREIGN DATA WRAPPER cmblock_fdw
			OPTIONS (host '127.0.0.1', port '${PORT[$to]}', dbname 'site');
		CREATE USER MAPPING FOR admin SERVER ${to,,} OPTIONS (user '${from,,}_replicator', password '$password');
		SELECT cmblock.link_site('$to', '${to,,}') \g /dev/null
	END
	echo "$from sends to $to"
}

set_up_hierarchy()
{
	local hierarchy site ca
	hierarchy=$(value CEN "SELECT gen_random_uuid()")
	show CEN "SELECT cmblock.setup_site('CEN', 'central', '$hierarchy');
SELECT cmblock.add_site('P01', 'primary', 'CEN');
SELECT cmblock.add_site('P02', 'primary', 'CEN');
SELECT cmblock.add_site('S01', 'secondary', 'P01')"
	show P01 "SELECT cmblock.setup_site('P01', 'primary', '$hierarchy', parent => 'CEN')"
	value P02 "SELECT cmblock.setup_site('P02', 'primary', '$hierarchy', parent => 'CEN')"
	value S01 "SELECT cmblock.setup_site('S01', 'secondary', '$hierarchy', parent => 'P01')"
	ca=$(<"$AREA/pki/ca.pem")
	for site in "${SITES[@]}"
	do
		value "$site" "SELECT cmblock.add_certificate_authority('$ca'::bytea, 'off')" >/dev/null
	done
	# A site can be linked to those that it knows: P01 learns of S01 from CEN.
	link CEN P01
	link CEN P02
	link P01 CEN
	link P02 CEN
	wait_until_known P01 S01
	link P01 S01
}

# ---------- waiting, and measuring ----------

wait_for()
{
	local site=$1 condition=$2 i
	for ((i = 0; i < 150; i++))
	do
		[ "$(value "$site" "SELECT $condition")" != t ] || return 0
		sleep 0.1
	done
	fail "at $site this did not become true: $condition"
}

wait_until_known()
{
	wait_for "$1" "EXISTS (SELECT FROM cmblock.site WHERE code = '$2')"
}

wait_until_everywhere()
{
	local site
	for site in "${SITES[@]}"
	do
		wait_for "$site" "$1"
	done
}

show_decisions()
{
	local site row allowed
	printf '%-6s %-8s %-20s %s\n' site allowed reason assurance
	for site in "${SITES[@]}"
	do
		row=$(value "$site" "SELECT allowed, coalesce(reason, '-'), assurance FROM cmblock.check_access('$1', :'$2'::bytea)")
		IFS='|' read -r allowed reason assurance <<<"$row"
		printf '%-6s %-8s %-20s %s\n' "$site" "$allowed" "$reason" "$assurance"
		[ "$allowed" = "$3" ] || fail "the decision at $site should be $3"
	done
}

# Ask a site again and again until it stops giving that answer, and print the moment, in seconds since 1970.
watch_decision()
{
	at "$1" <<-SQL 2>&1 | sed -n 's/^.*INFO:  //p'
		SELECT set_config('demo.certificate', :'$4', false) \g /dev/null
		DO \$\$
		DECLARE
			answer boolean := true;
		BEGIN
			FOR i IN 1..20000 LOOP
				answer := cmblock.is_allowed('$3', current_setting('demo.certificate')::bytea);
				EXIT WHEN answer <> '$2'::boolean;
				PERFORM pg_sleep(0.0005);
			END LOOP;
			IF answer = '$2'::boolean THEN
				RAISE EXCEPTION 'still the old answer after ten seconds';
			END IF;
			RAISE INFO '%', extract(epoch FROM clock_timestamp());
		END
		\$\$;
	SQL
}

# time_change OLD_ANSWER CLIENT CERTIFICATE SQL: run the command at P01 while all sites are being asked
time_change()
{
	local site committed changed watchers=()
	for site in "${SITES[@]}"
	do
		watch_decision "$site" "$1" "$2" "$3" >"$AREA/changed.$site" &
		watchers+=($!)
	done
	wait_for P01 "(SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep') > 0"
	show P01 "$4"
	committed=$(value P01 "SELECT extract(epoch FROM max(block_changed_at)) FROM cmblock.client WHERE smsid = '$2'")
	wait "${watchers[@]}" || fail "a site kept its old answer"
	for site in "${SITES[@]}"
	do
		changed=$(<"$AREA/changed.$site")
		[ -n "$changed" ] || fail "$site kept its old answer"
		awk -v site="$site" -v from="$committed" -v to="$changed" \
			'BEGIN { printf "%s answers anew %.1f ms after the command began at P01\n", site, (to - from) * 1000 }'
	done
}

# ---------- the end ----------

finish_demo()
{
	local site
	if [ -n "${KEEP:-}" ]
	then
		chapter "The hierarchy is still running"
		for site in "${SITES[@]}"
		do
			echo "$site:  $bin/psql -h $AREA/run -p ${PORT[$site]} -U admin site"
		done
		echo "stop:  sh -c 'for d in $AREA/*/data; do $bin/pg_ctl -D \$d -m fast stop; done; rm -rf $AREA'"
		echo "As root, put before each of these lines: runuser -u $(id -un) --"
		return
	fi
	for site in "${SITES[@]}"
	do
		"$bin/pg_ctl" -D "$AREA/$site/data" -m fast -w stop >/dev/null || fail "$site did not stop"
	done
	chapter "The end: all four sites are stopped, and everything is removed"
}
