-- The surface: a stand-in for the vault. IT DOES NOT ENCRYPT: whoever reads the table, or
-- a backup of it, has the secrets. It is there so that SQL written for the vault runs.

create table vault.secrets (
  id uuid not null default gen_random_uuid() primary key,
  name text,
  description text not null default '',
  secret text not null,
  key_id uuid,
  nonce bytea,
  created_at timestamptz not null default current_timestamp,
  updated_at timestamptz not null default current_timestamp
);
comment on table vault.secrets is 'NOT ENCRYPTED: a local stand-in, base64 only.';
create unique index secrets_name_idx on vault.secrets (name) where name is not null;

create view vault.decrypted_secrets as
select
  id,
  name,
  description,
  secret,
  convert_from(decode(secret, 'base64'), 'utf8') as decrypted_secret,
  key_id,
  nonce,
  created_at,
  updated_at
from vault.secrets;
comment on view vault.decrypted_secrets is 'NOT ENCRYPTED in the first place: a stand-in.';

create function vault.create_secret(
  new_secret text,
  new_name text default null,
  new_description text default '',
  new_key_id uuid default null
) returns uuid
language plpgsql
security definer -- as on the hosted platform: nobody writes the table
set search_path = ''
as $$
declare
  v_id uuid;
begin
  raise warning 'This local vault does not encrypt: keep no real secret in it.';
  insert into vault.secrets (secret, name, description, key_id)
  values (
    pg_catalog.encode(pg_catalog.convert_to(new_secret, 'utf8'), 'base64'),
    new_name,
    new_description,
    new_key_id
  )
  returning id into v_id;
  return v_id;
end;
$$;
comment on function vault.create_secret(text, text, text, uuid) is
'NOT ENCRYPTED: stores a secret in the local stand-in.';

create function vault.update_secret(
  secret_id uuid,
  new_secret text default null,
  new_name text default null,
  new_description text default null,
  new_key_id uuid default null
) returns void
language plpgsql
security definer -- as on the hosted platform: nobody writes the table
set search_path = ''
as $$
begin
  raise warning 'This local vault does not encrypt: keep no real secret in it.';
  update vault.secrets as kept
  set
    secret = coalesce(
      pg_catalog.encode(pg_catalog.convert_to(new_secret, 'utf8'), 'base64'), kept.secret
    ),
    name = coalesce(new_name, kept.name),
    description = coalesce(new_description, kept.description),
    key_id = coalesce(new_key_id, kept.key_id),
    updated_at = pg_catalog.now()
  where kept.id = secret_id;
end;
$$;
comment on function vault.update_secret(uuid, text, text, text, uuid) is
'NOT ENCRYPTED: changes a secret in the local stand-in.';

revoke all on function vault.create_secret(text, text, text, uuid) from public;
revoke all on function vault.update_secret(uuid, text, text, text, uuid) from public;
grant execute on function vault.create_secret(text, text, text, uuid)
to postgres with grant option;
grant execute on function vault.update_secret(uuid, text, text, text, uuid)
to postgres with grant option;
grant select, delete on vault.secrets, vault.decrypted_secrets to postgres with grant option;
