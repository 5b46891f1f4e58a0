-- What @supabase/lite finds in the database, and how far it reaches there.
--
-- At its first request it grants everything in every schema to anon, authenticated and
-- service_role, and would put functions of its own in the place of auth.uid(). As a role that
-- owns nothing and may grant nothing it can't: users' rights here stay those of a hosted
-- project. So it can't make the tables of Auth either; they are made for it, as a hosted
-- project has them, as far as it uses them.

do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'local_stack_rest') then
    create role local_stack_rest login noinherit bypassrls password 'postgres';
  end if;
end;
$$;
grant anon, authenticated, service_role to local_stack_rest;
-- It looks up what tables there are. Whoever may read a table is only warned that a grant of
-- it granted nothing; whoever may not gets an error.
grant pg_read_all_data to local_stack_rest with inherit true;

set role supabase_auth_admin;

create table if not exists auth.sessions (
  id uuid primary key,
  user_id uuid not null references auth.users (id) on delete cascade,
  not_after timestamptz,
  refreshed_at timestamp,
  user_agent text,
  ip inet,
  tag text,
  refresh_token_hmac_key text,
  refresh_token_counter bigint,
  scopes text,
  aal text,
  factor_id uuid,
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);
create index if not exists sessions_user_id_idx on auth.sessions (user_id);

create table if not exists auth.refresh_tokens (
  id text primary key,
  token varchar(255) not null,
  user_id uuid not null,
  session_id uuid references auth.sessions (id) on delete cascade,
  revoked boolean default false,
  parent varchar(255),
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);
create index if not exists refresh_tokens_token_idx on auth.refresh_tokens (token);
create index if not exists refresh_tokens_session_id_revoked_idx
on auth.refresh_tokens (session_id, revoked);

create table if not exists auth.identities (
  id uuid primary key,
  provider text not null,
  provider_id text not null,
  user_id uuid not null references auth.users (id) on delete cascade,
  identity_data jsonb not null default '{}',
  email varchar(255) generated always as (lower(identity_data ->> 'email')) stored,
  last_sign_in_at timestamptz,
  created_at timestamptz default now(),
  updated_at timestamptz default now(),
  unique (provider, provider_id)
);
create index if not exists identities_user_id_idx on auth.identities (user_id);

create table if not exists auth.flow_state (
  id uuid primary key,
  user_id uuid,
  auth_code text,
  authentication_method text not null,
  code_challenge_method text,
  code_challenge text,
  provider_type text not null,
  provider_access_token text,
  provider_refresh_token text,
  auth_code_issued_at timestamptz,
  invite_token text,
  referrer text,
  oauth_client_state_id uuid,
  linking_target_id uuid,
  email_optional boolean not null default false,
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);

create table if not exists auth.audit_log_entries (
  id uuid primary key,
  payload json,
  created_at timestamptz default now(),
  ip_address varchar(64) default ''
);

grant usage on schema auth to local_stack_rest;
grant select, insert, update, delete on
auth.users, auth.sessions, auth.refresh_tokens, auth.identities, auth.flow_state,
auth.audit_log_entries
to local_stack_rest;

reset role;
