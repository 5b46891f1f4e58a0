-- What plpgsql_check has to say of every function of ours. A trigger function is read as each
-- of its triggers would run it.
with checked as (
  select function.oid::regprocedure::text as function, told.lineno, told.level, told.message
  from pg_catalog.pg_proc as function
  join pg_catalog.pg_namespace as namespace on namespace.oid = function.pronamespace
  join pg_catalog.pg_language as language on language.oid = function.prolang
  left join pg_catalog.pg_trigger as trigger on trigger.tgfoid = function.oid
  cross join lateral extensions.plpgsql_check_function_tb(
    funcoid => function.oid,
    relid => coalesce(trigger.tgrelid, 0),
    oldtable => trigger.tgoldtable,
    newtable => trigger.tgnewtable,
    fatal_errors => false,
    extra_warnings => true,
    performance_warnings => false,
    security_warnings => true
  ) as told
  where language.lanname = 'plpgsql'
    and namespace.nspname in ('sync', 'public')
    and (function.prorettype <> 'pg_catalog.trigger'::regtype or trigger.oid is not null)
)

select distinct function, lineno, level, message
from checked
order by function, lineno;
