-- A primary site with :most clients, the first 100,000 of them with a certificate each. Their rows are written as a restore
-- writes them, which takes seconds instead of minutes. The certificates share one DER and have serial numbers of their own.
\set QUIET 1
\set root `base64 -w0 "$PKI/root.der"`
\set crl `base64 -w0 "$PKI/crl.der"`
\set pc `base64 -w0 "$PKI/pc.der"`
create extension cmblock;
create schema bench;
create function bench.nothing(client cmblock.smsid DEFAULT NULL, certificate bytea DEFAULT NULL,
		transport cmblock.transport DEFAULT 'https', request cmblock.request_kind DEFAULT 'policy',
		hardware_id text DEFAULT NULL, at timestamptz DEFAULT now()) returns boolean as 'cmblock_bench','bench_nothing' language c volatile parallel safe;
create function bench.nothing_record(client cmblock.smsid DEFAULT NULL, certificate bytea DEFAULT NULL,
		transport cmblock.transport DEFAULT 'https', request cmblock.request_kind DEFAULT 'policy',
		hardware_id text DEFAULT NULL, at timestamptz DEFAULT now()) returns cmblock.access_decision as 'cmblock_bench','bench_nothing_record' language c volatile parallel safe;
create function bench.smsid(bigint) returns cmblock.smsid as 'cmblock_bench','bench_smsid' language c immutable strict parallel safe;
create function bench.thumbprint(bigint) returns bytea as 'cmblock_bench','bench_thumbprint' language c immutable strict parallel safe;
select cmblock.setup_site('P01','primary');
select cmblock.add_certificate_authority(decode(:'root','base64'));
select outcome, detail from cmblock.import_crl(decode(:'crl','base64'));
set cmblock.restore=on;
insert into cmblock.client (smsid,name,kind,assigned_site,hardware_id,approval,isv_proxied,registered_at,blocked,version,origin_site,change_xid,changed_by,changed_at)
select bench.smsid(i),'PC'||i,'computer','P01','HW'||i,2,false,now(),false,1,'P01',pg_current_xact_id(),'x',now() from generate_series(1,:most) i;
reset cmblock.restore;
select cmblock.register_certificate(decode(:'pc','base64'), bench.smsid(1)) as t \gset
set cmblock.restore=on;
insert into cmblock.certificate select bench.thumbprint(i), substr(bench.thumbprint(i),1,20), type, bench.smsid(i), assigned_site, subject, issuer, substr(bench.thumbprint(i),1,12)::cmblock.certificate_serial, not_before, not_after, self_signed, bench.thumbprint(i), der, registered_at, deleted_at, blocked, block_reason, block_ticket, block_changed_by, block_changed_at, version, origin_site, change_xid, changed_by, changed_at
from cmblock.certificate, generate_series(1, least(:most, 100000)) i where sha256 = :'t';
reset cmblock.restore;
