-- Tables: what a published table looks like, and to whom.
--
-- Statements that depend on a table's columns are written here, by Postgres itself, and
-- handed to the gateway as text: it prepares and runs them, and never quotes a name.

-- name: describe_table
-- $1 table oid, $2 streamed columns, $3 roles, $4-$7 filters: column, operator, value, negated.
-- Null where the table is gone. `statement` turns streamed rows (an array a column, all text)
-- into their number, their JSON and the outcome of each filter; `visible` finds which keys
-- (an array a key column) the current role may see.
with described as (
  select
    a.attnum,
    a.attname,
    t.typname,
    a.atttypid in (
      'float4'::regtype, 'float8'::regtype, 'numeric'::regtype
    ) as may_be_nan,
    a.atttypid = 'bytea'::regtype as is_bytea,
    -- without its modifier: the real server loses lengths as well
    format_type(a.atttypid, null) as bare_type,
    format_type(a.atttypid, a.atttypmod) as full_type,
    array_position(k.conkey, a.attnum) as key_position,
    array_position($2::text[], a.attname::text) as position,
    pg_get_expr(d.adbin, d.adrelid) as expression,
    a.attgenerated <> '' as is_generated
  from pg_attribute as a
  inner join pg_type as t on t.oid = a.atttypid
  left join pg_constraint as k on k.conrelid = a.attrelid and k.contype = 'p'
  left join pg_attrdef as d
    on d.adrelid = a.attrelid and d.adnum = a.attnum and a.attgenerated <> ''
  where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
),
shown as (
  select * from described where position is not null or is_generated
),
filters as (
  select
    f.n,
    case f.operator
      when 'is' then format(
        'row_.%I is %s %s', f.col, case when f.negated then 'not' end, f.value
      )
      when 'isdistinct' then format(
        'row_.%I is %s distinct from %L::%s',
        f.col, case when f.negated then 'not' end, f.value, c.bare_type
      )
      when 'in' then format(
        '%s (row_.%I = any (%L::%s[]))',
        case when f.negated then 'not' end, f.col, f.value, c.bare_type
      )
      else format(
        '%s (row_.%I %s (%L::%s))',
        case when f.negated then 'not' end,
        f.col,
        case f.operator
          when 'eq' then '=' when 'neq' then '<>' when 'lt' then '<' when 'lte' then '<='
          when 'gt' then '>' when 'gte' then '>=' when 'like' then '~~'
          when 'ilike' then '~~*' when 'match' then '~' when 'imatch' then '~*'
        end,
        f.value,
        c.bare_type
      )
    end as expression
  from unnest($4::text[], $5::text[], $6::text[], $7::boolean[])
    with ordinality as f (col, operator, value, negated, n)
  left join shown as c on c.attname = f.col
)
select
  r.relrowsecurity as has_rls,
  (
    select json_agg(json_build_array(attname, typname, key_position, is_generated) order by attnum)
    from described
  )::text as columns,
  (
    select json_object_agg(
      g.rolname,
      (
        select coalesce(json_agg(attname), '[]'::json) from described
        where has_column_privilege(g.oid, r.oid, attnum, 'select')
      )
    )
    from pg_roles as g
    where g.rolname = any($3::text[])
  )::text as readable,
  format(
    'select row_."row number"::int as n,
       (select to_jsonb(json_) from (select %s) as json_)::text as image,
       array[%s]::boolean[] as passed
     from (
       select typed_.* %s
       from (select v_."row number" %s from unnest(%s) with ordinality as v_ (%s)) as typed_
     ) as row_',
    (
      select string_agg(
        case
          when is_bytea then format('encode(row_.%1$I, ''hex'') as %1$I', attname)
          when may_be_nan then format(
            'case when row_.%1$I in (''NaN'', ''Infinity'', ''-Infinity'') then null else row_.%1$I end as %1$I',
            attname
          )
          else format('row_.%I', attname)
        end,
        ', ' order by attnum
      )
      from shown
    ),
    (select string_agg(coalesce(expression, 'false'), ', ' order by n) from filters),
    (
      select string_agg(format(', (%s)::%s as %I', expression, bare_type, attname), '' order by attnum)
      from shown
      where position is null
    ),
    (
      select string_agg(format(', v_."%s"::%s as %I', position, bare_type, attname), '' order by position)
      from shown
      where position is not null
    ),
    (
      select string_agg(format('$%s::text[]', n), ', ' order by n)
      from generate_subscripts($2::text[], 1) as n
    ),
    (
      select string_agg(format('"%s"', n), ', ' order by n) || ', "row number"'
      from generate_subscripts($2::text[], 1) as n
    )
  ) as statement,
  (
    select format(
      'select v_."row number"::int as n from unnest(%s) with ordinality as v_ (%s)
       where exists (select from %I.%I as table_ where %s)',
      string_agg(format('$%s::text[]', key_position), ', ' order by key_position),
      string_agg(format('"%s"', key_position), ', ' order by key_position) || ', "row number"',
      s.nspname,
      r.relname,
      string_agg(
        format('table_.%I = v_."%s"::%s', attname, key_position, full_type),
        ' and ' order by key_position
      )
    )
    from described
    where key_position is not null
  ) as visible
from pg_class as r
inner join pg_namespace as s on s.oid = r.relnamespace
where r.oid = $1

-- name: published_tables
-- $1 publication, $2 schema, $3 table; "*" is any, and as on the real server a name is a
-- pattern of LIKE.
select format('%I.%I', schemaname, tablename)::regclass::oid as oid
from pg_publication_tables
where
  pubname = $1
  and schemaname like case $2 when '*' then '%' else $2 end escape ''
  and tablename like case $3 when '*' then '%' else $3 end escape ''

-- name: role_exists
select exists (select from pg_roles where rolname = $1)

-- name: filter_check
-- $1 table oid, $2 column, $3 operator, $4 value: a statement that fails where the filter
-- would. Null where there is no such column.
select
  case $3
    when 'is' then format('select null::%s is %s', format_type(atttypid, null), $4::text)
    when 'in' then format(
      'select cardinality(%L::%s[]), null::%2$s = any (%1$L::%2$s[])',
      $4::text, format_type(atttypid, null)
    )
    when 'like' then format('select null::%s ~~ %L', format_type(atttypid, null), $4::text)
    when 'ilike' then format('select null::%s ~~* %L', format_type(atttypid, null), $4::text)
    when 'match' then format(
      'select null::%s ~ %L, %L ~ %2$L', format_type(atttypid, null), $4::text, ''
    )
    when 'imatch' then format(
      'select null::%s ~* %L, %L ~ %2$L', format_type(atttypid, null), $4::text, ''
    )
    else format('select %L::%s', $4::text, format_type(atttypid, null))
  end
from pg_attribute
where attrelid = $1 and attname = $2 and attnum > 0 and not attisdropped

-- name: readable_columns
-- $1 table oid, $2 role
select coalesce(array_agg(a.attname::text order by a.attnum), '{}')
from pg_attribute as a
where
  a.attrelid = $1
  and a.attnum > 0
  and not a.attisdropped
  and has_column_privilege($2::name, a.attrelid, a.attnum, 'select')
