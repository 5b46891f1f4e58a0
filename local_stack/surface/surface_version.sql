select pg_catalog.split_part(
  pg_catalog.obj_description(
    pg_catalog.to_regnamespace('local_stack')::pg_catalog.oid, 'pg_namespace'
  ),
  'version ',
  2
);
