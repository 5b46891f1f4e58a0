select organization_id from public.organization_members
where user_id = %(user_id)s
order by created_at
limit 1;
