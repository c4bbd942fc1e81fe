#!/bin/bash
# The main job on a small hierarchy: four sites on this machine, real certificates, a stolen laptop.
#
# `make demo` calls this inside the area that test/private.sh has made: it builds, starts four throw-away clusters,
# sets the hierarchy up and tells the story. Every step checks what it shows, so the demo fails when something is
# not as it says. KEEP=1 leaves the hierarchy running and prints how to explore and how to stop it.
set -euo pipefail
exec 2>&1 # one stream, in one order

: "${AREA:?is set by test/private.sh}" "${PG_CONFIG:?is set by test/private.sh}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=demo/lib.sh
. "$here/lib.sh"
# shellcheck source=demo/revocation.sh
. "$here/revocation.sh"

LAPTOP=GUID:4F1D2C3B-0042-4000-8000-00000000A042
MAC=GUID:4F1D2C3B-0043-4000-8000-00000000A043
PARTNER=GUID:4F1D2C3B-0099-4000-8000-00000000A099

chapter "Building cmblock and starting four sites"
make -s -j2 PG_CONFIG="$PG_CONFIG" with_llvm=no >"$AREA/build.log" 2>&1 &&
	make -s PG_CONFIG="$PG_CONFIG" with_llvm=no install >>"$AREA/build.log" 2>&1 || { cat "$AREA/build.log"; exit 1; }
start_sites
echo "CEN, P01, P02 and S01 are running, each a PostgreSQL of its own."

chapter "A public key infrastructure, made with openssl"
make_certificates
echo "One CA; certificates for LAPTOP-0042, MAC-0043, a set of boot media and an ISV proxy."

chapter "The hierarchy: CEN above P01 and P02, S01 below P01"
set_up_hierarchy
show CEN "SELECT code, kind, parent FROM cmblock.site ORDER BY parent NULLS FIRST, code"
wait_until_known S01 P02

chapter "Clients at primary site P01"
show P01 "SELECT cmblock.register_client('$LAPTOP', 'LAPTOP-0042', hardware_id => 'SMBIOS-7F3A');
SELECT cmblock.register_client('$MAC', 'MAC-0043', 'mac');
SELECT cmblock.register_client('$PARTNER', 'PARTNER-0099', isv_proxied => true)"
show P01 "SELECT cmblock.register_certificate(:'laptop'::bytea, '$LAPTOP') AS laptop;
SELECT cmblock.register_certificate(:'media'::bytea, type => 'boot_media') AS boot_media;
SELECT cmblock.register_certificate(:'isv'::bytea, type => 'isv_proxy') AS isv_proxy"
wait_until_everywhere "EXISTS (SELECT FROM cmblock.certificate WHERE type = 'isv_proxy')"

chapter "LAPTOP-0042 asks for policy with its certificate, at any site"
show_decisions "$LAPTOP" laptop t

chapter "It is stolen. An administrator at P01 blocks it"
time_change t "$LAPTOP" laptop "SELECT cmblock.block_client('$LAPTOP', 'stolen from a car', 'INC-2041')"
show_decisions "$LAPTOP" laptop f
show S01 "SELECT step, question, answer, reason FROM cmblock.explain_access('$LAPTOP', :'laptop'::bytea)"

chapter "Is it shut out everywhere? P01 asks all sites"
show P01 "SELECT cmblock.wait_for_enforcement('$LAPTOP')"
show P01 "SELECT site, kind, state, enforced_at, detail FROM cmblock.enforcement('$LAPTOP')"

chapter "Nobody at a secondary or at the central site can change that"
show_refused S01 "P01" "SELECT cmblock.unblock_client('$LAPTOP')"
show_refused CEN "P01" "SELECT cmblock.unblock_client('$LAPTOP')"
show_refused CEN "P01" "UPDATE cmblock.client SET blocked = false WHERE name = 'LAPTOP-0042'"

chapter "Lost boot media are blocked by their certificate's thumbprint"
thumbprint=$(openssl x509 -in "$AREA/pki/media.pem" -noout -fingerprint -sha1 | cut -d= -f2)
show P01 "SELECT cmblock.block_certificate('$thumbprint', 'media lost in the mail')"
wait_until_everywhere "EXISTS (SELECT FROM cmblock.certificate WHERE type = 'boot_media' AND blocked)"
show S01 "SELECT allowed, reason FROM cmblock.check_access(certificate => :'media'::bytea, request => 'os_deployment')"

chapter "A client behind an ISV proxy cannot be blocked: the proxy's certificate can"
show_refused P01 "ISV" "SELECT cmblock.block_client('$PARTNER')"

chapter "The laptop is found. The unblock travels the same way"
time_change f "$LAPTOP" laptop "SELECT cmblock.unblock_client('$LAPTOP', 'found', 'INC-2041')"
show_decisions "$LAPTOP" laptop t

tell_revocation "$LAPTOP" laptop

chapter "What an operator sees"
wait_for P01 "NOT EXISTS (SELECT FROM cmblock.replication_status WHERE lag_rows > 0)"
show P01 "SELECT neighbour, direction, flow, state, lag_rows, lag_seconds, last_error, rows FROM cmblock.replication_status"
show P01 "SELECT at::timestamp(0), actor, action, name, reason, ticket FROM cmblock.block_history"
show P01 "SELECT intact, events, detail FROM cmblock.verify_block_history()"

finish_demo
