insert into auth.users (
  instance_id, id, aud, role, email, encrypted_password, email_confirmed_at,
  confirmation_token, recovery_token, email_change_token_new, email_change,
  raw_app_meta_data, raw_user_meta_data, created_at, updated_at
)
values (
  '00000000-0000-0000-0000-000000000000',
  %(id)s,
  'authenticated',
  'authenticated',
  %(email)s::text,
  extensions.crypt(%(password)s::text, extensions.gen_salt('bf')),
  now(),
  '',
  '',
  '',
  '',
  '{"provider": "email", "providers": ["email"]}',
  jsonb_build_object('email', %(email)s::text, 'name', %(name)s::text),
  now(),
  now()
)
on conflict (id) do nothing;
