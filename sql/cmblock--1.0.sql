-- cmblock 1.0: the install script. Sections follow the order of docs/architecture.md.
\echo Use "CREATE EXTENSION cmblock" to load this file. \quit

-- ---------------------------------------------------------------------------------------------
-- The schema. CREATE SCHEMA fails if it is there already, so nobody can prepare one with traps in it.
-- ---------------------------------------------------------------------------------------------

CREATE SCHEMA cmblock;
COMMENT ON SCHEMA cmblock IS 'cmblock: refuse clients that are no longer trusted';

-- ---------------------------------------------------------------------------------------------
-- Types
-- ---------------------------------------------------------------------------------------------

