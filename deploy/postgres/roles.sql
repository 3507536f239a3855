-- Run once, by the superuser, when PostgreSQL makes its data folder: GoQueue's role is no superuser, and the
-- superuser has no password, so nobody becomes it over the network.
\getenv password POSTGRES_PASSWORD
CREATE ROLE goqueue LOGIN PASSWORD :'password';
GRANT pg_monitor TO goqueue;
CREATE DATABASE goqueue OWNER goqueue;
REVOKE CONNECT ON DATABASE goqueue FROM PUBLIC;
ALTER ROLE postgres PASSWORD NULL;
