-- The surface ends here: whatever laid it, `postgres` is no superuser from now on.

alter role postgres nosuperuser login createdb createrole replication bypassrls;
