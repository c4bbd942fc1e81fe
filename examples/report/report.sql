-- The state of a site as a web page, in one file without anything that is loaded from elsewhere:
--
--     psql -X -d site -f report.sql > report.html
--
-- or, in a clone of cmblock: make report DB=site > report.html. A member of pg_monitor may run it; who may read
-- cmblock.blocked_client also gets the clients that were blocked last. Nothing is written, so it works on a standby.
--
-- The page is put together by PostgreSQL's XML functions, which escape whatever names and messages hold; the server has to be
-- built with libxml, as packages are. Elements of HTML must not be empty here: they would be written in the short form,
-- which HTML does not know. Those of SVG may.

\set QUIET on
\set ON_ERROR_STOP on
\pset format unaligned
\pset tuples_only on
\pset pager off
\encoding UTF8
SET jit = off;
SET client_min_messages = warning;
BEGIN;
SELECT has_table_privilege('cmblock.blocked_client', 'SELECT') AS shows_clients,
       EXISTS (SELECT FROM cmblock.replication_status) AS has_links,
       EXISTS (SELECT FROM cmblock.crl_status) AS has_crls,
       EXISTS (SELECT FROM cmblock.decision_statistics) AS has_statistics \gset

SELECT $head$<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<style>
:root { --page: #f6f7f9; --card: #ffffff; --ink: #1c2430; --soft: #5d6878; --line: #dfe3e9; --track: #e8ebf0;
  --good: #1a7f4b; --warn: #b25e00; --bad: #c42b2b; --info: #2b63c4; --none: #98a2b0; --own: #eaf1fd; }
@media (prefers-color-scheme: dark) {
  :root { --page: #12161c; --card: #1b2129; --ink: #e6eaf0; --soft: #9aa6b6; --line: #2c3440; --track: #2a323d;
    --good: #4cc38a; --warn: #f0a04b; --bad: #f2706d; --info: #7aa8f5; --none: #66717f; --own: #1f2d45; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 28px 20px 40px; }
header { display: flex; align-items: baseline; gap: 14px; flex-wrap: wrap; margin-bottom: 18px; }
h1 { font-size: 30px; margin: 0; letter-spacing: .02em; }
h2 { font-size: 13px; text-transform: uppercase; letter-spacing: .08em; color: var(--soft); margin: 0 0 12px; font-weight: 600; }
header p, footer { color: var(--soft); margin: 0; font-size: 13px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px; margin-bottom: 16px; overflow-x: auto; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin-bottom: 16px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; }
.tile b { display: block; font-size: 24px; font-variant-numeric: tabular-nums; line-height: 1.3; }
.tile span { color: var(--soft); font-size: 13px; }
.item { border-left: 4px solid var(--info); padding: 2px 0 2px 12px; margin-bottom: 12px; }
.item:last-child { margin-bottom: 0; }
.item.critical { border-color: var(--bad); } .item.warning { border-color: var(--warn); }
.item p { margin: 0; overflow-wrap: anywhere; } .item .do { color: var(--soft); }
.tag { font-size: 11px; font-weight: 700; text-transform: uppercase; letter-spacing: .05em; margin-right: 8px; color: var(--info); }
.critical .tag { color: var(--bad); } .warning .tag { color: var(--warn); }
.fine { color: var(--good); margin: 0; font-weight: 600; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; padding: 6px 18px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; white-space: nowrap; }
td.w { white-space: normal; overflow-wrap: anywhere; min-width: 12em; }
tr:last-child td { border-bottom: 0; }
th { color: var(--soft); font-size: 12px; font-weight: 600; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.s { font-weight: 600; white-space: nowrap; } .s.good { color: var(--good); } .s.warn { color: var(--warn); } .s.bad { color: var(--bad); } .s.none { color: var(--soft); }
svg { display: block; } svg text { fill: var(--ink); font: 13px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
svg .code { font-weight: 700; font-size: 15px; } svg .soft { fill: var(--soft); font-size: 12px; }
.node { fill: var(--card); stroke: var(--line); stroke-width: 1.5; } .node.own { fill: var(--own); stroke: var(--info); stroke-width: 2; }
.edge { fill: none; stroke-width: 3; stroke: var(--none); } .edge.none { stroke-dasharray: 2 5; stroke-width: 2; stroke-linecap: round; }
.edge.good { stroke: var(--good); } .edge.warn { stroke: var(--warn); } .edge.bad { stroke: var(--bad); stroke-dasharray: 9 5; }
.label { font-size: 12px; font-weight: 600; } svg .label.good { fill: var(--good); } svg .label.warn { fill: var(--warn); } svg .label.bad { fill: var(--bad); }
.track { fill: var(--track); } .fill { fill: var(--good); } .fill.warn { fill: var(--warn); } .fill.bad { fill: var(--bad); } .fill.plain { fill: var(--info); } .fill.none { fill: var(--none); }
.url { color: var(--soft); font-size: 12px; }
.legend { color: var(--soft); font-size: 12px; margin: 10px 0 0; }
@media print { body { background: none; } section, .tile { break-inside: avoid; } }
</style>$head$;

SELECT xmlconcat(xmlelement(NAME title, concat_ws(' ', 'Site', code, 'at', now()::timestamptz(0))))::text || E'\n</head>\n<body>\n<main>'
FROM (SELECT (SELECT code FROM cmblock.site_status)) s (code);

SELECT xmlelement(NAME header,
           xmlelement(NAME h1, coalesce('Site ' || s.code, 'Not a site yet')),
           xmlelement(NAME p, concat_ws(' · ', 'a ' || s.kind || ' site' || coalesce(' below ' || s.parent, ''),
                                        CASE WHEN s.standby THEN 'standby server' END, 'hierarchy ' || s.hierarchy, now()::timestamptz(0))))
FROM (SELECT 1) one LEFT JOIN cmblock.site_status s ON true;

-- What needs attention.
SELECT xmlelement(NAME section, xmlelement(NAME h2, 'Needs attention'),
           coalesce(xmlagg(xmlelement(NAME div, xmlattributes('item ' || a.severity AS class),
                        xmlelement(NAME p, xmlelement(NAME span, xmlattributes('tag' AS class), a.severity),
                                   xmlelement(NAME b, concat_ws(' ', a.topic, a.subject)), ': ', a.problem),
                        xmlelement(NAME p, xmlattributes('do' AS class), a.advice)) ORDER BY a.place),
                    xmlelement(NAME p, xmlattributes('fine' AS class), 'Nothing. All is well.')))
FROM (SELECT *, row_number() OVER () AS place FROM cmblock.attention) a;

-- Numbers.
SELECT xmlelement(NAME div, xmlattributes('tiles' AS class),
           xmlagg(xmlelement(NAME div, xmlattributes('tile' AS class), xmlelement(NAME b, t.number), xmlelement(NAME span, t.what)) ORDER BY t.place))
FROM (SELECT s.*, (SELECT sum(decisions) FILTER (WHERE reason = 'allowed') FROM cmblock.decision_statistics) AS allowed,
             (SELECT sum(decisions) FILTER (WHERE reason <> 'allowed') FROM cmblock.decision_statistics) AS refused
      FROM cmblock.site_status s) s
CROSS JOIN cmblock.history_check() h
CROSS JOIN LATERAL (VALUES
    (1, to_char(s.clients, 'FM999,999,999,990'), 'clients in the hierarchy'),
    (2, to_char(s.blocked_clients, 'FM999,999,999,990'), 'of them blocked'),
    (3, to_char(s.blocked_certificates, 'FM999,999,999,990'), 'certificates blocked, of ' || to_char(s.certificates, 'FM999,999,999,990')),
    (4, to_char(s.allowed, 'FM999,999,999,990'), 'requests allowed here'),
    (5, to_char(s.refused, 'FM999,999,999,990'), 'requests refused here'),
    (6, to_char(h.newest, 'FM999,999,999,990'), CASE WHEN h.intact THEN 'events, the chain is whole' ELSE 'events, the chain is broken' END)) t (place, number, what)
WHERE t.number IS NOT NULL
HAVING count(*) > 0;

-- The hierarchy: the root at the left, each leaf on a line of its own, each site in the middle of what is below it.
WITH RECURSIVE tree AS (
    SELECT s.code, s.kind, s.parent, 0 AS depth, ARRAY[s.code::text] AS path
    FROM cmblock.site s
    WHERE s.retired_at IS NULL
      AND NOT EXISTS (SELECT FROM cmblock.site p WHERE p.code = s.parent AND p.retired_at IS NULL)
    UNION ALL
    SELECT s.code, s.kind, s.parent, t.depth + 1, t.path || s.code::text
    FROM cmblock.site s JOIN tree t ON s.parent = t.code
    WHERE s.retired_at IS NULL
), leaf AS (
    SELECT t.path, row_number() OVER (ORDER BY t.path) AS line
    FROM tree t
    WHERE NOT EXISTS (SELECT FROM tree c WHERE c.parent = t.code)
), node AS (
    SELECT t.code, t.kind, t.parent, 10 + t.depth * 345 AS x, 30 + (min(l.line) + max(l.line) - 2) * 29 AS y
    FROM tree t JOIN leaf l ON t.path[t.depth + 1] = ANY (l.path)
    WHERE l.line <= 300
    GROUP BY t.code, t.kind, t.parent, t.depth
), link AS (
    -- What is known here of the links of this site; of others nothing is.
    SELECT DISTINCT ON (r.neighbour) r.neighbour, r.flow, r.paused, r.lag_rows, r.state, r.last_success_at, r.last_error
    FROM cmblock.replication_status r
    ORDER BY r.neighbour, r.flow DESC
), edge AS (
    SELECT c.x AS x2, c.y AS y2, p.x + 170 AS x1, p.y AS y1, p.code AS upper, c.code AS lower,
           CASE WHEN l.neighbour IS NULL THEN CASE WHEN here.code IN (p.code, c.code) THEN 'warn' ELSE 'none' END
                WHEN l.flow = 'receive' THEN CASE WHEN l.last_success_at IS NULL THEN 'warn' ELSE 'good' END
                WHEN l.state = 'failed' THEN 'bad'
                WHEN l.state = 'degraded' OR l.paused THEN 'warn'
                ELSE 'good' END AS class,
           CASE WHEN l.neighbour IS NULL THEN CASE WHEN here.code IN (p.code, c.code) THEN 'no link' END
                WHEN l.flow = 'receive' THEN CASE WHEN l.last_success_at IS NULL THEN 'nothing yet' ELSE 'receives' END
                WHEN l.paused THEN 'paused'
                ELSE l.state::text || CASE WHEN l.lag_rows = 1 THEN ', 1 row waits' WHEN l.lag_rows > 1 THEN ', ' || l.lag_rows || ' wait' ELSE '' END END AS label,
           l.last_error
    FROM node c
    JOIN node p ON p.code = c.parent
    CROSS JOIN (SELECT (SELECT code FROM cmblock.this_site) AS code) here
    LEFT JOIN link l ON (here.code = p.code AND l.neighbour = c.code) OR (here.code = c.code AND l.neighbour = p.code)
)
SELECT xmlelement(NAME section, xmlelement(NAME h2, 'The hierarchy'),
           xmlelement(NAME svg, xmlattributes((SELECT max(x) + 190 FROM node) AS width, (SELECT max(y) + 30 FROM node) AS height, 'img' AS role, 'The tree of sites and the state of links' AS "aria-label"),
               (SELECT xmlagg(xmlelement(NAME path, xmlattributes('edge ' || e.class AS class,
                                  format('M%s %sC%s %s %s %s %s %s', x1, y1, x1 + 85, y1, x2 - 85, y2, x2, y2) AS d),
                                  xmlelement(NAME title, concat_ws(': ', e.upper || ' – ' || e.lower, coalesce(e.label, 'not seen from here'), e.last_error))) ORDER BY e.class = 'bad') FROM edge e),
               (SELECT xmlagg(xmlelement(NAME text, xmlattributes('label ' || e.class AS class, e.x2 - 12 AS x, e.y2 - 9 AS y, 'end' AS "text-anchor"), e.label)) FROM edge e WHERE e.label IS NOT NULL),
               (SELECT xmlagg(xmlconcat(
                           xmlelement(NAME rect, xmlattributes(CASE WHEN n.code = (SELECT code FROM cmblock.this_site) THEN 'node own' ELSE 'node' END AS class,
                                      n.x AS x, n.y - 22 AS y, 170 AS width, 44 AS height, 9 AS rx)),
                           xmlelement(NAME text, xmlattributes('code' AS class, n.x + 14 AS x, n.y + 5 AS y), n.code),
                           xmlelement(NAME text, xmlattributes('soft' AS class, n.x + 60 AS x, n.y + 5 AS y), n.kind))) FROM node n)),
           xmlelement(NAME p, xmlattributes('legend' AS class),
                      concat_ws(' ', 'Links of this site are coloured by their state; dotted: links of other sites, whose state is not seen from here.',
                                (SELECT format('%s more sites are not drawn.', count(*)) FROM tree t WHERE NOT EXISTS (SELECT FROM node n WHERE n.code = t.code) HAVING count(*) > 0))))
WHERE EXISTS (SELECT FROM node);

-- Links.
\if :has_links
SELECT xmlelement(NAME section, xmlelement(NAME h2, 'Links'),
           xmlelement(NAME table,
               xmlelement(NAME tr, xmlelement(NAME th, 'neighbour'), xmlelement(NAME th, 'direction'), xmlelement(NAME th, 'state'),
                          xmlelement(NAME th, xmlattributes('n' AS class), 'rows waiting'), xmlelement(NAME th, xmlattributes('n' AS class), 'rows so far'),
                          xmlelement(NAME th, 'last success'), xmlelement(NAME th, 'last error')),
               xmlagg(xmlelement(NAME tr,
                          xmlelement(NAME td, xmlelement(NAME b, r.neighbour)),
                          xmlelement(NAME td, CASE r.flow WHEN 'send' THEN 'sends there' ELSE 'receives' END),
                          xmlelement(NAME td, xmlattributes('s ' || CASE WHEN r.state = 'failed' THEN 'bad' WHEN r.state = 'degraded' OR r.paused THEN 'warn' WHEN r.state = 'active' THEN 'good' ELSE 'none' END AS class),
                                     CASE WHEN r.paused THEN 'paused' ELSE coalesce(r.state::text, '–') END),
                          xmlelement(NAME td, xmlattributes('n' AS class), coalesce(to_char(r.lag_rows, 'FM999,999,999,990'), '–')),
                          xmlelement(NAME td, xmlattributes('n' AS class), coalesce(to_char(r.rows, 'FM999,999,999,990'), '–')),
                          xmlelement(NAME td, coalesce(r.last_success_at::timestamptz(0)::text, '–')),
                          xmlelement(NAME td, xmlattributes('w' AS class), coalesce(r.last_error, '–'))) ORDER BY r.place)))
FROM (SELECT *, row_number() OVER (ORDER BY (state = 'active') NULLS LAST, lag_rows DESC NULLS LAST, neighbour) AS place FROM cmblock.replication_status) r
WHERE r.place <= 60;
\endif

-- Freshness of revocation lists: how much is left of the time between this update and next update.
\if :has_crls
SELECT xmlelement(NAME section, xmlelement(NAME h2, 'Revocation lists'),
           xmlelement(NAME table,
               xmlelement(NAME tr, xmlelement(NAME th, 'CA'), xmlelement(NAME th, 'state'), xmlelement(NAME th, xmlattributes('n' AS class), 'number'),
                          xmlelement(NAME th, xmlattributes('n' AS class), 'entries'), xmlelement(NAME th, 'life left'), xmlelement(NAME th, 'valid until')),
               xmlagg(xmlelement(NAME tr,
                          xmlelement(NAME td, xmlattributes('w' AS class), xmlelement(NAME b, concat_ws(' ', c.authority, CASE c.kind WHEN 'delta' THEN '(delta)' END)),
                                     CASE WHEN c.url IS NOT NULL THEN xmlelement(NAME div, xmlattributes('url' AS class), c.url) END),
                          xmlelement(NAME td, xmlattributes('s ' || c.class AS class), CASE WHEN c.class = 'warn' AND c.state IN ('ok', 'due') THEN 'ends soon' ELSE c.state END),
                          xmlelement(NAME td, xmlattributes('n' AS class), coalesce(c.number::text, '–')),
                          xmlelement(NAME td, xmlattributes('n' AS class), coalesce(to_char(c.entries, 'FM999,999,999,990'), '–')),
                          xmlelement(NAME td, xmlelement(NAME svg, xmlattributes(200 AS width, 22 AS height),
                              xmlelement(NAME rect, xmlattributes('track' AS class, 5 AS y, 200 AS width, 12 AS height, 6 AS rx)),
                              xmlelement(NAME rect, xmlattributes('fill ' || c.class AS class, 5 AS y, greatest(coalesce(c.part, 0) * 200, 6)::integer AS width, 12 AS height, 6 AS rx)))),
                          xmlelement(NAME td, c.until, xmlelement(NAME div, xmlattributes('url' AS class), c.remark))) ORDER BY c.place)))
FROM (SELECT c.*,
             CASE WHEN c.state IN ('stale', 'missing') OR c.next_update < now() THEN 'bad'
                  WHEN c.state IN ('failing', 'rejected', 'held_back') OR p.part < 0.1 THEN 'warn'
                  WHEN c.state IN ('ok', 'due') THEN 'good'
                  ELSE 'none' END AS class,
             p.part,
             coalesce(c.next_update::timestamptz(0)::text, '–') AS until,
             CASE WHEN c.next_update IS NULL THEN '–'
                  WHEN c.next_update < now() THEN format('expired %s ago', p.span)
                  ELSE format('%s left', p.span) END AS remark,
             row_number() OVER (ORDER BY c.state IN ('ok', 'due'), c.next_update) AS place
      FROM cmblock.crl_status c
      CROSS JOIN LATERAL (
          SELECT least(greatest(extract(epoch FROM c.next_update - now()) / nullif(extract(epoch FROM c.next_update - c.this_update), 0), 0), 1) AS part,
                 (SELECT CASE WHEN m >= 2880 THEN m / 1440 || ' d ' || m % 1440 / 60 || ' h' WHEN m >= 60 THEN m / 60 || ' h ' || m % 60 || ' min' ELSE m || ' min' END
                  FROM (SELECT (abs(extract(epoch FROM c.next_update - now())) / 60)::bigint) x (m)) AS span) p) c
WHERE c.place <= 40;
\endif

-- Decisions by reason.
\if :has_statistics
SELECT xmlelement(NAME section, xmlelement(NAME h2, 'Decisions since ' || min(d.stats_reset)::timestamptz(0)),
           xmlelement(NAME table,
               xmlagg(xmlelement(NAME tr,
                          xmlelement(NAME td, d.reason),
                          xmlelement(NAME td, xmlattributes('n' AS class), to_char(d.decisions, 'FM999,999,999,990')),
                          xmlelement(NAME td, xmlelement(NAME svg, xmlattributes(400 AS width, 22 AS height),
                              xmlelement(NAME rect, xmlattributes('fill ' || CASE d.reason WHEN 'allowed' THEN 'good' ELSE 'plain' END AS class, 5 AS y,
                                         greatest(d.decisions * 400 / d.most, 4) AS width, 12 AS height, 6 AS rx))))) ORDER BY d.decisions DESC)))
FROM (SELECT *, max(decisions) OVER () AS most FROM cmblock.decision_statistics WHERE decisions > 0) d
HAVING count(*) > 0;
\endif

-- Whom that concerns, for those who may know.
\if :shows_clients
SELECT xmlelement(NAME section, xmlelement(NAME h2, 'Blocked last'),
           xmlelement(NAME table,
               xmlelement(NAME tr, xmlelement(NAME th, 'client'), xmlelement(NAME th, 'site'), xmlelement(NAME th, 'when'), xmlelement(NAME th, 'by'), xmlelement(NAME th, 'reason'), xmlelement(NAME th, 'ticket')),
               xmlagg(xmlelement(NAME tr,
                          xmlelement(NAME td, xmlattributes('w' AS class), xmlelement(NAME b, b.name), xmlelement(NAME div, xmlattributes('url' AS class), b.client)),
                          xmlelement(NAME td, b.assigned_site),
                          xmlelement(NAME td, b.blocked_at::timestamptz(0)::text),
                          xmlelement(NAME td, coalesce(b.blocked_by, '–')),
                          xmlelement(NAME td, xmlattributes('w' AS class), coalesce(b.reason, '–')),
                          xmlelement(NAME td, coalesce(b.ticket, '–'))) ORDER BY b.blocked_at DESC)))
FROM (SELECT * FROM cmblock.blocked_client ORDER BY blocked_at DESC LIMIT 10) b
HAVING count(*) > 0;
\endif

SELECT xmlelement(NAME footer, format('cmblock %s on PostgreSQL %s', cmblock.version(), current_setting('server_version')))::text || E'\n</main>\n</body>\n</html>';
COMMIT;
